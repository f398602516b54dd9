package controller

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// claimant is an AuditStream that declares bucket b; created and began are in seconds, and 0 is never.
func claimant(name string, created, began int64, change ...func(*v1alpha1.AuditStream)) v1alpha1.AuditStream {
	obj := v1alpha1.AuditStream{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, CreationTimestamp: metav1.Unix(created, 0)}}
	obj.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: "other"}, {Bucket: "b"}}
	if began > 0 {
		t := metav1.Unix(began, 0)
		obj.Status.Migration = []v1alpha1.BucketMigration{{Bucket: "other"}, {Bucket: "b", StartTime: &t}}
	}
	for _, c := range change {
		c(&obj)
	}
	return obj
}

func isDryRun(o *v1alpha1.AuditStream)   { o.Spec.MigrateFrom[1].DryRun = true }
func hasDropped(o *v1alpha1.AuditStream) { o.Spec.MigrateFrom = o.Spec.MigrateFrom[:1] }
func isGoing(o *v1alpha1.AuditStream)    { o.DeletionTimestamp = &metav1.Time{Time: time.Unix(9, 0)} }
func began(bucket string, t int64) func(*v1alpha1.AuditStream) {
	return func(o *v1alpha1.AuditStream) {
		start := metav1.Unix(t, 0)
		o.Status.Migration = []v1alpha1.BucketMigration{{Bucket: bucket, StartTime: &start}}
	}
}

func TestMoverOf(t *testing.T) {
	for name, test := range map[string]struct {
		list []v1alpha1.AuditStream
		want string
	}{
		"nobody":                   {nil, "/"},
		"the only one":             {[]v1alpha1.AuditStream{claimant("a", 5, 0)}, "ns/a"},
		"the oldest":               {[]v1alpha1.AuditStream{claimant("a", 5, 0), claimant("z", 4, 0)}, "ns/z"},
		"the first by name":        {[]v1alpha1.AuditStream{claimant("b", 5, 0), claimant("a", 5, 0)}, "ns/a"},
		"who has begun":            {[]v1alpha1.AuditStream{claimant("a", 1, 0), claimant("b", 5, 7)}, "ns/b"},
		"who has begun first":      {[]v1alpha1.AuditStream{claimant("a", 1, 8), claimant("b", 5, 7)}, "ns/b"},
		"the older of two at once": {[]v1alpha1.AuditStream{claimant("b", 1, 7), claimant("a", 5, 7)}, "ns/b"},
		"another bucket's start counts for nothing": {[]v1alpha1.AuditStream{claimant("a", 1, 0), claimant("b", 2, 0, began("other", 1))}, "ns/a"},
		"not a dry run":                 {[]v1alpha1.AuditStream{claimant("a", 1, 2, isDryRun), claimant("b", 5, 0)}, "ns/b"},
		"not one that is being deleted": {[]v1alpha1.AuditStream{claimant("a", 1, 2, isGoing), claimant("b", 5, 0)}, "ns/b"},
		"not one that has dropped it":   {[]v1alpha1.AuditStream{claimant("a", 1, 2, hasDropped), claimant("b", 5, 0)}, "ns/b"},
		"a suspended one keeps it": {[]v1alpha1.AuditStream{
			claimant("a", 1, 2, func(o *v1alpha1.AuditStream) { o.Spec.Suspend = true }), claimant("b", 5, 0)}, "ns/a"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(moverOf(test.list, "b").String()).To(Equal(test.want))
			slices.Reverse(test.list)
			g.Expect(moverOf(test.list, "b").String()).To(Equal(test.want), "whatever the order")
		})
	}
}

func TestWhatWakesRivals(t *testing.T) {
	g := NewWithT(t)
	changed := claimChanged()
	before := claimant("a", 1, 0)
	for name, test := range map[string]struct {
		change func(*v1alpha1.AuditStream)
		want   bool
	}{
		"progress":    {func(o *v1alpha1.AuditStream) { o.Status.MigrationProgress = "3%" }, false},
		"another age": {func(o *v1alpha1.AuditStream) { o.Spec.MaxAge = "1d" }, false},
		"a dry run":   {isDryRun, true},
		"dropped":     {hasDropped, true},
		"going":       {isGoing, true},
		"begun":       {began("b", 3), true},
	} {
		after := before.DeepCopy()
		test.change(after)
		g.Expect(changed.Update(event.UpdateEvent{ObjectOld: &before, ObjectNew: after})).To(Equal(test.want), name)
	}
	g.Expect(changed.Create(event.CreateEvent{Object: &before})).To(BeFalse())
	g.Expect(changed.Delete(event.DeleteEvent{Object: &before})).To(BeTrue())
}

