package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

var _ = Describe("Redirecting a bucket under 16 writers that nobody redeploys", Label("migration", "redirect"), func() {
	redirects := func(ctx SpecContext, replicas int32) {
		ns := newNamespace(ctx)
		bucket := bucketOf(ns)
		fill(ctx, testenv.LegacyBucket{Name: bucket, Entries: 5_000, Replicas: int(replicas)})
		old := oneKeyOf(ctx, bucket)
		writing := startLegacyWriters(ctx, bucket)

		s := stream(ctx, ns, "redirected", afterMigration(bucket, v1alpha1.AfterMigrationRedirect),
			func(s *v1alpha1.AuditStream) { s.Spec.Replicas = replicas })
		Eventually(now(s), withinAMinute).WithContext(ctx).Should(SatisfyAll(beReady(), haveArrivedAt(v1alpha1.MigrationRedirected)))
		writing.afterwards(ctx, 1_000)
		writing.stop()
		writing.expectAllIn(ctx, s, 5_000)

		kv, err := env.js.KeyValue(ctx, bucket)
		Expect(err).NotTo(HaveOccurred())
		_, err = kv.Get(ctx, old)
		Expect(err).NotTo(HaveOccurred())
		Eventually(eventsOf(s), soon).WithContext(ctx).Should(ContainElement(HavePrefix("Normal " + v1alpha1.ReasonBucketRedirected)))
		events, err := eventsOf(s)(ctx)
		Expect(err).NotTo(HaveOccurred())
		for _, event := range events {
			if strings.Contains(event, v1alpha1.ReasonBucketRedirected) {
				AddReportEntry("Redirected", event)
			}
		}
		AddReportEntry("Puts", fmt.Sprintf("%d acknowledged, %d failed, the slowest took %s",
			writing.acknowledged(), writing.failed.Load(), writing.slowest()))
	}

	It("loses and doubles nothing that was acknowledged, and keeps the bucket readable", func(ctx SpecContext) {
		redirects(ctx, 1)
	}, SpecTimeout(journeyTimeout))

	It("does the same with three replicas of bucket and stream", Label("cluster"), func(ctx SpecContext) {
		useCluster(ctx)
		redirects(ctx, 3)
	}, SpecTimeout(journeyTimeout))

	It("is finished by the next operator when it is killed between the fence and the opening", Label("restart"), func(ctx SpecContext) {
		ns := newNamespace(ctx)
		bucket := bucketOf(ns)
		fill(ctx, testenv.LegacyBucket{Name: bucket, Entries: 1_000})
		writing := startLegacyWriters(ctx, bucket)
		s := stream(ctx, ns, "killed", afterMigration(bucket, v1alpha1.AfterMigrationRetain))
		Eventually(now(s), withinAMinute).WithContext(ctx).Should(beMigrated())

		const rounds = 3
		for range rounds {
			edit(ctx, s, only(afterMigration(bucket, v1alpha1.AfterMigrationRedirect)))
			Eventually(now(s), withinAMinute).WithContext(ctx).Should(SatisfyAll(beReady(), haveArrivedAt(v1alpha1.MigrationRedirected)))
			edit(ctx, s, only(afterMigration(bucket, v1alpha1.AfterMigrationRetain)))
			Eventually(now(s), withinAMinute).WithContext(ctx).Should(SatisfyAll(beReady(), haveArrivedAt(v1alpha1.MigrationComplete)))
		}
		killWhileFenced(ctx, s, bucket)
		startOperator(ctx)
		Eventually(now(s), withinAMinute).WithContext(ctx).Should(SatisfyAll(beReady(), haveArrivedAt(v1alpha1.MigrationRedirected)))
		writing.afterwards(ctx, 1_000)
		writing.stop()
		writing.expectAllIn(ctx, s, 1_000)
	}, SpecTimeout(journeyTimeout))
})

