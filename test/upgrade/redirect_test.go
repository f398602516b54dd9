package upgrade

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
	"github.com/osapi-io/auditstream-operator/test/baddays/cluster"
)

var _ = Describe("Going back from a redirected bucket", func() {
	It("to a release that knows no Redirect, once the bucket has its subjects again", func(ctx SpecContext) {
		Expect(env.Install(ctx, env.root)).To(Succeed())
		var err error
		env.account, err = env.OperatorKubeconfig(ctx)
		Expect(err).NotTo(HaveOccurred())
		now := startManager(ctx, thisRelease)
		Expect(env.K8s.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "back"}})).To(Succeed())
		Expect(testenv.FillLegacyBucket(ctx, env.JS, testenv.LegacyBucket{Name: "back", Entries: 10})).To(Succeed())
		obj := cluster.AuditStream("back", "back")
		obj.Spec.MaxAge = ""
		obj.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: "back", AfterMigration: v1alpha1.AfterMigrationRedirect}}
		Expect(env.K8s.Create(ctx, obj)).To(Succeed())
		Eventually(phase, soon).WithContext(ctx).Should(Equal(v1alpha1.MigrationRedirected))
		moved, inBucket := messages(ctx, "BACK"), messages(ctx, "KV_back")
		Expect(moved).To(BeEquivalentTo(10))
		put(ctx, 1)
		Expect(messages(ctx, "BACK")).To(Equal(moved+1), "what is put lands in the stream")
		Expect(messages(ctx, "KV_back")).To(Equal(inBucket))

		By("giving the subjects back before going back")
		base := obj.DeepCopy()
		obj.Spec.MigrateFrom[0].AfterMigration = v1alpha1.AfterMigrationRetain
		Expect(env.K8s.Patch(ctx, obj, client.MergeFrom(base))).To(Succeed())
		Eventually(phase, soon).WithContext(ctx).Should(Equal(v1alpha1.MigrationComplete))
		startManager(ctx, previousRelease)
		Expect(now.Stop(ctx)).To(Succeed())
		Expect(env.Install(ctx, env.previous)).To(Succeed())
		expectLookedAfter(ctx, "back")

		inBucket = messages(ctx, "KV_back")
		put(ctx, 2)
		Expect(messages(ctx, "KV_back")).To(Equal(inBucket+1), "what is put lands in the bucket")
		Eventually(func() uint64 { return messages(ctx, "BACK") }, soon).Should(Equal(moved+2), "and is followed into the stream")
	}, SpecTimeout(journeyTimeout))
})

// phase is where the migration of the resource back stands.
func phase(ctx context.Context) (v1alpha1.MigrationPhase, error) {
	obj := &v1alpha1.AuditStream{}
	err := env.K8s.Get(ctx, client.ObjectKey{Namespace: "back", Name: "back"}, obj)
	if err != nil || len(obj.Status.Migration) != 1 {
		return "", err
	}
	return obj.Status.Migration[0].Phase, nil
}

// put does what a legacy writer does, with an entry of its own for each n.
func put(ctx context.Context, n int) {
	GinkgoHelper()
	kv, err := env.JS.KeyValue(ctx, "back")
	Expect(err).NotTo(HaveOccurred())
	for key, value := range (testenv.LegacyBucket{Entries: 1, Seed: uint64(n)}).All() {
		_, err := kv.Put(ctx, key, value)
		Expect(err).NotTo(HaveOccurred(), fmt.Sprint("entry ", n))
	}
}

func messages(ctx context.Context, stream string) uint64 {
	GinkgoHelper()
	live, err := env.JS.Stream(ctx, stream)
	Expect(err).NotTo(HaveOccurred())
	return live.CachedInfo().State.Msgs
}
