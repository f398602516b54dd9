package baddays

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

var _ = Describe("Two operators that were installed by mistake", func() {
	It("in one namespace: one leads, and the other waits and says for whom", func(ctx SpecContext) {
		ns := newNamespace(ctx, "twice")
		declare(ctx, ns, "twice")

		By("starting the other one")
		other := startOperator(ctx, "other", env.account, testenv.OperatorNamespace)
		DeferCleanup(func(ctx SpecContext) error { return other.Stop(ctx) })
		Eventually(logged("other"), soon).Should(MatchRegexp(`Another operator leads; this one waits.*"leader":"[^"]+"`))
		Consistently(logged("other"), aWhile).ShouldNot(ContainSubstring("Starting workers"))
		expectLookedAfter(ctx, "twice", soon)

		By("stopping the one that leads")
		Expect(env.operator.Stop(ctx)).To(Succeed())
		Eventually(logged("other"), soon).Should(ContainSubstring("Starting workers"))
		expectLookedAfter(ctx, "twice", soon)
		Expect(other.Stop(ctx)).To(Succeed())
		env.operator = startOperator(ctx, "operator", env.account, testenv.OperatorNamespace)
		expectLookedAfter(ctx, "twice", soon)
	}, SpecTimeout(journeyTimeout))

	It("in two namespaces: each says so, and they do not fight", func(ctx SpecContext) {
		ns := newNamespace(ctx, "twofold")
		declare(ctx, ns, "twofold")
		write(ctx, "twofold")
		const second = "second-operator"
		other := startOperator(ctx, second, installAgain(ctx, second), second)
		DeferCleanup(func(ctx SpecContext) error { return other.Stop(ctx) })

		By("waiting for both to say it")
		for name, namespace := range map[string]string{"operator": second, second: testenv.OperatorNamespace} {
			Eventually(logged(name), eventually).Should(MatchRegexp(
				"Another operator leads in this cluster, too: uninstall one of them.*in namespace "+namespace), name)
		}

		By("looking for writes where nothing is to be done")
		expectLookedAfter(ctx, "twofold", soon)
		expectReady(ctx, ns, "twofold")
		Eventually(func() int64 { return get(ctx, ns, "twofold").Status.Stream.Entries }, soon).WithContext(ctx).Should(BeEquivalentTo(3))
		was, wasLive := get(ctx, ns, "twofold"), liveStream(ctx, "twofold")
		Consistently(func() string { return get(ctx, ns, "twofold").ResourceVersion }, aWhile).Should(Equal(was.ResourceVersion))
		Expect(liveStream(ctx, "twofold").Created).To(Equal(wasLive.Created))
		Expect(liveStream(ctx, "twofold").State.Msgs).To(BeEquivalentTo(3))

		By("uninstalling one of them")
		Expect(other.Stop(ctx)).To(Succeed())
		Eventually(logged("operator"), eventually).Should(ContainSubstring("No other operator leads any more"))
		expectLookedAfter(ctx, "twofold", soon)
	}, SpecTimeout(journeyTimeout))
})

// installAgain gives a service account of another namespace what the operator has, as an installation under another name does,
// and returns its kubeconfig.
func installAgain(ctx context.Context, namespace string) string {
	GinkgoHelper()
	newNamespace(ctx, namespace)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: namespace}}
	Expect(env.K8s.Create(ctx, account)).To(Succeed())
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: namespace}}
	bindings := &rbacv1.ClusterRoleBindingList{}
	Expect(env.K8s.List(ctx, bindings)).To(Succeed())
	for _, binding := range bindings.Items {
		if len(binding.Subjects) != 1 || binding.Subjects[0].Name != testenv.OperatorServiceAccount {
			continue
		}
		again := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: namespace + "-" + binding.Name}, RoleRef: binding.RoleRef, Subjects: subjects,
		}
		Expect(env.K8s.Create(ctx, again)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) error { return env.K8s.Delete(ctx, again) })
	}
	roles := &rbacv1.RoleList{}
	Expect(env.K8s.List(ctx, roles)).To(Succeed())
	for i, role := range roles.Items {
		if role.Namespace != testenv.OperatorNamespace {
			continue
		}
		name := fmt.Sprintf("role-%d", i)
		Expect(env.K8s.Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Rules: role.Rules})).To(Succeed())
		Expect(env.K8s.Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		})).To(Succeed())
	}
	kubeconfig, err := env.CP.ServiceAccountKubeconfig(ctx, namespace, namespace)
	Expect(err).NotTo(HaveOccurred())
	return kubeconfig
}
