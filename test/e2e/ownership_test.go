package e2e

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

var _ = Describe("Two AuditStreams that declare one stream", Label("ownership"), func() {
	It("do not fight: the owner stays Ready, and the other says who it is until it may take over", func(ctx SpecContext) {
		ns := newNamespace(ctx)
		owner := stream(ctx, ns, "owner")
		Eventually(now(owner), soon).WithContext(ctx).Should(beReady())
		write(ctx, owner, 3)

		By("declaring the same stream again")
		other := stream(ctx, ns, "other", func(s *v1alpha1.AuditStream) {
			s.Spec.Stream, s.Spec.Subject = owner.Spec.Stream, owner.Spec.Subject
		})
		Eventually(now(other), soon).WithContext(ctx).Should(SatisfyAll(
			haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonOwnershipConflict),
			haveCondition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonOwnershipConflict),
			say(v1alpha1.ConditionReady, ns+"/owner"),
		))
		Consistently(now(owner), aWhile).WithContext(ctx).Should(beReady())

		By("removing the owner: the stream keeps its claim")
		Expect(env.k8s.Delete(ctx, owner)).To(Succeed())
		Eventually(gone(owner), soon).WithContext(ctx).Should(BeTrue())
		Consistently(now(other), aWhile).WithContext(ctx).ShouldNot(beReady())

		By("permitting the adoption")
		edit(ctx, other, func(s *v1alpha1.AuditStream) { s.Spec.AdoptionPolicy = v1alpha1.AdoptionPolicyAdopt })
		Eventually(now(other), soon).WithContext(ctx).Should(beReady())
		live, err := onServer(other)(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(live.Config.Metadata).To(HaveKeyWithValue("audit.osapi.io/owner", HaveSuffix("/"+ns+"/other")))
		Expect(live.State.Msgs).To(BeEquivalentTo(3), "its entries are still there")
	}, SpecTimeout(journeyTimeout))
})
