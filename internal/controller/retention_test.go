package controller

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

func locked(o *v1alpha1.AuditStream) { o.Spec.RetentionLock = v1alpha1.RetentionLockCompliance }

var _ = Describe("A stream under retentionLock: Compliance", func() {
	const day = 24 * time.Hour
	var f fixture
	BeforeEach(func() { f = newFixture() })

	// lockedStream makes a stream under a lock that holds three entries.
	lockedStream := func(change ...func(*v1alpha1.AuditStream)) *v1alpha1.AuditStream {
		GinkgoHelper()
		obj := f.auditStream("a", append(change, locked)...)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(liveStream(f.stream).Config.Metadata).To(HaveKeyWithValue(jsbuilder.MetadataRetentionLock, "Compliance"))
		for i := range 3 {
			_, err := js.Publish(ctx, fmt.Sprintf("%s.e%d", f.subject, i), []byte("{}"))
			Expect(err).NotTo(HaveOccurred())
		}
		return obj
	}
	remove := func(obj *v1alpha1.AuditStream) {
		GinkgoHelper()
		Expect(k8s.Delete(ctx, obj)).To(Succeed())
		Eventually(func() bool { return apierrors.IsNotFound(k8s.Get(ctx, clientKey(obj), obj)) }).Should(BeTrue())
	}
	refused := func(obj *v1alpha1.AuditStream) string {
		GinkgoHelper()
		message := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonRetentionLocked).Message
		awaitCondition(obj, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRetentionLocked)
		awaitCondition(obj, v1alpha1.ConditionStreamReady, metav1.ConditionFalse, v1alpha1.ReasonRetentionLocked)
		return message
	}

	It("keeps its entries when the resource is deleted and applied again without the lock", func() {
		remove(lockedStream())
		again := f.auditStream("a", func(o *v1alpha1.AuditStream) { o.Spec.MaxAge = "1s" })
		Expect(refused(again)).To(And(ContainSubstring("max_age (is 720h0m0s, declared 1s)"), ContainSubstring("set spec.maxAge to 30d or more"),
			ContainSubstring("set spec.retentionLock to Compliance")))
		Consistently(func() uint64 { return liveStream(f.stream).State.Msgs }, 1500*time.Millisecond).Should(BeEquivalentTo(3))
		Expect(liveStream(f.stream).Config.MaxAge).To(Equal(30 * day))

		By("going on with a resource that declares at least what the stream has")
		update(again, func(o *v1alpha1.AuditStream) { o.Spec.MaxAge = "31d"; locked(o) })
		awaitReady(again, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(liveStream(f.stream).Config.MaxAge).To(Equal(31 * day))
	})

	It("is neither limited in size nor told to drop entries by a resource that is applied again", func() {
		remove(lockedStream(func(o *v1alpha1.AuditStream) { o.Spec.WhenFull = v1alpha1.WhenFullRejectNew }))
		again := f.auditStream("a", locked, func(o *v1alpha1.AuditStream) { o.Spec.MaxBytes = resource.NewQuantity(1, resource.DecimalSI) })
		Expect(refused(again)).To(And(ContainSubstring("leave out spec.maxBytes"), ContainSubstring("set spec.whenFull to RejectNew")))
		cfg := liveStream(f.stream).Config
		Expect([]any{cfg.MaxBytes, cfg.Discard, cfg.DiscardNewPerSubject}).To(Equal([]any{int64(-1), jetstream.DiscardNew, true}))
		Expect(liveStream(f.stream).State.Msgs).To(BeEquivalentTo(3))
	})

	It("is not shortened to what is declared after somebody has raised its retention, while all else is put right", func() {
		obj := lockedStream()
		tamper(f.stream, func(c *jetstream.StreamConfig) { c.MaxAge = 60 * day })
		Expect(refused(obj)).To(ContainSubstring("set spec.maxAge to 60d or more"))
		tamper(f.stream, func(c *jetstream.StreamConfig) { c.Subjects = []string{"elsewhere." + f.namespace} })
		Eventually(func() []string { return liveStream(f.stream).Config.Subjects }).Should(Equal([]string{f.subject + ".>"}))
		Expect(liveStream(f.stream).Config.MaxAge).To(Equal(60 * day))

		update(obj, func(o *v1alpha1.AuditStream) { o.Spec.MaxAge = "60d" })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})

	It("gets back what somebody has shortened, and the lock that somebody has taken off", func() {
		obj := lockedStream()
		tamper(f.stream, func(c *jetstream.StreamConfig) {
			c.MaxAge = 29 * day
			delete(c.Metadata, jsbuilder.MetadataRetentionLock)
		})
		Eventually(func(g Gomega) {
			cfg := liveStream(f.stream).Config
			g.Expect(cfg.MaxAge).To(Equal(30 * day))
			g.Expect(cfg.Metadata).To(HaveKeyWithValue(jsbuilder.MetadataRetentionLock, "Compliance"))
		}).Should(Succeed())
		Eventually(func() []string { return eventsOf(obj) }).Should(ContainElement(And(
			HavePrefix("Warning DriftHealed: "), ContainSubstring(jsbuilder.MetadataRetentionLock))))
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)

		By("not being shortened where the lock was taken off in the same breath")
		tamper(f.stream, func(c *jetstream.StreamConfig) {
			c.MaxAge = 60 * day
			delete(c.Metadata, jsbuilder.MetadataRetentionLock)
		})
		refused(obj)
		cfg := liveStream(f.stream).Config
		Expect(cfg.MaxAge).To(Equal(60 * day))
		Expect(jsbuilder.Locked(cfg.Metadata)).To(BeTrue())
	})

	It("is not deleted with a resource that is applied again with deletionPolicy: Delete", func() {
		remove(lockedStream())
		again := f.auditStream("a", deleting)
		refused(again)
		Expect(k8s.Delete(ctx, again)).To(Succeed())
		ready := awaitReady(again, metav1.ConditionFalse, v1alpha1.ReasonDeleting)
		Expect(ready.Message).To(ContainSubstring("set spec.deletionPolicy to Retain"))
		awaitCondition(again, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonDeleting)
		Expect(liveStream(f.stream).State.Msgs).To(BeEquivalentTo(3))

		update(again, func(o *v1alpha1.AuditStream) { o.Spec.DeletionPolicy = v1alpha1.DeletionPolicyRetain })
		Eventually(func() bool { return apierrors.IsNotFound(k8s.Get(ctx, clientKey(again), again)) }).Should(BeTrue())
		Expect(liveStream(f.stream).State.Msgs).To(BeEquivalentTo(3))
	})

	It("is not taken over by a resource that declares less", func() {
		remove(lockedStream())
		owner := liveStream(f.stream).Config.Metadata[jsbuilder.MetadataOwner]
		heir := f.auditStream("heir", adopting, locked, func(o *v1alpha1.AuditStream) { o.Spec.MaxAge = "29d" })
		Expect(refused(heir)).To(ContainSubstring("set spec.maxAge to 30d or more"))
		Expect(liveStream(f.stream).Config.Metadata).To(HaveKeyWithValue(jsbuilder.MetadataOwner, owner))

		update(heir, func(o *v1alpha1.AuditStream) { o.Spec.MaxAge = "30d" })
		awaitReady(heir, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})

	It("is locked from its adoption on, with what is declared", func() {
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: f.stream, Subjects: []string{f.subject + ".>"}, MaxAge: 60 * day})
		Expect(err).NotTo(HaveOccurred())
		obj := f.auditStream("a", adopting, locked)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		cfg := liveStream(f.stream).Config
		Expect(cfg.MaxAge).To(Equal(30 * day))
		Expect(jsbuilder.Locked(cfg.Metadata)).To(BeTrue())
	})

	It("still has its buckets followed while the resource declares less", func() {
		remove(lockedStream())
		again := f.auditStream("a", f.migrating, func(o *v1alpha1.AuditStream) { o.Spec.MaxAge = "1s" })
		refused(again)
		kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: f.bucket})
		Expect(err).NotTo(HaveOccurred())
		for i := range 2 {
			_, err := kv.Put(ctx, fmt.Sprintf("id-%d", i), fmt.Appendf(nil, `{"id":"id-%d"}`, i))
			Expect(err).NotTo(HaveOccurred())
		}
		reconciler.enqueue(clientKey(again))
		Eventually(func() uint64 { return liveStream(f.stream).State.Msgs }).Should(BeEquivalentTo(5))
		refused(again)
	})
})
