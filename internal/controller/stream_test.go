package controller

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

var _ = Describe("The stream of an AuditStream", func() {
	var f fixture
	BeforeEach(func() { f = newFixture() })

	It("is created hardened, and the status says so", func() {
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)

		cfg := liveStream(f.stream).Config
		Expect(cfg.Subjects).To(Equal([]string{f.subject + ".>"}))
		Expect(cfg.MaxAge).To(Equal(720 * time.Hour))
		Expect(cfg.DenyDelete && cfg.DenyPurge && cfg.AllowDirect && cfg.AllowMsgTTL).To(BeTrue())
		Expect(cfg.AllowRollup || cfg.NoAck).To(BeFalse())
		Expect(cfg.Metadata[jsbuilder.MetadataOwner]).To(HaveSuffix("/" + f.namespace + "/a"))
		Expect(obj.Status.StreamName).To(Equal(f.stream))
		Expect(obj.Status.Subject).To(Equal(f.subject))
		Expect(obj.Status.Stream.Entries).To(BeZero())
		Expect(obj.Finalizers).To(BeEmpty())
		Eventually(func() []string { return eventsOf(obj) }).Should(ConsistOf("Normal Ready: stream " + f.stream + " is as declared"))
	})

	It("follows a change of the resource, which is not drift", func() {
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		update(obj, func(o *v1alpha1.AuditStream) { o.Spec.MaxAge = "" })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(liveStream(f.stream).Config.MaxAge).To(BeZero())
		Eventually(func() []string { return eventsOf(obj) }).Should(HaveLen(1))
		Consistently(func() []string { return eventsOf(obj) }, 300*time.Millisecond).Should(HaveLen(1))
	})

	DescribeTable("is healed when somebody changes it", func(field string, change func(*jetstream.StreamConfig)) {
		obj := f.auditStream("a", func(o *v1alpha1.AuditStream) { o.Spec.Protection = v1alpha1.ProtectionNone })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		before := liveStream(f.stream).Config
		tamper(f.stream, change)
		Eventually(func() jetstream.StreamConfig { return liveStream(f.stream).Config }).Should(Equal(before))
		Eventually(func() []string { return eventsOf(obj) }).Should(ContainElement(And(
			HavePrefix("Warning DriftHealed: "), ContainSubstring(field))))
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
	},
		Entry("retention", "max_age", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour; c.Duplicates = time.Minute }),
		Entry("subjects", "subjects", func(c *jetstream.StreamConfig) { c.Subjects = []string{"elsewhere.>"} }),
		Entry("the ownership claim", "metadata", func(c *jetstream.StreamConfig) { c.Metadata = nil }),
	)

	It("keeps what other parties have put into its metadata", func() {
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		tamper(f.stream, func(c *jetstream.StreamConfig) {
			c.MaxAge = time.Hour
			c.Metadata["team"] = "payments"
		})
		Eventually(func(g Gomega) {
			cfg := liveStream(f.stream).Config
			g.Expect(cfg.MaxAge).To(Equal(720 * time.Hour))
			g.Expect(cfg.Metadata).To(HaveKeyWithValue("team", "payments"))
		}).Should(Succeed())
	})

	It("is made again when it was deleted, with the loss said aloud for as long as nobody reacts", func() {
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		for i := range 3 {
			_, err := js.Publish(ctx, fmt.Sprintf("%s.e%d", f.subject, i), []byte("{}"))
			Expect(err).NotTo(HaveOccurred())
		}
		reconciler.enqueue(client.ObjectKeyFromObject(obj))
		Eventually(func(g Gomega) {
			g.Expect(k8s.Get(ctx, client.ObjectKeyFromObject(obj), obj)).To(Succeed())
			g.Expect(obj.Status.Stream.Entries).To(BeEquivalentTo(3))
		}).Should(Succeed())

		Expect(js.DeleteStream(ctx, f.stream)).To(Succeed())

		ready := awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated)
		Expect(ready.Message).To(ContainSubstring("what it held is lost, which was 3 entries (sequences 1 to 3)"))
		awaitCondition(obj, v1alpha1.ConditionStreamReady, metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated)
		Eventually(func() []string { return eventsOf(obj) }).Should(ContainElement(HavePrefix("Warning StreamRecreated: ")))

		reconciler.enqueue(client.ObjectKeyFromObject(obj))
		tamper(f.stream, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour; c.Duplicates = time.Minute })
		Eventually(func() []string { return eventsOf(obj) }).Should(ContainElement(HavePrefix("Warning DriftHealed: ")))
		Expect(awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated).Message).To(Equal(ready.Message))

		update(obj, func(o *v1alpha1.AuditStream) { o.Spec.MaxAge = "31d" })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})

	It("is refused when its subject overlaps another stream", func() {
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "other-" + f.namespace, Subjects: []string{f.subject + ".x"}})
		Expect(err).NotTo(HaveOccurred())
		obj := f.auditStream("a")
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonSubjectOverlap)
		Expect(ready.Message).To(ContainSubstring("10065"))
		awaitCondition(obj, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonSubjectOverlap)
	})

	It("is refused when it asks for replicas of a lone server, and goes on once it does not", func() {
		obj := f.auditStream("a", func(o *v1alpha1.AuditStream) { o.Spec.Replicas = 3 })
		awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonReplicasUnsupported)
		update(obj, func(o *v1alpha1.AuditStream) { o.Spec.Replicas = 1 })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})

	It("is never asked for replicas that a lone server would accept and then fail to start with", func() {
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		sub, err := js.Conn().SubscribeSync("$JS.API.STREAM.UPDATE." + f.stream)
		Expect(err).NotTo(HaveOccurred())
		Expect(js.Conn().Flush()).To(Succeed())
		update(obj, func(o *v1alpha1.AuditStream) { o.Spec.Replicas = 3 })
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonReplicasUnsupported)
		Expect(ready.Message).To(ContainSubstring("set spec.replicas to 1"))
		Expect(js.Conn().Flush()).To(Succeed())
		queued, _, err := sub.Pending()
		Expect(err).NotTo(HaveOccurred())
		Expect(queued).To(BeZero(), "no update was sent")
	})

	It("is not told to refuse second messages while it holds doubles, because NATS would delete the first", func() {
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		for range 2 {
			_, err := js.Publish(ctx, f.subject+".same", []byte("{}"))
			Expect(err).NotTo(HaveOccurred())
		}
		update(obj, func(o *v1alpha1.AuditStream) { o.Spec.WhenFull = v1alpha1.WhenFullRejectNew })
		awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonInvalidConfiguration)
		Expect(liveStream(f.stream).State.Msgs).To(BeEquivalentTo(2))
	})

	It("stays as it is while suspended, and is put right on resume", func() {
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		suspend(obj)
		tamper(f.stream, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour; c.Duplicates = time.Minute })
		Consistently(func() time.Duration { return liveStream(f.stream).Config.MaxAge }, 500*time.Millisecond).Should(Equal(time.Hour))
		update(obj, func(o *v1alpha1.AuditStream) { o.Spec.Suspend = false })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(liveStream(f.stream).Config.MaxAge).To(Equal(720 * time.Hour))
	})

	Describe("on deletion", func() {
		gone := func(obj *v1alpha1.AuditStream) {
			GinkgoHelper()
			Eventually(func() bool {
				return apierrors.IsNotFound(k8s.Get(ctx, client.ObjectKeyFromObject(obj), obj))
			}).Should(BeTrue())
		}

		It("is kept with Retain", func() {
			obj := f.auditStream("a")
			awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
			Expect(k8s.Delete(ctx, obj)).To(Succeed())
			gone(obj)
			Consistently(func() error { _, err := js.Stream(ctx, f.stream); return err }, 300*time.Millisecond).Should(Succeed())
		})

		It("is deleted with Delete", func() {
			obj := f.auditStream("a", deleting)
			awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
			Expect(obj.Finalizers).To(ConsistOf(Finalizer))
			Expect(k8s.Delete(ctx, obj)).To(Succeed())
			gone(obj)
			_, err := js.Stream(ctx, f.stream)
			Expect(err).To(MatchError(jetstream.ErrStreamNotFound))
		})

		It("is kept when the policy has become Retain", func() {
			obj := f.auditStream("a", deleting)
			awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
			update(obj, func(o *v1alpha1.AuditStream) { o.Spec.DeletionPolicy = v1alpha1.DeletionPolicyRetain })
			awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
			Expect(obj.Finalizers).To(BeEmpty())
			Expect(k8s.Delete(ctx, obj)).To(Succeed())
			gone(obj)
			_, err := js.Stream(ctx, f.stream)
			Expect(err).NotTo(HaveOccurred())
		})

		It("is kept when it is somebody else's", func() {
			owner := f.auditStream("owner")
			awaitReady(owner, metav1.ConditionTrue, v1alpha1.ReasonReady)
			obj := f.auditStream("second", deleting)
			awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonOwnershipConflict)
			Expect(k8s.Delete(ctx, obj)).To(Succeed())
			gone(obj)
			_, err := js.Stream(ctx, f.stream)
			Expect(err).NotTo(HaveOccurred())
			awaitReady(owner, metav1.ConditionTrue, v1alpha1.ReasonReady)
		})
	})
})
