package controller

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// rehearsal reports copies that take half a minute on a clock of its own, to a real API server.
type rehearsal struct {
	*Reconciler
	obj     *v1alpha1.AuditStream
	clock   time.Time
	due     time.Time
	facts   []bucketFact
	patches []time.Time
	told    atomic.Int64
}

const rehearsed = 200_000

// countingRecorder counts the events on their way.
type countingRecorder struct {
	events.EventRecorder
	told *atomic.Int64
}

func (c countingRecorder) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	c.told.Add(1)
	c.EventRecorder.Eventf(regarding, related, kind, reason, action, note, args...)
}

// countingClient notes when the status is patched.
type countingClient struct {
	client.Client
	r *rehearsal
}

func (c countingClient) Status() client.SubResourceWriter {
	return countingStatus{c.Client.Status(), c.r}
}

type countingStatus struct {
	client.SubResourceWriter
	r *rehearsal
}

func (c countingStatus) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
	c.r.patches = append(c.r.patches, c.r.clock)
	return c.SubResourceWriter.Patch(ctx, obj, patch, opts...)
}

func newRehearsal(buckets int) *rehearsal {
	GinkgoHelper()
	f := newFixture()
	// Suspended, so that the operator of the other tests has nothing to say about it.
	obj := f.auditStream("a", func(o *v1alpha1.AuditStream) {
		o.Spec.Suspend = true
		for i := range buckets {
			o.Spec.MigrateFrom = append(o.Spec.MigrateFrom, v1alpha1.MigrationSource{Bucket: fmt.Sprintf("%s-%d", f.bucket, i)})
		}
	})
	awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
	Eventually(func() bool {
		told := &reconciler.ownWrites
		told.mu.Lock()
		defer told.mu.Unlock()
		_, found := told.told[clientKey(obj)]
		delete(told.told, clientKey(obj)) // else it would put right what the rehearsal writes
		return found
	}).Should(BeTrue())
	r := &rehearsal{obj: obj, clock: startTime}
	r.Reconciler = r.operator()
	return r
}

// operator is one that has just been started.
func (r *rehearsal) operator() *Reconciler {
	GinkgoHelper()
	metrics, err := newMetrics(prometheus.NewRegistry(), func() time.Time { return r.clock })
	Expect(err).NotTo(HaveOccurred())
	return &Reconciler{
		Client: countingClient{k8s, r}, Recorder: countingRecorder{reconciler.Recorder, &r.told},
		Now: func() time.Time { return r.clock }, metrics: metrics,
	}
}

// report is a reconcile that found the buckets as they are now.
func (r *rehearsal) report() {
	GinkgoHelper()
	Expect(k8s.Get(ctx, clientKey(r.obj), r.obj)).To(Succeed())
	facts := append([]bucketFact(nil), r.facts...)
	live := &jetstream.StreamInfo{Created: startTime}
	for i := range facts {
		live.State.Msgs += uint64(facts[i].checkpoint.Migrated)
	}
	result, err := r.finish(ctx, &scope{obj: r.obj, live: live, streamReady: true, buckets: facts}, nil)
	Expect(err).NotTo(HaveOccurred())
	r.due = time.Time{}
	if result.RequeueAfter > 0 {
		r.due = r.clock.Add(result.RequeueAfter)
	}
}

// play lets the copies run, each of which tells how far it is every two seconds, at a moment of its own.
func (r *rehearsal) play(length time.Duration) {
	GinkgoHelper()
	const tick = 100 * time.Millisecond
	for at := time.Duration(0); at <= length; at += tick {
		r.clock = startTime.Add(at)
		woken := at == 0 || !r.due.IsZero() && !r.clock.Before(r.due)
		for i := range r.facts {
			if at == length || (at-time.Duration(i)*3*tick)%(2*time.Second) == 0 {
				r.advance(i, at, length)
				woken = true
			}
		}
		if woken {
			r.report()
		}
	}
}

func (r *rehearsal) advance(i int, at, length time.Duration) {
	fact := &r.facts[i]
	c := midway(rehearsed, int64(float64(rehearsed)*float64(at)/float64(length)))
	fact.phase, fact.pace = v1alpha1.MigrationCopying, paceOf(&c, 0, startTime, r.clock)
	if at == length {
		c.CompletionTime, fact.phase = r.clock, v1alpha1.MigrationComplete
	}
	fact.checkpoint = c
}

// writes is how often the API server was written to.
func (r *rehearsal) writes() int { return len(r.patches) + int(r.told.Load()) }

// settle looks again for as long as a report asks for it.
func (r *rehearsal) settle() {
	GinkgoHelper()
	for !r.due.IsZero() {
		r.clock = r.due
		r.report()
	}
}