var _ = Describe("A bucket that two AuditStreams name", func() {
	var f fixture
	BeforeEach(func() { f = newFixture() })

	newBucket := func(name string, entries int) jetstream.KeyValue {
		GinkgoHelper()
		kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: name})
		Expect(err).NotTo(HaveOccurred())
		for i := range entries {
			id := fmt.Sprintf("%s-%d", name, i)
			_, err := kv.Put(ctx, id, fmt.Appendf(nil, `{"id":%q}`, id))
			Expect(err).NotTo(HaveOccurred())
		}
		return kv
	}
	second := func(change ...func(*v1alpha1.AuditStream)) *v1alpha1.AuditStream {
		GinkgoHelper()
		return f.auditStream("second", append([]func(*v1alpha1.AuditStream){func(o *v1alpha1.AuditStream) {
			o.Spec.Stream, o.Spec.Subject = f.stream+"-2", f.subject+"-2"
			o.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: f.bucket}, {Bucket: f.bucket + "-own"}}
		}}, change...)...)
	}
	entriesOf := func(stream string) func() uint64 {
		return func() uint64 { return liveStream(stream).State.Msgs }
	}
	// rest waits until nothing that goes on by itself could wake the resource.
	rest := func(obj *v1alpha1.AuditStream, bucket string) {
		GinkgoHelper()
		Eventually(func() bool {
			reconciler.copies.mu.Lock()
			defer reconciler.copies.mu.Unlock()
			run := reconciler.copies.runs[copyID{resource: clientKey(obj), bucket: bucket}]
			return run != nil && !run.running
		}).Should(BeTrue())
	}
	refused := func(obj *v1alpha1.AuditStream) {
		GinkgoHelper()
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonBucketConflict)
		Expect(ready.Message).To(Equal(fmt.Sprintf(
			"bucket %s is being moved by AuditStream %s/first; take it out of spec.migrateFrom of one of the two", f.bucket, f.namespace)))
		awaitCondition(obj, v1alpha1.ConditionMigrated, metav1.ConditionFalse, v1alpha1.ReasonBucketConflict)
		awaitCondition(obj, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonBucketConflict)
	}

	It("is moved by the first; the second says why not, moves its others, and goes on when the first is gone", func() {
		kv := newBucket(f.bucket, 20)
		newBucket(f.bucket+"-own", 5)
		first := f.auditStream("first", f.migrating)
		awaitReady(first, metav1.ConditionTrue, v1alpha1.ReasonReady)
		two := second()
		refused(two)
		Eventually(entriesOf(f.stream + "-2")).Should(BeEquivalentTo(5))
		Eventually(func(g Gomega) {
			g.Expect(k8s.Get(ctx, clientKey(two), two)).To(Succeed())
			g.Expect(two.Status.Migration).To(HaveLen(2))
			g.Expect(two.Status.Migration[0].Phase).To(Equal(v1alpha1.MigrationWaiting))
			g.Expect(two.Status.Migration[1].Phase).To(Equal(v1alpha1.MigrationComplete))
		}).Should(Succeed())
		awaitReady(first, metav1.ConditionTrue, v1alpha1.ReasonReady)

		By("leaving late writers to the first")
		_, err := kv.Put(ctx, "late", []byte(`{"id":"late"}`))
		Expect(err).NotTo(HaveOccurred())
		Eventually(entriesOf(f.stream)).Should(BeEquivalentTo(21))
		Expect(entriesOf(f.stream + "-2")()).To(BeEquivalentTo(5))

		By("deleting the first")
		rest(two, f.bucket+"-own")
		Expect(k8s.Delete(ctx, first)).To(Succeed())
		awaitReady(two, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(entriesOf(f.stream + "-2")()).To(BeEquivalentTo(26))
		Expect(two.Status.Migration[0].Migrated).To(BeEquivalentTo(21))

		By("refusing the first when it comes back")
		again := f.auditStream("first", f.migrating)
		ready := awaitReady(again, metav1.ConditionFalse, v1alpha1.ReasonBucketConflict)
		Expect(ready.Message).To(ContainSubstring(f.namespace + "/second"))
		awaitReady(two, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})

	DescribeTable("is the second's when the first lets go",
		func(letGo func(*v1alpha1.AuditStream)) {
			newBucket(f.bucket, 3)
			newBucket(f.bucket+"-own", 1)
			first := f.auditStream("first", f.migrating)
			awaitReady(first, metav1.ConditionTrue, v1alpha1.ReasonReady)
			two := second()
			refused(two)
			rest(two, f.bucket+"-own")
			update(first, letGo)
			awaitReady(two, metav1.ConditionTrue, v1alpha1.ReasonReady)
			Expect(entriesOf(f.stream + "-2")()).To(BeEquivalentTo(4))
		},
		Entry("by dropping it", func(o *v1alpha1.AuditStream) { o.Spec.MigrateFrom = nil }),
		Entry("by only trying", func(o *v1alpha1.AuditStream) { o.Spec.MigrateFrom[0].DryRun = true }),
	)

	It("is refused also where another bucket is waited for, which is moved once it is there", func() {
		newBucket(f.bucket, 3)
		first := f.auditStream("first", f.migrating)
		awaitReady(first, metav1.ConditionTrue, v1alpha1.ReasonReady)
		two := second(func(o *v1alpha1.AuditStream) { slices.Reverse(o.Spec.MigrateFrom) })
		refused(two)
		newBucket(f.bucket+"-own", 2)
		Eventually(entriesOf(f.stream + "-2")).Should(BeEquivalentTo(2))
		refused(two)
	})

	It("may be tried by anybody", func() {
		newBucket(f.bucket, 3)
		newBucket(f.bucket+"-own", 1)
		first := f.auditStream("first", f.migrating)
		awaitReady(first, metav1.ConditionTrue, v1alpha1.ReasonReady)
		two := second(func(o *v1alpha1.AuditStream) { o.Spec.MigrateFrom[0].DryRun = true })
		awaitReady(two, metav1.ConditionFalse, v1alpha1.ReasonDryRun)
		awaitReady(first, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})

	It("is moved by exactly one of two that are applied at once", func() {
		newBucket(f.bucket, 50)
		newBucket(f.bucket+"-own", 1)
		objs := []*v1alpha1.AuditStream{second(), f.auditStream("first", f.migrating)}
		Eventually(func(g Gomega) {
			var ready, refused int
			for _, obj := range objs {
				g.Expect(k8s.Get(ctx, clientKey(obj), obj)).To(Succeed())
				condition := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionReady)
				g.Expect(condition).NotTo(BeNil())
				switch condition.Reason {
				case v1alpha1.ReasonReady:
					ready++
				case v1alpha1.ReasonBucketConflict:
					refused++
				}
			}
			g.Expect([]int{ready, refused}).To(Equal([]int{1, 1}))
		}).Should(Succeed())
	})
})

