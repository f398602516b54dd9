package controller

import (
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

var _ = Describe("Ownership of a stream", func() {
	var f fixture
	BeforeEach(func() { f = newFixture() })

	foreign := func(change ...func(*jetstream.StreamConfig)) {
		GinkgoHelper()
		cfg := jetstream.StreamConfig{Name: f.stream, Subjects: []string{f.subject + ".>"}}
		for _, c := range change {
			c(&cfg)
		}
		_, err := js.CreateStream(ctx, cfg)
		Expect(err).NotTo(HaveOccurred())
		_, err = js.Publish(ctx, f.subject+".old", []byte("{}"))
		Expect(err).NotTo(HaveOccurred())
	}

	It("is the first one's: the second is stalled, names the owner, and leaves the stream alone", func() {
		owner := f.auditStream("owner")
		awaitReady(owner, metav1.ConditionTrue, v1alpha1.ReasonReady)
		second := f.auditStream("second", adopting, func(o *v1alpha1.AuditStream) { o.Spec.MaxAge = "1d" })
		ready := awaitReady(second, metav1.ConditionFalse, v1alpha1.ReasonOwnershipConflict)
		Expect(ready.Message).To(ContainSubstring("owned by AuditStream " + f.namespace + "/owner"))
		awaitCondition(second, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonOwnershipConflict)
		awaitReady(owner, metav1.ConditionTrue, v1alpha1.ReasonReady)

		By("going over once the owner is gone, to one that may adopt")
		Expect(k8s.Delete(ctx, owner)).To(Succeed())
		awaitReady(second, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(liveStream(f.stream).Config.Metadata[jsbuilder.MetadataOwner]).To(HaveSuffix("/second"))
	})

	It("stays with the name: a resource that is created again owns its stream again", func() {
		first := f.auditStream("a")
		awaitReady(first, metav1.ConditionTrue, v1alpha1.ReasonReady)
		created := liveStream(f.stream).Created
		Expect(k8s.Delete(ctx, first)).To(Succeed())
		again := f.auditStream("a")
		awaitReady(again, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(liveStream(f.stream).Created).To(Equal(created))
	})

	It("is not taken over from a gone owner without Adopt", func() {
		first := f.auditStream("a")
		awaitReady(first, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(k8s.Delete(ctx, first)).To(Succeed())
		second := f.auditStream("b")
		ready := awaitReady(second, metav1.ConditionFalse, v1alpha1.ReasonStreamNotOwned)
		Expect(ready.Message).To(And(ContainSubstring(f.namespace+"/a"), ContainSubstring("spec.adoptionPolicy")))
	})

	It("of an unowned stream is not assumed", func() {
		foreign()
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonStreamNotOwned)
		Expect(liveStream(f.stream).Config.Metadata).NotTo(HaveKey(jsbuilder.MetadataOwner))
	})

	It("of an unowned stream is taken with Adopt, and its entries stay", func() {
		foreign()
		obj := f.auditStream("a", adopting)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		live := liveStream(f.stream)
		Expect(live.Config.Metadata[jsbuilder.MetadataOwner]).To(HaveSuffix("/a"))
		Expect(live.Config.DenyDelete).To(BeTrue())
		Expect(live.State.Msgs).To(BeEquivalentTo(1))
		Eventually(func() []string { return eventsOf(obj) }).Should(ContainElement(HavePrefix("Normal StreamAdopted: ")))
	})

	It("is not taken where NATS cannot make the stream what is declared", func() {
		foreign(func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage })
		obj := f.auditStream("a", adopting)
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonImmutableField)
		Expect(ready.Message).To(ContainSubstring("storage (is memory, declared file)"))
		Expect(liveStream(f.stream).Config.Metadata).NotTo(HaveKey(jsbuilder.MetadataOwner))
	})

	It("of another cluster is respected", func() {
		foreign(func(c *jetstream.StreamConfig) {
			c.Metadata = map[string]string{jsbuilder.MetadataOwner: "another-cluster/ns/name"}
		})
		obj := f.auditStream("a", adopting)
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonOwnershipConflict)
		Expect(ready.Message).To(ContainSubstring("another cluster"))
	})

	It("goes to exactly one of two resources that are applied at once", func() {
		foreign()
		a, b := f.auditStream("a", adopting), f.auditStream("b", adopting)
		Eventually(func(g Gomega) {
			ready := 0
			for _, o := range []*v1alpha1.AuditStream{a, b} {
				g.Expect(k8s.Get(ctx, clientKey(o), o)).To(Succeed())
				expectRules(g, o)
				g.Expect(o.Status.ObservedGeneration).To(Equal(o.Generation))
				if isReady(o) {
					ready++
				}
			}
			g.Expect(ready).To(Equal(1))
		}).Should(Succeed())
	})
})
