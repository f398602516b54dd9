package e2e

import (
	"context"
	"time"

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
		fill(ctx, testenv.LegacyBucket{Name: bucket, Entries: entries})
		s := stream(ctx, ns, "killed", migrateFrom(bucket))

		for _, mark := range []uint64{1, entries / 3} {
			reaches(ctx, s, mark)
			Expect(env.operator.Kill()).To(Succeed())
			live, err := onServer(s)(ctx)
			Expect(err).NotTo(HaveOccurred())
			Expect(live.State.Msgs).To(And(BeNumerically(">=", mark), BeNumerically("<", entries)), "killed in the middle")
			GinkgoWriter.Printf("Killed after %d entries\n", live.State.Msgs)
			startOperator(ctx)
		}

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

// reaches returns at the moment when the stream holds that many entries: a copy is fast, so it asks without a pause.
func reaches(ctx context.Context, s *v1alpha1.AuditStream, entries uint64) {
	GinkgoHelper()
	for deadline := time.Now().Add(withinAMinute); ; {
		live, err := onServer(s)(ctx)
		if err == nil && live.State.Msgs >= entries {
			return
		}
		Expect(time.Now()).To(BeTemporally("<", deadline), "the stream does not reach %d entries", entries)
	}
}