// useCluster has the rest of the journey go on with a cluster of three servers and an operator that is connected to it.
func useCluster(ctx context.Context) {
	GinkgoHelper()
	stopOperator(ctx)
	servers, err := testenv.StartNATSCluster(ctx, filepath.Join(env.dir, "cluster"), 3)
	Expect(err).NotTo(HaveOccurred())
	single, singleJS := env.nats, env.js
	DeferCleanup(func(ctx SpecContext) {
		stopOperator(ctx)
		env.nats, env.js = single, singleJS
		Expect(servers.Stop()).To(Succeed())
	})
	nc, err := nats.Connect(servers[1].URL(), nats.MaxReconnects(-1), nats.ReconnectWait(poll))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(nc.Close)
	env.nats = servers[0]
	env.js, err = jetstream.New(nc)
	Expect(err).NotTo(HaveOccurred())
	startOperator(ctx)
	Eventually(env.operator.Ready, withinAMinute).WithContext(ctx).Should(Succeed())
}

func afterMigration(bucket string, what v1alpha1.AfterMigration) change {
	return func(s *v1alpha1.AuditStream) {
		s.Spec.MigrateFrom = append(s.Spec.MigrateFrom, v1alpha1.MigrationSource{Bucket: bucket, AfterMigration: what})
	}
}

// only has a change of spec.migrateFrom replace what was there.
func only(c change) change {
	return func(s *v1alpha1.AuditStream) {
		s.Spec.MigrateFrom = nil
		c(s)
	}
}

func haveArrivedAt(phase v1alpha1.MigrationPhase) types.GomegaMatcher {
	return HaveField("Status.Migration", ConsistOf(HaveField("Phase", phase)))
}

func oneKeyOf(ctx context.Context, bucket string) string {
	GinkgoHelper()
	kv, err := env.js.KeyValue(ctx, bucket)
	Expect(err).NotTo(HaveOccurred())
	keys, err := kv.ListKeys(ctx)
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = keys.Stop() }()
	return <-keys.Keys()
}

