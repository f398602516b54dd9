package chaos

import (
	"context"
	"errors"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

var _ = Describe("Every entry is copied exactly once between three replicas", Ordered, ContinueOnFailure, func() {
	var s *servers

	BeforeAll(func(ctx SpecContext) { s = startServers(ctx, 3) }, NodeTimeout(eventually))

	BeforeEach(func(ctx SpecContext) {
		s.restore(ctx)
		Eventually(s.inStep("KV_" + bucketName)).WithContext(ctx).Should(Succeed())
	}, NodeTimeout(eventually))

	bucketStream := func(*migration) string { return "KV_" + bucketName }

	DescribeTable("when the leader is killed", func(ctx SpecContext, led func(*migration) string) {
		operator := startOperator(ctx, s)
		m := migrate(ctx, s)
		m.reaches(ctx, marks(1)[0])
		m.killLeader(ctx, led(m))
		s.restore(ctx)
		m.expectExactlyOnce(ctx)
		Expect(running(operator)).To(Succeed())
	},
		Entry("of the stream", (*migration).stream, SpecTimeout(specTimeout)),
		Entry("of the bucket", bucketStream, SpecTimeout(specTimeout)),
	)

	It("when one thing fails after the other", func(ctx SpecContext) {
		operator := startOperator(ctx, s)
		m := migrate(ctx, s)
		faults := []struct {
			what   string
			strike func()
		}{
			{"the operator is killed", func() {
				Expect(operator.Kill()).To(Succeed())
				m.incomplete(ctx)
				operator = startOperator(ctx, s)
			}},
			{"the leader of the stream is killed", func() { m.killLeader(ctx, m.stream()) }},
			{"the leader of the bucket is killed, and the operator with it", func() {
				Expect(operator.Kill()).To(Succeed())
				m.killLeader(ctx, "KV_"+bucketName)
				operator = startOperator(ctx, s)
			}},
		}
		order := dice().Perm(len(faults))
		for i, mark := range marks(len(faults)) {
			m.reaches(ctx, mark)
			By(faults[order[i]].what)
			faults[order[i]].strike()
			s.restore(ctx)
		}
		m.expectExactlyOnce(ctx)
		Expect(running(operator)).To(Succeed())
	}, SpecTimeout(specTimeout))
})

// killLeader kills the server that leads the stream or the bucket in the middle of the copy, and returns when another one
// does.
func (m *migration) killLeader(ctx context.Context, stream string) {
	GinkgoHelper()
	var leader *testenv.NATSServer
	Eventually(func(ctx context.Context) (err error) {
		leader, err = m.leader(ctx, stream)
		return err
	}).WithContext(ctx).Should(Succeed())
	m.kill(leader)
	// Where the other stream still has its leader, the copy may go on: what has been read ahead is enough for a while.
	m.incomplete(ctx)
	By("waiting for another leader than " + leader.Name())
	Eventually(func(ctx context.Context) error {
		next, err := m.leader(ctx, stream)
		if err == nil && next == leader {
			return errors.New("it leads still")
		}
		return err
	}).WithContext(ctx).Should(Succeed())
}
