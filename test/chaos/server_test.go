package chaos

import (
	"context"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// pause is how long an operator is held up: so many are longer than the time between two checkpoints, and one is much shorter than
// it waits for an acknowledgement.
const (
	pause  = 1500 * time.Millisecond
	pauses = 4
)

var _ = Describe("Every entry is copied exactly once", Ordered, ContinueOnFailure, func() {
	var s *servers

	BeforeAll(func(ctx SpecContext) { s = startServers(ctx, 1) }, NodeTimeout(specTimeout))

	BeforeEach(func(ctx SpecContext) { s.restore(ctx) }, NodeTimeout(eventually))

	It("when the operator is killed again and again", func(ctx SpecContext) {
		operator := startOperator(ctx, s)
		moments := marks(3)
		m := migrate(ctx, s, moments...)
		for range moments {
			m.at(ctx, func() { Expect(operator.Kill()).To(Succeed()) })
			operator = startOperator(ctx, s)
		}
		By("when the last entry is there, which is before or in the verification")
		m.finish()
		Eventually(m.stored).WithContext(ctx).WithPolling(poll / 10).Should(Equal(env.entries))
		Expect(operator.Kill()).To(Succeed())
		startOperator(ctx, s)
		m.expectExactlyOnce(ctx)
	}, SpecTimeout(specTimeout))

	It("when the operator is killed after it has stored a checkpoint", func(ctx SpecContext) {
		operator := startOperator(ctx, s)
		m := migrate(ctx, s, marks(pauses + 1)[:pauses]...)
		for range pauses {
			m.at(ctx, func() { hold(ctx, operator) })
		}
		Eventually(m.checkpoint).WithContext(ctx).Should(BeNumerically(">", 0))
		Expect(operator.Kill()).To(Succeed())
		startOperator(ctx, s)
		m.expectExactlyOnce(ctx)
	}, SpecTimeout(specTimeout))

	It("when nats-server is killed", func(ctx SpecContext) {
		operator := startOperator(ctx, s)
		moments := marks(2)
		m := migrate(ctx, s, moments...)
		for range moments {
			m.at(ctx, func() { s.kill(s.all[0]) })
			s.restore(ctx)
		}
		m.expectExactlyOnce(ctx)
		Expect(running(operator)).To(Succeed())
	}, SpecTimeout(specTimeout))

	It("when the API server is killed", func(ctx SpecContext) {
		if env.cp.Existing() {
			Skip("the API server of an existing cluster is not ours to kill")
		}
		operator := startOperator(ctx, s)
		m := migrate(ctx, s, marks(1)...)
		m.at(ctx, func() { Expect(env.cp.KillAPIServer(ctx)).To(Succeed()) })
		Expect(env.cp.RestartAPIServer(ctx)).To(Succeed())
		m.expectExactlyOnce(ctx)
		Expect(running(operator)).To(Succeed())
	}, SpecTimeout(specTimeout))

	It("when the resource is deleted and applied again", func(ctx SpecContext) {
		startOperator(ctx, s)
		moments := marks(2)
		m := migrate(ctx, s, moments...)
		again := func() {
			m.remove(ctx)
			Eventually(m.gone).WithContext(ctx).Should(Succeed())
			m.apply(ctx)
		}
		for range moments {
			m.at(ctx, again)
		}
		m.expectExactlyOnce(ctx)

		By("deleting and applying it after the end")
		again()
		m.expectExactlyOnce(ctx)

		By("deleting and applying it after maxBytes has removed entries")
		left := m.trim(ctx)
		again()
		m.expectNothingBack(ctx, left)
	}, SpecTimeout(specTimeout))

	Context("with two operators", func() {
		It("when the leader is frozen, and goes on beside its successor", func(ctx SpecContext) {
			first, second := startPair(ctx, s)
			m := migrate(ctx, s, marks(2)...)
			m.takeOver(ctx, first)
			m.at(ctx, func() { thaw(first) })
			Eventually(first.Done()).WithContext(ctx).Should(BeClosed(), "it does not lead any more")
			startOperator(ctx, s, elected...)
			m.expectExactlyOnce(ctx)
			Expect(running(second)).To(Succeed())
		}, SpecTimeout(specTimeout))

		It("when the leader is frozen, and goes on after its successor has finished", func(ctx SpecContext) {
			first, second := startPair(ctx, s)
			m := migrate(ctx, s, marks(1)...)
			m.takeOver(ctx, first)
			m.expectExactlyOnce(ctx)
			thaw(first)
			Eventually(first.Done()).WithContext(ctx).Should(BeClosed(), "it does not lead any more")
			m.expectExactlyOnce(ctx)
			Expect(running(second)).To(Succeed())

			By("starting an operator that knows only what is stored, after maxBytes has removed entries")
			left := m.trim(ctx)
			Expect(second.Kill()).To(Succeed())
			m.remove(ctx)
			Eventually(m.takeFinalizers).WithContext(ctx).Should(Succeed())
			m.apply(ctx)
			startOperator(ctx, s)
			m.expectNothingBack(ctx, left)
		}, SpecTimeout(specTimeout))
	})
})

// elected are the arguments of operators of which one works and the others wait.
var elected = []string{"--leader-elect", "--leader-election-namespace=" + testenv.OperatorNamespace}

// startPair starts an operator that leads, and another one that waits for its lease.
func startPair(ctx context.Context, s *servers) (leader, follower *testenv.Manager) {
	GinkgoHelper()
	leases := client.InNamespace(testenv.OperatorNamespace)
	Expect(client.IgnoreNotFound(env.k8s.DeleteAllOf(ctx, &coordinationv1.Lease{}, leases))).To(Succeed())
	leader = startOperator(ctx, s, elected...)
	Eventually(holder).WithContext(ctx).ShouldNot(BeEmpty())
	return leader, startOperator(ctx, s, elected...)
}

// holder names the operator that leads.
func holder(ctx context.Context) (string, error) {
	leases := &coordinationv1.LeaseList{}
	if err := env.k8s.List(ctx, leases, client.InNamespace(testenv.OperatorNamespace)); err != nil || len(leases.Items) == 0 {
		return "", err
	}
	if id := leases.Items[0].Spec.HolderIdentity; id != nil {
		return *id, nil
	}
	return "", nil
}

// takeOver freezes the leader at the next mark, as a node that hangs does, and returns when the other one leads.
func (m *migration) takeOver(ctx context.Context, leader *testenv.Manager) {
	GinkgoHelper()
	before, err := holder(ctx)
	Expect(err).NotTo(HaveOccurred())
	m.at(ctx, func() { freeze(leader) })
	By("waiting for the other operator to lead")
	Eventually(holder).WithContext(ctx).ShouldNot(Or(BeEmpty(), Equal(before)))
}

// hold keeps an operator from going on for a while.
func hold(ctx context.Context, operator *testenv.Manager) {
	GinkgoHelper()
	freeze(operator)
	defer thaw(operator)
	By("holding it up for " + pause.String())
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}

func freeze(operator *testenv.Manager) {
	GinkgoHelper()
	Expect(syscall.Kill(operator.Pid(), syscall.SIGSTOP)).To(Succeed())
}

func thaw(operator *testenv.Manager) {
	GinkgoHelper()
	Expect(syscall.Kill(operator.Pid(), syscall.SIGCONT)).To(Succeed())
}