// stored are the events of the resource that are about a bucket, by action.
func (r *rehearsal) stored(bucket string) map[string]eventsv1.Event {
	GinkgoHelper()
	list := &eventsv1.EventList{}
	Expect(k8s.List(ctx, list, client.InNamespace(r.obj.Namespace))).To(Succeed())
	found := map[string]eventsv1.Event{}
	for _, e := range list.Items {
		if e.Related != nil && e.Related.Kind == "KeyValue" && e.Related.Name == bucket {
			Expect(found).NotTo(HaveKey(e.Action), "each is told once")
			found[e.Action] = e
		}
	}
	return found
}

var _ = Describe("The progress of a copy", func() {
	const length = 30 * time.Second

	It("is shown while the copy runs", func() {
		f := newFixture()
		kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: f.bucket})
		Expect(err).NotTo(HaveOccurred())
		for i := range 5 {
			_, err := kv.Put(ctx, fmt.Sprintf("id-%d", i), fmt.Appendf(nil, `{"id":"id-%d"}`, i))
			Expect(err).NotTo(HaveOccurred())
		}
		for range maxCopies { // so that the copy stays where it is
			reconciler.copies.slots <- struct{}{}
		}
		release := sync.OnceFunc(func() {
			for range maxCopies {
				<-reconciler.copies.slots
			}
		})
		DeferCleanup(release)
		obj := f.auditStream("a", f.migrating)
		awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonMigrating)
		Expect(obj.Status.MigrationProgress).To(Equal("0%"))
		m := obj.Status.Migration[0]
		Expect([]int64{m.Total, m.Remaining, m.EntriesPerSecond}).To(Equal([]int64{5, 5, 0}))
		Expect(m.StartTime).NotTo(BeNil())
		Expect(m.EstimatedCompletionTime).To(BeNil())

		reconciler.copies.mu.Lock()
		run := reconciler.copies.runs[copyID{resource: clientKey(obj), bucket: f.bucket}]
		run.pace = pace{perSecond: 7, left: time.Minute, end: time.Now().Add(time.Minute)}
		reconciler.copies.mu.Unlock()
		reconciler.enqueue(clientKey(obj))
		Eventually(func(g Gomega) {
			g.Expect(k8s.Get(ctx, clientKey(obj), obj)).To(Succeed())
			g.Expect(obj.Status.Migration[0].EntriesPerSecond).To(BeEquivalentTo(7))
			g.Expect(obj.Status.Migration[0].EstimatedCompletionTime).NotTo(BeNil())
		}).Should(Succeed())
		release()
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(obj.Status.MigrationProgress).To(Equal("True"))
		Expect(obj.Status.Migration[0].EntriesPerSecond).To(BeZero())
	})

	It("is shown and told without burdening the API server", func() {
		r := newRehearsal(1)
		r.facts = []bucketFact{{bucket: r.obj.Spec.MigrateFrom[0].Bucket, phase: v1alpha1.MigrationCopying, checkpoint: midway(rehearsed, 0)}}
		r.play(length)
		Expect(r.writes()).To(BeNumerically("<", length.Seconds()), "less than one a second: %d patches, %d events", len(r.patches), r.told.Load())
		Expect(len(r.patches)).To(BeNumerically(">=", 8), "it moves")
		for i, patch := range r.patches[1:] {
			if patch.Before(startTime.Add(length)) {
				Expect(patch.Sub(r.patches[i])).To(BeNumerically(">=", 2*time.Second))
			}
		}
		Expect(k8s.Get(ctx, clientKey(r.obj), r.obj)).To(Succeed())
		Expect(r.obj.Status.MigrationProgress).To(Equal("True"), "the end is written at once")

		By("storing an event for the start, each tenth and the end")
		bucket := r.facts[0].bucket
		want := []string{"StartCopy", "CopiedBucket"}
		for tenth := 1; tenth < 10; tenth++ {
			want = append(want, fmt.Sprintf("Copied%d0Percent", tenth))
		}
		Eventually(func() map[string]eventsv1.Event { return r.stored(bucket) }).Should(HaveLen(len(want)))
		for _, action := range want {
			event, found := r.stored(bucket)[action]
			Expect(found).To(BeTrue(), action)
			Expect(event.Series).To(BeNil(), "its text is not lost in a series")
			Expect(event.Type).To(Equal(corev1.EventTypeNormal))
			Expect(event.Note).To(HavePrefix("bucket " + bucket + ": "))
		}
		Expect(r.stored(bucket)["CopiedBucket"].Reason).To(Equal(v1alpha1.ReasonMigrationComplete))
		Expect(r.stored(bucket)["Copied50Percent"].Note).To(MatchRegexp(`: 1\d\d,\d{3} of 200,000 entries copied$`))

		By("counting it")
		series := collected(r.metrics)
		of := fmt.Sprintf(`{bucket=%q,name="a",namespace=%q`, bucket, r.obj.Namespace)
		Expect(series).To(HaveKeyWithValue("auditstream_migration_seconds"+of+"}", 30.0))
		for result, want := range map[string]float64{"total": rehearsed, "done": rehearsed, "migrated": rehearsed, "remaining": 0} {
			Expect(series).To(HaveKeyWithValue(fmt.Sprintf("auditstream_migration_entries%s,result=%q}", of, result), want))
		}

		By("saying nothing again, idle or started anew")
		before := r.writes()
		r.clock = r.clock.Add(time.Hour)
		r.report()
		r.Reconciler = r.operator()
		r.report()
		Expect(r.writes()).To(Equal(before))
		Expect(r.due).To(BeZero())
	})

	It("burdens it no more where the copy is over sooner", func() {
		const length = 9 * time.Second
		r := newRehearsal(1)
		r.facts = []bucketFact{{bucket: r.obj.Spec.MigrateFrom[0].Bucket}}
		r.play(length)
		Expect(r.writes()).To(BeNumerically("<", length.Seconds()), "%d patches, %d events", len(r.patches), r.told.Load())
	})

	It("holds back what late writers add, and loses none of it", func() {
		r := newRehearsal(1)
		r.facts = []bucketFact{{bucket: r.obj.Spec.MigrateFrom[0].Bucket}}
		r.play(time.Second)
		r.settle()
		r.clock = r.clock.Add(time.Hour)
		before := r.writes()
		for range 5 {
			c := &r.facts[0].checkpoint
			c.Total, c.Migrated = c.Total+1, c.Migrated+1
			r.report()
			r.clock = r.clock.Add(100 * time.Millisecond)
		}
		Expect(r.writes()).To(Equal(before+1), "the first at once, the rest together")
		Expect(r.due).NotTo(BeZero())
		r.settle()
		Expect(r.writes()).To(Equal(before + 2))
		Expect(k8s.Get(ctx, clientKey(r.obj), r.obj)).To(Succeed())
		Expect(r.obj.Status.Migration[0].Migrated).To(BeEquivalentTo(rehearsed + 5))
		Expect(r.obj.Status.Stream.Entries).To(BeEquivalentTo(rehearsed + 5))
	})

	It("comes in one patch for eight buckets, with events for each", func() {
		r := newRehearsal(8)
		for _, m := range r.obj.Spec.MigrateFrom {
			r.facts = append(r.facts, bucketFact{bucket: m.Bucket, phase: v1alpha1.MigrationCopying, checkpoint: midway(rehearsed, 0)})
		}
		r.play(length)
		for i, patch := range r.patches[1:] {
			if patch.Before(startTime.Add(length)) {
				Expect(patch.Sub(r.patches[i])).To(BeNumerically(">=", 2*time.Second))
			}
		}
		r.settle()
		Expect(k8s.Get(ctx, clientKey(r.obj), r.obj)).To(Succeed())
		for i, m := range r.obj.Status.Migration {
			Expect(m.Phase).To(Equal(v1alpha1.MigrationComplete))
			Eventually(func() map[string]eventsv1.Event { return r.stored(r.facts[i].bucket) }).Should(
				And(HaveKey("StartCopy"), HaveKey("CopiedBucket")), m.Bucket)
		}
	})

	It("is written at once where a condition changes, and faults are told besides", func() {
		r := newRehearsal(1)
		r.facts = []bucketFact{{bucket: r.obj.Spec.MigrateFrom[0].Bucket, phase: v1alpha1.MigrationCopying, checkpoint: midway(rehearsed, 0)}}
		r.report()
		r.clock = r.clock.Add(time.Millisecond)
		before := len(r.patches)
		r.facts[0].phase = v1alpha1.MigrationMismatched
		r.facts[0].checkpoint = withCounts(migrate.Counts{Total: 1, Mismatched: 1, MismatchedKeys: []string{"k"}})
		r.facts[0].checkpoint.StartTime = startTime
		r.report()
		Expect(r.patches).To(HaveLen(before + 1))
		awaitReady(r.obj, metav1.ConditionFalse, v1alpha1.ReasonEntryMismatch)
		Eventually(func() []string { return eventsOf(r.obj) }).Should(ContainElements(
			HavePrefix("Warning EntryMismatch: bucket "+r.facts[0].bucket+": of 1 entries"), ContainSubstring("under 1 ids (k)")))
	})
})
