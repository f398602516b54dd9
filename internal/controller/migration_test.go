package controller

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

func clientKey(o *v1alpha1.AuditStream) types.NamespacedName { return client.ObjectKeyFromObject(o) }

func isReady(o *v1alpha1.AuditStream) bool {
	return meta.IsStatusConditionTrue(o.Status.Conditions, v1alpha1.ConditionReady)
}

var _ = Describe("The migration of a legacy bucket", func() {
	var f fixture
	BeforeEach(func() { f = newFixture() })

	createBucket := func() jetstream.KeyValue {
		GinkgoHelper()
		kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: f.bucket, TTL: 720 * time.Hour})
		Expect(err).NotTo(HaveOccurred())
		return kv
	}
	put := func(kv jetstream.KeyValue, from, to int) {
		GinkgoHelper()
		for i := from; i < to; i++ {
			id := fmt.Sprintf("id-%d", i)
			_, err := kv.Put(ctx, id, fmt.Appendf(nil, `{"id":%q}`, id))
			Expect(err).NotTo(HaveOccurred())
		}
	}
	// counts waits until the migration has come to the counts, in the order of total, migrated, alreadyPresent,
	// expired, invalid and mismatched.
	counts := func(obj *v1alpha1.AuditStream, want ...int64) v1alpha1.BucketMigration {
		GinkgoHelper()
		var m v1alpha1.BucketMigration
		Eventually(func(g Gomega) {
			g.Expect(k8s.Get(ctx, clientKey(obj), obj)).To(Succeed())
			expectRules(g, obj)
			g.Expect(obj.Status.Migration).To(HaveLen(1))
			m = obj.Status.Migration[0]
			g.Expect([]int64{m.Total, m.Migrated, m.AlreadyPresent, m.Expired, m.Invalid, m.Mismatched}).To(Equal(want))
		}).Should(Succeed())
		return m
	}
	entries := func() uint64 {
		GinkgoHelper()
		return liveStream(f.stream).State.Msgs
	}

	It("copies the live entries and then is Migrated and Ready", func() {
		kv := createBucket()
		put(kv, 0, 50)
		Expect(kv.Delete(ctx, "id-7")).To(Succeed())
		obj := f.auditStream("a", f.migrating)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		awaitCondition(obj, v1alpha1.ConditionMigrated, metav1.ConditionTrue, v1alpha1.ReasonMigrationComplete)
		m := counts(obj, 49, 49, 0, 0, 0, 0)
		Expect(m.Phase).To(Equal(v1alpha1.MigrationComplete))
		Expect(m.StartTime).NotTo(BeNil())
		Expect(m.CompletionTime).NotTo(BeNil())
		Expect(m.LastSequence).To(BeEquivalentTo(51))
		Expect(m.Digest).To(HaveLen(64))
		Expect(entries()).To(BeEquivalentTo(49))
	})

	It("waits for a bucket that does not exist, says so, and goes on when it appears", func() {
		obj := f.auditStream("a", f.migrating)
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonBucketNotFound)
		Expect(ready.Message).To(ContainSubstring("bucket " + f.bucket + " does not exist"))
		awaitCondition(obj, v1alpha1.ConditionStreamReady, metav1.ConditionTrue, v1alpha1.ReasonStreamInSync)
		awaitCondition(obj, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonBucketNotFound)
		put(createBucket(), 0, 5)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		counts(obj, 5, 5, 0, 0, 0, 0)
	})

	It("follows late writers and stays Ready", func() {
		kv := createBucket()
		put(kv, 0, 5)
		obj := f.auditStream("a", f.migrating)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		put(kv, 5, 10)
		Eventually(entries).Should(BeEquivalentTo(10))
		counts(obj, 10, 10, 0, 0, 0, 0)

		By("beginning again after it has come to rest")
		rest := copyID{resource: clientKey(obj), bucket: f.bucket}
		Eventually(func() bool {
			reconciler.copies.mu.Lock()
			defer reconciler.copies.mu.Unlock()
			return reconciler.copies.runs[rest].running
		}).Should(BeFalse())
		put(kv, 10, 12)
		Eventually(entries).Should(BeEquivalentTo(12))
		counts(obj, 12, 12, 0, 0, 0, 0)
		Eventually(func() []string { return eventsOf(obj) }).Should(
			ConsistOf(HavePrefix("Normal Migrating: "), HavePrefix("Normal MigrationComplete: ")))
		Consistently(func() []string { return eventsOf(obj) }, 300*time.Millisecond).Should(HaveLen(2), "nothing is told of late entries")
	})

	It("is not kept waiting by others that follow busy writers", func() {
		busy, stop := context.WithCancel(ctx)
		var writers sync.WaitGroup
		DeferCleanup(func() { stop(); writers.Wait() })
		for i := range maxCopies + 1 {
			bucket := fmt.Sprintf("%s-%d", f.bucket, i)
			kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket})
			Expect(err).NotTo(HaveOccurred())
			writers.Go(func() {
				for n := 0; busy.Err() == nil; n++ {
					id := fmt.Sprintf("id-%d", n)
					_, _ = kv.Put(busy, id, fmt.Appendf(nil, `{"id":%q}`, id))
					time.Sleep(20 * time.Millisecond) // the pace of the writer
				}
			})
			obj := f.auditStream(fmt.Sprintf("busy-%d", i), func(o *v1alpha1.AuditStream) {
				o.Spec.Stream, o.Spec.Subject = fmt.Sprintf("%s-%d", f.stream, i), fmt.Sprintf("%s-%d", f.subject, i)
				o.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: bucket}}
			})
			awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		}
	})

	It("leaves values that are not entries, names them, and is Ready all the same", func() {
		kv := createBucket()
		put(kv, 0, 3)
		for key, value := range map[string]string{"not-json": "hello", "two.tokens": `{"id":"two.tokens"}`} {
			_, err := kv.Put(ctx, key, []byte(value))
			Expect(err).NotTo(HaveOccurred())
		}
		obj := f.auditStream("a", f.migrating)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		migrated := awaitCondition(obj, v1alpha1.ConditionMigrated, metav1.ConditionTrue, v1alpha1.ReasonInvalidEntries)
		Expect(migrated.Message).To(And(ContainSubstring("not-json"), ContainSubstring("two.tokens")))
		Expect(counts(obj, 5, 3, 0, 0, 2, 0).InvalidKeys).To(ConsistOf("not-json", "two.tokens"))
		Eventually(func() []string { return eventsOf(obj) }).Should(ContainElement(HavePrefix("Warning InvalidEntries: ")))
	})

	It("names an entry of which the stream holds other bytes, and is not Ready", func() {
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: f.stream, Subjects: []string{f.subject + ".>"}})
		Expect(err).NotTo(HaveOccurred())
		_, err = js.Publish(ctx, f.subject+".id-1", []byte(`{"id":"id-1","user":"somebody else"}`))
		Expect(err).NotTo(HaveOccurred())
		put(createBucket(), 0, 3)
		obj := f.auditStream("a", f.migrating, adopting)
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonEntryMismatch)
		Expect(ready.Message).To(ContainSubstring("id-1"))
		awaitCondition(obj, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonEntryMismatch)
		Expect(counts(obj, 3, 2, 0, 0, 0, 1).Phase).To(Equal(v1alpha1.MigrationMismatched))
	})

	It("does not bring back what has gone since, when the resource is created again", func() {
		put(createBucket(), 0, 5)
		withoutProtection := func(o *v1alpha1.AuditStream) { o.Spec.Protection = v1alpha1.ProtectionNone }
		obj := f.auditStream("a", f.migrating, withoutProtection)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		stream, err := js.Stream(ctx, f.stream)
		Expect(err).NotTo(HaveOccurred())
		Expect(stream.DeleteMsg(ctx, 2)).To(Succeed())
		Expect(k8s.Delete(ctx, obj)).To(Succeed())
		again := f.auditStream("a", f.migrating, withoutProtection)
		awaitReady(again, metav1.ConditionTrue, v1alpha1.ReasonReady)
		counts(again, 5, 5, 0, 0, 0, 0)
		Expect(entries()).To(BeEquivalentTo(4))
	})

	It("copies everything again once its checkpoint is removed, however far the operator knows it to be", func() {
		put(createBucket(), 0, 5)
		obj := f.auditStream("a", f.migrating, func(o *v1alpha1.AuditStream) { o.Spec.Protection = v1alpha1.ProtectionNone })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		stream, err := js.Stream(ctx, f.stream)
		Expect(err).NotTo(HaveOccurred())
		Expect(stream.DeleteMsg(ctx, 2)).To(Succeed())
		tamper(f.stream, func(cfg *jetstream.StreamConfig) { delete(cfg.Metadata, jsbuilder.MetadataMigrationPrefix+f.bucket) })
		Eventually(entries).Should(BeEquivalentTo(5))
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		counts(obj, 5, 5, 0, 0, 0, 0)
	})

	It("copies again what a stream lacks that was restored from a backup", func() {
		kv := createBucket()
		put(kv, 0, 5)
		obj := f.auditStream("a", f.migrating, func(o *v1alpha1.AuditStream) { o.Spec.Protection = v1alpha1.ProtectionNone })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		checkpoint := jsbuilder.MetadataMigrationPrefix + f.bucket
		backup := liveStream(f.stream).Config.Metadata[checkpoint]
		put(kv, 5, 10)
		Eventually(entries).Should(BeEquivalentTo(10))
		Eventually(func() string { return liveStream(f.stream).Config.Metadata[checkpoint] }).ShouldNot(Equal(backup))

		suspend(obj)
		stream, err := js.Stream(ctx, f.stream)
		Expect(err).NotTo(HaveOccurred())
		for sequence := range uint64(5) {
			Expect(stream.DeleteMsg(ctx, 6+sequence)).To(Succeed())
		}
		tamper(f.stream, func(cfg *jetstream.StreamConfig) { cfg.Metadata[checkpoint] = backup })
		update(obj, func(obj *v1alpha1.AuditStream) { obj.Spec.Suspend = false })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Eventually(entries).Should(BeEquivalentTo(10))
	})

	It("copies everything again into a stream that was deleted out of band", func() {
		put(createBucket(), 0, 20)
		obj := f.auditStream("a", f.migrating)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(js.DeleteStream(ctx, f.stream)).To(Succeed())
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated)
		Eventually(func() (uint64, error) {
			s, err := js.Stream(ctx, f.stream)
			if err != nil {
				return 0, err
			}
			return s.CachedInfo().State.Msgs, nil
		}).Should(BeEquivalentTo(20))
		counts(obj, 20, 20, 0, 0, 0, 0)
	})

	It("counts in a dry run and copies only after it", func() {
		kv := createBucket()
		put(kv, 0, 4)
		_, err := kv.Put(ctx, "bad", []byte("x"))
		Expect(err).NotTo(HaveOccurred())
		obj := f.auditStream("a", f.migrating, func(o *v1alpha1.AuditStream) { o.Spec.MigrateFrom[0].DryRun = true })
		awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonDryRun)
		Expect(counts(obj, 5, 4, 0, 0, 1, 0).Phase).To(Equal(v1alpha1.MigrationDryRun))
		Expect(entries()).To(BeZero())
		for key := range liveStream(f.stream).Config.Metadata {
			Expect(strings.HasPrefix(key, jsbuilder.MetadataMigrationPrefix)).To(BeFalse(), "no checkpoint is written")
		}
		update(obj, func(o *v1alpha1.AuditStream) { o.Spec.MigrateFrom[0].DryRun = false })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(entries()).To(BeEquivalentTo(4))
	})

	It("ends when the bucket is no longer declared", func() {
		kv := createBucket()
		put(kv, 0, 2)
		obj := f.auditStream("a", f.migrating)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		update(obj, func(o *v1alpha1.AuditStream) { o.Spec.MigrateFrom = nil })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionMigrated)).To(BeNil())
		Expect(obj.Status.Migration).To(BeEmpty())
		put(kv, 2, 4)
		Consistently(entries, 500*time.Millisecond).Should(BeEquivalentTo(2))
	})
})

var _ = Describe("An outage of NATS", Serial, func() {
	It("is reported, and over within seconds once NATS is back", func() {
		f := newFixture()
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		nats.Stop()
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonNATSUnavailable)
		Expect(ready.Message).NotTo(BeEmpty())
		awaitCondition(obj, v1alpha1.ConditionStreamReady, metav1.ConditionUnknown, v1alpha1.ReasonNATSUnavailable)

		By("letting resources with Retain go")
		retained := f.auditStream("b", func(o *v1alpha1.AuditStream) { o.Spec.Stream, o.Spec.Subject = f.stream+"-b", f.subject+"-b" })
		awaitReady(retained, metav1.ConditionFalse, v1alpha1.ReasonNATSUnavailable)
		Expect(k8s.Delete(ctx, retained)).To(Succeed())
		Expect(apierrors.IsNotFound(k8s.Get(ctx, clientKey(retained), retained))).To(BeTrue())

		nats.Restart()
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})
})