var _ = Describe("Two buckets of one AuditStream that hold the same key", func() {
	put := func(bucket, key, value string) {
		GinkgoHelper()
		kv, err := js.KeyValue(ctx, bucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket})
		}
		Expect(err).NotTo(HaveOccurred())
		_, err = kv.Put(ctx, key, []byte(value))
		Expect(err).NotTo(HaveOccurred())
	}
	It("come to one entry where the bytes agree, and a named mismatch where they do not", func() {
		f := newFixture()
		other := f.bucket + "-2"
		put(f.bucket, "same", `{"id":"same","user":"a"}`)
		put(f.bucket, "differs", `{"id":"differs","user":"a"}`)
		obj := f.auditStream("a", f.migrating)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)

		put(other, "same", `{"id":"same","user":"a"}`)
		put(other, "differs", `{"id":"differs","user":"b"}`)
		put(other, "own", `{"id":"own"}`)
		update(obj, func(o *v1alpha1.AuditStream) {
			o.Spec.MigrateFrom = append(o.Spec.MigrateFrom, v1alpha1.MigrationSource{Bucket: other})
		})
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonEntryMismatch)
		Expect(ready.Message).To(And(ContainSubstring("bucket "+other), ContainSubstring("differs")))
		awaitCondition(obj, v1alpha1.ConditionMigrated, metav1.ConditionFalse, v1alpha1.ReasonEntryMismatch)
		Expect(obj.Status.MigrationProgress).To(Equal("False"))
		m := obj.Status.Migration[1]
		Expect([]int64{m.Total, m.Migrated, m.AlreadyPresent, m.Mismatched}).To(Equal([]int64{3, 1, 1, 1}))
		Expect(m.MismatchedKeys).To(Equal([]string{"differs"}))
		Expect(obj.Status.Migration[0].Phase).To(Equal(v1alpha1.MigrationComplete))

		stream, err := js.Stream(ctx, f.stream)
		Expect(err).NotTo(HaveOccurred())
		Expect(stream.CachedInfo().State.Msgs).To(BeEquivalentTo(3))
		stored, err := stream.GetLastMsgForSubject(ctx, f.subject+".differs")
		Expect(err).NotTo(HaveOccurred())
		Expect(string(stored.Data)).To(Equal(`{"id":"differs","user":"a"}`))
	})
})
