package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

const declaredMaxAge = 30 * 24 * time.Hour

var _ = Describe("Changing the stream behind the operator's back", Label("drift"), func() {
	It("is put right at once, and reported", func(ctx SpecContext) {
		s := stream(ctx, newNamespace(ctx), "drifting")
		Eventually(now(s), soon).WithContext(ctx).Should(beReady())

		setMaxAge(ctx, s, time.Hour)
		began := time.Now()
		Eventually(maxAge(s), soon).WithContext(ctx).WithPolling(5 * time.Millisecond).Should(Equal(declaredMaxAge))
		GinkgoWriter.Printf("Healed after %s\n", time.Since(began).Round(time.Millisecond))
		Eventually(eventsOf(s), soon).WithContext(ctx).Should(ContainElement(HavePrefix("Warning " + v1alpha1.ReasonDriftHealed + ": ")))
	}, SpecTimeout(journeyTimeout))

	It("by deleting it has it made again, with the loss said aloud", func(ctx SpecContext) {
		s := stream(ctx, newNamespace(ctx), "deleted")
		Eventually(now(s), soon).WithContext(ctx).Should(beReady())
		write(ctx, s, 3)

		Expect(env.js.DeleteStream(ctx, s.Spec.Stream)).To(Succeed())
		Eventually(now(s), soon).WithContext(ctx).Should(SatisfyAll(
			haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated),
			say(v1alpha1.ConditionReady, "lost"),
			// Three were: what the operator has not counted it must not deny.
			say(v1alpha1.ConditionReady, "when last looked at"),
		))
		Expect(maxAge(s)(ctx)).To(Equal(declaredMaxAge))
		Eventually(eventsOf(s), soon).WithContext(ctx).Should(ContainElement(
			SatisfyAll(HavePrefix("Warning "+v1alpha1.ReasonStreamRecreated+": "), ContainSubstring("lost"))))
	}, SpecTimeout(journeyTimeout))

	It("is left alone while the resource is suspended, and put right afterwards", Label("suspend"), func(ctx SpecContext) {
		s := stream(ctx, newNamespace(ctx), "suspended")
		Eventually(now(s), soon).WithContext(ctx).Should(beReady())

		edit(ctx, s, func(s *v1alpha1.AuditStream) { s.Spec.Suspend = true })
		Eventually(now(s), soon).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSuspended))
		setMaxAge(ctx, s, time.Hour)
		Consistently(maxAge(s), aWhile).WithContext(ctx).Should(Equal(time.Hour))

		edit(ctx, s, func(s *v1alpha1.AuditStream) { s.Spec.Suspend = false })
		Eventually(now(s), soon).WithContext(ctx).Should(beReady())
		Expect(maxAge(s)(ctx)).To(Equal(declaredMaxAge))
	}, SpecTimeout(journeyTimeout))
})

func setMaxAge(ctx context.Context, s *v1alpha1.AuditStream, age time.Duration) {
	GinkgoHelper()
	live, err := onServer(s)(ctx)
	Expect(err).NotTo(HaveOccurred())
	live.Config.MaxAge = age
	_, err = env.js.UpdateStream(ctx, live.Config)
	Expect(err).NotTo(HaveOccurred())
}

func maxAge(s *v1alpha1.AuditStream) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		live, err := onServer(s)(ctx)
		if err != nil {
			return 0, err
		}
		return live.Config.MaxAge, nil
	}
}