// killWhileFenced has the bucket redirected, holds back what would open the audit stream, and kills the operator.
func killWhileFenced(ctx context.Context, s *v1alpha1.AuditStream, bucket string) {
	GinkgoHelper()
	stopOperator(ctx)
	gate := startGate()
	gate.HoldBack("$JS.API.STREAM.UPDATE.KV_"+bucket+" ", "$JS.API.STREAM.UPDATE."+s.Spec.Stream+" ")
	startOperator(ctx, "--nats-url="+gate.URL())
	edit(ctx, s, only(afterMigration(bucket, v1alpha1.AfterMigrationRedirect)))
	Eventually(gate.Held(), withinAMinute).WithContext(ctx).Should(BeClosed(), "the bucket is not fenced")
	gate.Open()
	Eventually(gate.Held(), withinAMinute).WithContext(ctx).Should(BeClosed(), "the stream is not opened")
	Expect(env.operator.Kill()).To(Succeed())
	live, err := onServer(s)(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(live.Config.Subjects).To(HaveLen(1), "the stream is not open")
	backing, err := env.js.Stream(ctx, "KV_"+bucket)
	Expect(err).NotTo(HaveOccurred())
	Expect(backing.CachedInfo().Config.Subjects).NotTo(ContainElement(HavePrefix("$KV.")), "the bucket is fenced")
}

const legacyWriterCount = 16

// legacyWriters put entries into a bucket, each under a key of its own, and know which were acknowledged.
type legacyWriters struct {
	end    context.CancelFunc
	group  sync.WaitGroup
	failed atomic.Int64

	mu      sync.Mutex
	acked   map[string][]byte
	longest time.Duration
}

func startLegacyWriters(ctx context.Context, bucket string) *legacyWriters {
	GinkgoHelper()
	kv, err := env.js.KeyValue(ctx, bucket)
	Expect(err).NotTo(HaveOccurred())
	ctx, end := context.WithCancel(ctx)
	w := &legacyWriters{end: end, acked: map[string][]byte{}}
	for range legacyWriterCount {
		w.group.Go(func() {
			for ctx.Err() == nil {
				w.put(ctx, kv)
			}
		})
	}
	DeferCleanup(w.stop)
	return w
}

func (w *legacyWriters) put(ctx context.Context, kv jetstream.KeyValue) {
	id := rand.Text()
	value, err := json.Marshal(map[string]any{"id": id, "timestamp": time.Now(), "user": "alice"})
	if err != nil {
		panic(err)
	}
	began := time.Now()
	if _, err := kv.Put(ctx, id, value); err != nil {
		if ctx.Err() == nil {
			w.failed.Add(1)
			GinkgoWriter.Printf("A put failed after %s: %v\n", time.Since(began), err)
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked[id] = value
	w.longest = max(w.longest, time.Since(began))
}

// stop ends the writers; what was under way then is not known to be stored.
func (w *legacyWriters) stop() {
	w.end()
	w.group.Wait()
}

func (w *legacyWriters) acknowledged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

func (w *legacyWriters) slowest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.longest
}

// afterwards waits until so many more puts have been acknowledged.
func (w *legacyWriters) afterwards(ctx context.Context, n int) {
	GinkgoHelper()
	goal := w.acknowledged() + n
	Eventually(w.acknowledged, withinAMinute).WithContext(ctx).Should(BeNumerically(">=", goal))
}

// expectAllIn compares what was acknowledged with what the stream holds, which may hold more: puts whose acknowledgement was
// lost. A put that the bucket stored after the fence gets there a moment later; what is there is right from the start.
func (w *legacyWriters) expectAllIn(ctx context.Context, s *v1alpha1.AuditStream, before int) {
	GinkgoHelper()
	w.mu.Lock()
	acked := maps.Clone(w.acked)
	w.mu.Unlock()
	stored := map[string][][]byte{}
	missing := func(ctx context.Context) []string {
		stored = everythingIn(ctx, s)
		var ids []string
		for id := range acked {
			if len(stored[id]) == 0 {
				ids = append(ids, id)
			}
		}
		return ids
	}
	Eventually(missing, withinAMinute).WithContext(ctx).Should(BeEmpty(), func() string {
		return whereIs(ctx, s, slices.MinFunc(slices.Collect(maps.Keys(acked)), func(a, b string) int { return len(stored[a]) - len(stored[b]) }))()
	})
	total := 0
	for id, copies := range stored {
		Expect(copies).To(HaveLen(1), "entry %s", id)
		total++
	}
	for id, value := range acked {
		Expect(stored[id][0]).To(Equal(value))
	}
	Expect(total).To(BeNumerically("<=", before+len(acked)+int(w.failed.Load())+legacyWriterCount))
}

// everythingIn reads what the stream holds under each id.
func everythingIn(ctx context.Context, s *v1alpha1.AuditStream) map[string][][]byte {
	GinkgoHelper()
	stored := map[string][][]byte{}
	live, err := env.js.Stream(ctx, s.Spec.Stream)
	Expect(err).NotTo(HaveOccurred())
	consumer, err := live.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	Expect(err).NotTo(HaveOccurred())
	messages, err := consumer.Messages()
	Expect(err).NotTo(HaveOccurred())
	defer messages.Stop()
	for range live.CachedInfo().State.Msgs {
		msg, err := messages.Next(jetstream.NextMaxWait(soon))
		Expect(err).NotTo(HaveOccurred())
		id := strings.TrimPrefix(msg.Subject(), s.Spec.Subject+".")
		stored[id] = append(stored[id], msg.Data())
	}
	return stored
}

// whereIs tells what NATS holds of an entry, for whoever has to find out why it is missed.
func whereIs(ctx context.Context, s *v1alpha1.AuditStream, id string) func() string {
	return func() string {
		var b strings.Builder
		fmt.Fprintf(&b, "entry %s", id)
		for _, source := range s.Spec.MigrateFrom {
			tell(ctx, &b, "KV_"+source.Bucket, "$KV."+source.Bucket+"."+id)
			tell(ctx, &b, s.Spec.Stream, "$KV."+source.Bucket+"."+id)
		}
		tell(ctx, &b, s.Spec.Stream, s.Spec.Subject+"."+id)
		return b.String()
	}
}

func tell(ctx context.Context, b *strings.Builder, name, subject string) {
	live, err := env.js.Stream(ctx, name)
	if err != nil {
		fmt.Fprintf(b, "\n%s: %v", name, err)
		return
	}
	info := live.CachedInfo()
	fmt.Fprintf(b, "\n%s captures %v, holds %d messages from %d to %d, metadata %v; ", name, info.Config.Subjects,
		info.State.Msgs, info.State.FirstSeq, info.State.LastSeq, info.Config.Metadata)
	msg, err := live.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		fmt.Fprintf(b, "%s: %v", subject, err)
		return
	}
	fmt.Fprintf(b, "%s at %d, stored %s, headers %v", subject, msg.Sequence, msg.Time, msg.Header)
}
