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
		var leader *testenv.NATSServer
		m.at(ctx, func() { leader = m.killLeader(ctx, led(m)) })
		m.awaitAnother(ctx, led(m), leader)
		s.restore(ctx)
		m.expectExactlyOnce(ctx)
		Expect(running(operator)).To(Succeed())
	},
		Entry("of the stream", (*migration).stream, SpecTimeout(specTimeout)),
		Entry("of the bucket", bucketStream, SpecTimeout(specTimeout)),
	)

	It("when one thing fails after the other", func(ctx SpecContext) {
		operator := startOperator(ctx, s)
		faults := []struct {
			what     string
			operator bool
			leader   func(*migration) string
		}{
			{"the operator is killed", true, nil},
			{"the leader of the stream is killed", false, (*migration).stream},
			{"the leader of the bucket is killed, and the operator with it", true, bucketStream},
		}
		order := dice().Perm(len(faults))
		m := migrate(ctx, s, marks(len(faults))...)
		for _, i := range order {
			fault := faults[i]
			var leader *testenv.NATSServer
			m.at(ctx, func() {
				By(fault.what)
				if fault.operator {
					Expect(operator.Kill()).To(Succeed())
				}
				if fault.leader != nil {
					leader = m.killLeader(ctx, fault.leader(m))
				}
			})
			if leader != nil {
				m.awaitAnother(ctx, fault.leader(m), leader)
			}
			if fault.operator {
				operator = startOperator(ctx, s)
			}
			s.restore(ctx)
		}
		m.expectExactlyOnce(ctx)
		Expect(running(operator)).To(Succeed())
	}, SpecTimeout(specTimeout))
})

// killLeader kills the server that leads the stream or the bucket.
func (m *migration) killLeader(ctx context.Context, stream string) (leader *testenv.NATSServer) {
	GinkgoHelper()
	Eventually(func(ctx context.Context) (err error) {
		leader, err = m.leader(ctx, stream)
		return err
	}).WithContext(ctx).Should(Succeed())
	m.kill(leader)
	return leader
}

// awaitAnother returns when another server leads than the one that was killed.
func (m *migration) awaitAnother(ctx context.Context, stream string, killed *testenv.NATSServer) {
	GinkgoHelper()
	By("waiting for another leader than " + killed.Name())
	Eventually(func(ctx context.Context) error {
		next, err := m.leader(ctx, stream)
		if err == nil && next == killed {
			return errors.New("it leads still")
		}
		return err
	}).WithContext(ctx).Should(Succeed())
}
