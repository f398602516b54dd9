package e2e

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

var _ = Describe("An outage", Label("outage"), func() {
	It("of NATS at the operator's start is waited for", Label("restart"), func(ctx SpecContext) {
		ns := newNamespace(ctx)
		stopOperator(ctx)
		Expect(env.nats.Kill()).To(Succeed())
		startOperator(ctx)
		pid := env.operator.Pid()
		s := stream(ctx, ns, "waiting")

		Eventually(now(s), withinAMinute).WithContext(ctx).Should(beUnavailable())
		Expect(env.operator.Healthy(ctx)).To(Succeed())
		Expect(env.operator.Ready(ctx)).NotTo(Succeed())

		Expect(env.nats.Restart(ctx)).To(Succeed())
		Eventually(now(s), withinAMinute).WithContext(ctx).Should(beReady())
		Eventually(env.operator.Ready, soon).WithContext(ctx).Should(Succeed())
		Expect(stillUp(pid)).To(Succeed())
	}, SpecTimeout(journeyTimeout))

	It("of NATS is reported, and over within a minute without a restart of the operator", func(ctx SpecContext) {
		ns := newNamespace(ctx)
		pid := env.operator.Pid()
		streams := []*v1alpha1.AuditStream{stream(ctx, ns, "one"), stream(ctx, ns, "two"), stream(ctx, ns, "three")}
		for _, s := range streams {
			Eventually(now(s), soon).WithContext(ctx).Should(beReady())
		}

		Expect(env.nats.Kill()).To(Succeed())
		for _, s := range streams {
			Eventually(now(s), withinAMinute).WithContext(ctx).Should(beUnavailable())
		}
		Eventually(env.operator.Ready, soon).WithContext(ctx).ShouldNot(Succeed())
		Consistently(env.operator.Healthy, aWhile).WithContext(ctx).Should(Succeed())

		Expect(env.nats.Restart(ctx)).To(Succeed())
		back := time.Now()
		for _, s := range streams {
			Eventually(now(s), withinAMinute-time.Since(back)).WithContext(ctx).Should(beReady())
		}
		GinkgoWriter.Printf("All were Ready %s after NATS was back\n", time.Since(back).Round(time.Millisecond))
		Eventually(env.operator.Ready, soon).WithContext(ctx).Should(Succeed())
		Expect(stillUp(pid)).To(Succeed())
	}, SpecTimeout(journeyTimeout))

	It("of the API server is survived by the same operator process", func(ctx SpecContext) {
		if env.cp.Existing() {
			Skip("the API server of an existing cluster is not ours to kill")
		}
		ns := newNamespace(ctx)
		pid := env.operator.Pid()
		before := stream(ctx, ns, "before")
		Eventually(now(before), soon).WithContext(ctx).Should(beReady())

		Expect(env.cp.RestartAPIServer(ctx)).To(Succeed())

		after := stream(ctx, ns, "after")
		Eventually(now(after), withinAMinute).WithContext(ctx).Should(beReady())
		edit(ctx, before, func(s *v1alpha1.AuditStream) { s.Spec.MaxAge = "60d" })
		Eventually(now(before), withinAMinute).WithContext(ctx).Should(beReady())
		Expect(stillUp(pid)).To(Succeed())
	}, SpecTimeout(journeyTimeout))

	It("of NATS lets a resource with Retain go at once, and makes one with Delete wait", func(ctx SpecContext) {
		ns := newNamespace(ctx)
		retained := stream(ctx, ns, "retained")
		deleted := stream(ctx, ns, "deleted", deletionPolicy(v1alpha1.DeletionPolicyDelete))
		for _, s := range []*v1alpha1.AuditStream{retained, deleted} {
			Eventually(now(s), soon).WithContext(ctx).Should(beReady())
		}

		Expect(env.nats.Kill()).To(Succeed())
		Expect(env.k8s.Delete(ctx, retained)).To(Succeed())
		Expect(env.k8s.Delete(ctx, deleted)).To(Succeed())
		Eventually(gone(retained), 2*time.Second).WithContext(ctx).Should(BeTrue())
		Consistently(gone(deleted), aWhile).WithContext(ctx).Should(BeFalse())

		Expect(env.nats.Restart(ctx)).To(Succeed())
		Eventually(gone(deleted), withinAMinute).WithContext(ctx).Should(BeTrue())
		Expect(noStream(deleted)(ctx)).To(beStreamNotFound())
		Expect(onServer(retained)(ctx)).NotTo(BeNil())
	}, SpecTimeout(journeyTimeout))
})

var _ = Describe("Deleting a namespace", Label("deletion"), func() {
	It("keeps the streams of resources with Retain and deletes those with Delete", func(ctx SpecContext) {
		ns := newNamespace(ctx)
		retained := stream(ctx, ns, "retained")
		deleted := stream(ctx, ns, "deleted", deletionPolicy(v1alpha1.DeletionPolicyDelete))
		for _, s := range []*v1alpha1.AuditStream{retained, deleted} {
			Eventually(now(s), soon).WithContext(ctx).Should(beReady())
		}
		write(ctx, retained, 3)

		namespace := &corev1.Namespace{}
		namespace.Name = ns
		Expect(env.k8s.Delete(ctx, namespace)).To(Succeed())
		Eventually(func(ctx context.Context) error {
			return env.k8s.Get(ctx, client.ObjectKeyFromObject(namespace), &corev1.Namespace{})
		}, withinAMinute).WithContext(ctx).Should(beNotFound())

		Expect(noStream(deleted)(ctx)).To(beStreamNotFound())
		live, err := onServer(retained)(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(live.State.Msgs).To(BeEquivalentTo(3))
	}, SpecTimeout(journeyTimeout))
})
