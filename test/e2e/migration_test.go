package e2e

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

var _ = Describe("Moving a legacy bucket", Label("migration"), func() {
	It("loses and doubles nothing when the operator is killed in the middle of 50,000 entries", Label("restart"), func(ctx SpecContext) {
		const entries = 50_000
		ns := newNamespace(ctx)
		bucket := bucketOf(ns)
		legacy := testenv.LegacyBucket{Name: bucket, Entries: entries}
		fill(ctx, legacy)
		var keys []string
		for key := range legacy.All() {
			keys = append(keys, key)
		}
		gate := startGate()
		stopOperator(ctx)
		s := stream(ctx, ns, "killed", migrateFrom(bucket))

		for _, mark := range []int{1, entries / 3} { // how many are there when it is killed
			gate.HoldBack("HPUB " + s.Spec.Subject + "." + keys[mark] + " ")
			startOperator(ctx, "--nats-url="+gate.URL())
			Eventually(gate.Held(), withinAMinute).WithContext(ctx).Should(BeClosed(), "the copy does not reach %d entries", mark)
			Eventually(onServer(s), soon).WithContext(ctx).Should(HaveField("State.Msgs", BeEquivalentTo(mark)))
			Expect(env.operator.Kill()).To(Succeed())
			Expect(onServer(s)(ctx)).To(HaveField("State.Msgs", BeEquivalentTo(mark)), "killed in the middle")
			gate.Open()
		}
		startOperator(ctx)

		Eventually(now(s), withinAMinute).WithContext(ctx).Should(beMigrated())
		Expect(holdsBucket(s, bucket)(ctx)).To(Succeed())
	}, SpecTimeout(journeyTimeout))

	It("waits for a bucket that does not exist, says so, and follows those who still write to it", func(ctx SpecContext) {
		ns := newNamespace(ctx)
		bucket := bucketOf(ns)
		s := stream(ctx, ns, "late", migrateFrom(bucket))
		Eventually(now(s), soon).WithContext(ctx).Should(SatisfyAll(
			haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBucketNotFound),
			haveCondition(v1alpha1.ConditionMigrated, metav1.ConditionFalse, v1alpha1.ReasonBucketNotFound),
			say(v1alpha1.ConditionMigrated, bucket),
		))

		By("creating the bucket")
		fill(ctx, testenv.LegacyBucket{Name: bucket, Entries: 100, Seed: 1})
		Eventually(now(s), withinAMinute).WithContext(ctx).Should(beMigrated())
		Expect(holdsBucket(s, bucket)(ctx)).To(Succeed())

		By("writing to it after it was moved")
		fill(ctx, testenv.LegacyBucket{Name: bucket, Entries: 50, Seed: 2})
		Eventually(holdsBucket(s, bucket), soon).WithContext(ctx).Should(Succeed())
		live, err := onServer(s)(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(live.State.Msgs).To(BeEquivalentTo(150))
		Eventually(now(s), soon).WithContext(ctx).Should(beMigrated())
	}, SpecTimeout(journeyTimeout))
})
