package auditstore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// TestNoWriteFailsWhenLeadersAreKilled kills whichever server leads the stream with -9, round after round, under 16 writers, of
// which some are connected to that server, and each call with a deadline of 10 seconds. A follower of nats-server waits 4 to 9
// seconds, at random, before it stands for election, and one that has refused a candidate which lags stands within 0.8 more. So
// the sooner of two is rarely late, but a machine that is slow enough can be.
func TestNoWriteFailsWhenLeadersAreKilled(t *testing.T) {
	servers, err := testenv.StartNATSCluster(t.Context(), t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = servers.Stop() })
	k := &killing{t: t, servers: servers}
	k.stream = k.create()

	const writers, kills = 16, 2
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() { k.write(ctx, w) })
	}
	for range kills {
		k.await(200)
		leader := k.leader()
		if err := leader.Kill(); err != nil {
			t.Fatal(err)
		}
		k.await(200) // while it is away
		if err := leader.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	k.await(200)
	stop()
	group.Wait()
	k.compare()
}

// writeDeadline is what a call has while leaders are killed.
const writeDeadline = 10 * time.Second

type killing struct {
	t       *testing.T
	servers testenv.NATSServers
	stream  jetstream.Stream
	written atomic.Int64
	ids     sync.Map
	slowest longest
}

// longest is the longest time that was noted.
type longest struct{ atomic.Int64 }

func (l *longest) note(took time.Duration) {
	for last := l.Load(); int64(took) > last && !l.CompareAndSwap(last, int64(took)); last = l.Load() {
	}
}

func (k *killing) connect(servers string) jetstream.JetStream {
	nc, err := nats.Connect(servers, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		k.t.Fatal(err)
	}
	return js
}

func (k *killing) create() (stream jetstream.Stream) {
	js := k.connect(k.servers.URL())
	k.until("the stream to be made", func(ctx context.Context) (done bool) {
		var err error
		stream, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: "AUDIT", Subjects: []string{"audit.>"}, AllowDirect: true, Replicas: 3,
		})
		return err == nil
	})
	return stream
}

func (k *killing) until(what string, done func(context.Context) bool) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), time.Minute)
	defer cancel()
	for !done(ctx) {
		select {
		case <-ctx.Done():
			k.t.Fatalf("waited a minute for %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// write writes until ctx ends. Each writer prefers another server.
func (k *killing) write(ctx context.Context, writer int) {
	n := len(k.servers)
	nearest := ""
	for i := range n {
		nearest += k.servers[(writer+i)%n].URL() + ","
	}
	store, err := auditstore.New(ctx, k.connect(nearest[:len(nearest)-1]), auditstore.Config{Stream: "AUDIT", Subject: "audit"})
	if err != nil {
		k.t.Errorf("writer %d: %v", writer, err)
		return
	}
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprintf("w%d-%d", writer, i)
		call, cancel := context.WithTimeout(k.t.Context(), writeDeadline)
		began := time.Now()
		err := store.Write(call, auditstore.Entry{ID: id, User: "ada"})
		cancel()
		k.slowest.note(time.Since(began))
		if err != nil {
			k.t.Errorf("a write failed: %v", err)
		}
		k.ids.Store(id, true)
		k.written.Add(1)
	}
}

// await waits for so many writes more.
func (k *killing) await(n int64) {
	k.t.Helper()
	goal := k.written.Load() + n
	k.until(fmt.Sprintf("%d writes", n), func(context.Context) bool { return k.written.Load() >= goal })
}

// leader waits until the stream has all its replicas, so that killing one leaves a majority.
func (k *killing) leader() (leader *testenv.NATSServer) {
	k.t.Helper()
	k.until("a leader with two replicas", func(ctx context.Context) bool {
		info, err := k.stream.Info(ctx)
		if err != nil || info.Cluster == nil || len(info.Cluster.Replicas) != len(k.servers)-1 {
			return false
		}
		for _, replica := range info.Cluster.Replicas {
			if replica.Offline || replica.Active > 2*time.Second || replica.Lag > 1000 {
				return false
			}
		}
		for _, server := range k.servers {
			if info.Cluster.Leader == server.Name() {
				leader = server
			}
		}
		return leader != nil
	})
	return leader
}

// compare reads everything back: each entry is there, once.
func (k *killing) compare() {
	store, err := auditstore.New(k.t.Context(), k.connect(k.servers.URL()), auditstore.Config{Stream: "AUDIT", Subject: "audit"})
	if err != nil {
		k.t.Fatal(err)
	}
	found := map[string]int{}
	for entry, err := range store.Query(k.t.Context(), auditstore.Query{Order: auditstore.AsStored}) {
		if err != nil {
			k.t.Fatal(err)
		}
		found[entry.ID]++
	}
	written := 0
	k.ids.Range(func(id, _ any) bool {
		if written++; found[id.(string)] != 1 {
			k.t.Errorf("entry %s is there %d times", id, found[id.(string)])
		}
		return true
	})
	if len(found) != written {
		k.t.Errorf("the stream holds %d entries, want %d", len(found), written)
	}
	k.t.Logf("%d entries written; the slowest write took %s", written, time.Duration(k.slowest.Load()).Round(time.Millisecond))
}
