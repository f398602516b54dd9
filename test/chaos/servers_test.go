package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// bucketName is the bucket that every spec copies. A copy does not change it, so it is filled once for all.
const bucketName = "audit-log"

// servers are one nats-server or a cluster, with a filled bucket that is on all of them.
type servers struct {
	all testenv.NATSServers
	// gate is what the operators connect to.
	gate *testenv.Gate
	// live are the bucket's entries, in the order in which they are copied.
	live []entry
	// down are those that were killed and not started again.
	down []*testenv.NATSServer
	js   jetstream.JetStream
}

// startServers starts n of them for the specs of a container.
func startServers(ctx context.Context, n int) *servers {
	GinkgoHelper()
	all, err := testenv.StartNATSCluster(ctx, filepath.Join(env.dir, fmt.Sprintf("cluster-%d", n)), n)
	Expect(err).NotTo(HaveOccurred())
	s := &servers{all: all}
	DeferCleanup(func() error {
		var errs []error
		for _, server := range s.all {
			errs = append(errs, server.Kill())
		}
		return errors.Join(append(errs, s.all.Stop())...)
	})
	s.gate, err = testenv.StartGate(all...)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(s.gate.Close)
	nc, err := nats.Connect(s.all.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(poll))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(nc.Close)
	s.js, err = jetstream.New(nc)
	Expect(err).NotTo(HaveOccurred())

	began := time.Now()
	Expect(s.fillBucket(ctx)).To(Succeed())
	s.live, err = liveEntries(ctx, s.js, bucketName)
	Expect(err).NotTo(HaveOccurred())
	Expect(s.live).To(HaveLen(env.entries))
	GinkgoWriter.Printf("Filled the bucket in %s\n", time.Since(began).Round(time.Millisecond))
	return s
}

// fillBucket leaves env.entries live entries in it, in two rounds. After each of them, keys are deleted, purged and
// overwritten, and some of the deleted ones are written again: there are holes and markers in the middle and at the end.
func (s *servers) fillBucket(ctx context.Context) error {
	const rounds = 2
	random := rand.New(rand.NewPCG(env.seed, 0))
	var live []string
	values := map[string][]byte{}
	for round := range rounds {
		// Each round loses this many keys for good.
		lost := env.entries / 100
		bucket := testenv.LegacyBucket{
			Name: bucketName, Entries: env.entries/rounds + lost, Seed: env.seed + uint64(round), MaxBytes: 1 << 30, Replicas: len(s.all),
		}
		if round == 0 {
			bucket.Entries += env.entries % rounds
		}
		if err := testenv.FillLegacyBucket(ctx, s.js, bucket); err != nil {
			return err
		}
		for key, value := range bucket.All() {
			live = append(live, key)
			values[key] = value
		}
		random.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
		if err := s.churn(ctx, live[:3*lost], values); err != nil {
			return err
		}
		live = live[lost:]
	}
	return nil
}

// churn overwrites keys, deletes or purges them, and writes them again. The first third is gone afterwards.
func (s *servers) churn(ctx context.Context, keys []string, values map[string][]byte) error {
	kv, err := s.js.KeyValue(ctx, bucketName)
	if err != nil {
		return err
	}
	third := len(keys) / 3
	remove := func(i int, key string) error {
		if i%2 == 0 {
			return kv.Delete(ctx, key)
		}
		return kv.Purge(ctx, key)
	}
	for _, i := range rand.New(rand.NewPCG(env.seed, 1)).Perm(len(keys)) {
		key := keys[i]
		var err error
		switch {
		case i < third:
			err = remove(i, key)
		case i < 2*third:
			err = s.overwrite(ctx, kv, key, values[key])
		default:
			if err = remove(i, key); err == nil {
				_, err = kv.Put(ctx, key, values[key])
			}
		}
		if err != nil {
			return fmt.Errorf("changing key %s: %w", key, err)
		}
	}
	return nil
}

// overwrite writes the entry in other bytes, with white space that a copy has to keep.
func (s *servers) overwrite(ctx context.Context, kv jetstream.KeyValue, key string, value []byte) error {
	_, err := kv.Put(ctx, key, slices.Concat([]byte(" "), value, []byte("\n")))
	return err
}

// kill ends a server with SIGKILL.
func (s *servers) kill(server *testenv.NATSServer) {
	GinkgoHelper()
	Expect(server.Kill()).To(Succeed())
	s.down = append(s.down, server)
}

// restore starts the servers again that were killed.
func (s *servers) restore(ctx context.Context) {
	GinkgoHelper()
	down := s.down
	s.down = nil
	for _, server := range down {
		Expect(server.Restart(ctx)).To(Succeed())
	}
}

// leader is the server that leads a stream.
func (s *servers) leader(ctx context.Context, stream string) (*testenv.NATSServer, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	live, err := s.js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	for _, server := range s.all {
		if cluster := live.CachedInfo().Cluster; cluster != nil && cluster.Leader == server.Name() {
			return server, nil
		}
	}
	return nil, fmt.Errorf("stream %s has no leader", stream)
}

// inStep is nil once every replica of a stream is as far as its leader.
func (s *servers) inStep(stream string) func(context.Context) error {
	return func(ctx context.Context) error {
		if len(s.all) == 1 {
			return nil
		}
		live, err := s.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		cluster := live.CachedInfo().Cluster
		if cluster == nil || cluster.Leader == "" || len(cluster.Replicas) != len(s.all)-1 {
			return fmt.Errorf("stream %s is not on all servers", stream)
		}
		for _, replica := range cluster.Replicas {
			if !replica.Current || replica.Lag > 0 {
				return fmt.Errorf("stream %s on %s lags by %d", stream, replica.Name, replica.Lag)
			}
		}
		return nil
	}
}
