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

	BeforeAll(func(ctx SpecContext) { s = startServers(ctx, 3) }, NodeTimeout(specTimeout))

	BeforeEach(func(ctx SpecContext) {
		s.restore(ctx)
		Eventually(s.inStep("KV_" + bucketName)).WithContext(ctx).Should(Succeed())
	}, NodeTimeout(eventually))

	bucketStream := func(*migration) string { return "KV_" + bucketName }

	DescribeTable("when the leader is killed", func(ctx SpecContext, led func(*migration) string) {
		operator := startOperator(ctx, s)
		m := migrate(ctx, s, marks(1)...)
		m.at(ctx, func() { m.killLeader(ctx, led(m)) })
		s.restore(ctx)
		m.expectExactlyOnce(ctx)
		Expect(running(operator)).To(Succeed())
	},
		Entry("of the stream", (*migration).stream, SpecTimeout(specTimeout)),
		Entry("of the bucket", bucketStream, SpecTimeout(specTimeout)),
	)

	It("when one thing fails after the other", func(ctx SpecContext) {
		operator := startOperator(ctx, s)
		var m *migration
		faults := []struct {
			what   string
			strike func()
		}{
			{"the operator is killed", func() {
				Expect(operator.Kill()).To(Succeed())
				operator = startOperator(ctx, s)
			}},
			{"the leader of the stream is killed", func() { m.killLeader(ctx, m.stream()) }},
			{"the leader of the bucket is killed, and the operator with it", func() {
				Expect(operator.Kill()).To(Succeed())
				m.killLeader(ctx, bucketStream(m))
				operator = startOperator(ctx, s)
			}},
		}
		m = migrate(ctx, s, marks(len(faults))...)
		for _, i := range dice().Perm(len(faults)) {
			m.at(ctx, func() {
				By(faults[i].what)
				faults[i].strike()
			})
			s.restore(ctx)
		}
		m.expectExactlyOnce(ctx)
		Expect(running(operator)).To(Succeed())
	}, SpecTimeout(specTimeout))
})

// killLeader kills the server that leads the stream or the bucket, and returns when another one does.
func (m *migration) killLeader(ctx context.Context, stream string) {
	GinkgoHelper()
	var leader *testenv.NATSServer
	Eventually(func(ctx context.Context) (err error) {
		leader, err = m.leader(ctx, stream)
		return err
	}).WithContext(ctx).Should(Succeed())
	m.kill(leader)
	By("waiting for another leader than " + leader.Name())
	Eventually(func(ctx context.Context) error {
		next, err := m.leader(ctx, stream)
		if err == nil && next == leader {
			return errors.New("it leads still")
		}
		return err
	}).WithContext(ctx).Should(Succeed())
}
