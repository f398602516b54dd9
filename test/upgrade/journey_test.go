package upgrade

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
	"github.com/osapi-io/auditstream-operator/test/baddays/cluster"
)

const (
	namespace = "payments"
	bucket    = "payments-audit-log"
	// moved is how many entries the legacy bucket holds.
	moved = 1000

	live0     = "live" // the one that the service uses
	migrated  = "migrated"
	suspended = "suspended"
	locked    = "locked"
	deleting  = "deleting"
	dryRun    = "dry-run"
)

// declared are the resources by what is particular about them.
var declared = map[string]func(*v1alpha1.AuditStreamSpec){
	live0: func(spec *v1alpha1.AuditStreamSpec) {
		size := resource.MustParse("64Mi")
		spec.MaxBytes, spec.WhenFull = &size, v1alpha1.WhenFullRejectNew
	},
	migrated: func(spec *v1alpha1.AuditStreamSpec) {
		spec.MaxAge = ""
		spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: bucket}}
	},
	suspended: func(*v1alpha1.AuditStreamSpec) {},
	locked:    func(spec *v1alpha1.AuditStreamSpec) { spec.RetentionLock = v1alpha1.RetentionLockCompliance },
	deleting:  func(spec *v1alpha1.AuditStreamSpec) { spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete },
	dryRun: func(spec *v1alpha1.AuditStreamSpec) {
		spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: "dry-" + bucket, DryRun: true}}
	},
}

// lookedAfter are the resources whose streams are kept as declared.
var lookedAfter = []string{live0, migrated, locked, deleting}

var _ = Describe("Upgrading the operator", func() {
	It("takes over from the previous release and hands back, and no stream is touched", func(ctx SpecContext) {
		By("installing the previous release, and using it")
		Expect(env.Install(ctx, env.previous)).To(Succeed())
		var err error
		env.account, err = env.OperatorKubeconfig(ctx)
		Expect(err).NotTo(HaveOccurred())
		old := startManager(ctx, previousRelease)
		declareAll(ctx)
		before := snapshot(ctx)
		happened := watchStreams()
		store, err := auditstore.New(ctx, env.JS, auditstore.Config{Stream: "LIVE", Subject: "live"})
		Expect(err).NotTo(HaveOccurred())
		users := startService(ctx, store)
		DeferCleanup(users.end)
		watched := watchReady(ctx)

		By("applying this tree's CRD and roles while the previous release runs")
		Expect(env.Install(ctx, env.root)).To(Succeed())
		expectGoesOn(ctx, users)

		By("rolling the manager over to this release")
		now := startManager(ctx, thisRelease)
		Expect(old.Stop(ctx)).To(Succeed())
		expectTakenOver(ctx)
		Expect(snapshot(ctx)).To(Equal(before))
		expectCopyIntact(ctx)

		By("rolling it back with the new CRD in place, and then the CRD")
		old = startManager(ctx, previousRelease)
		Expect(now.Stop(ctx)).To(Succeed())
		expectHandedBack(ctx)
		Expect(env.Install(ctx, env.previous)).To(Succeed())
		expectHandedBack(ctx)
		Expect(snapshot(ctx)).To(Equal(before))
		expectCopyIntact(ctx)
		Expect(get(ctx, migrated).Status.MigrationProgress).To(BeEmpty(), "the old CRD has no such field")

		By("upgrading for good, and letting a resource go")
		Expect(env.Install(ctx, env.root)).To(Succeed())
		startManager(ctx, thisRelease)
		Expect(old.Stop(ctx)).To(Succeed())
		expectTakenOver(ctx)
		Expect(snapshot(ctx)).To(Equal(before))
		for _, subject := range happened.seen() {
			Expect(subject).NotTo(SatisfyAny(HavePrefix("CREATED."), HavePrefix("DELETED.")), "streams were made or deleted")
		}

		By("ending the service: none of its calls has failed, and what was acknowledged is there once")
		stored := users.end()
		Expect(users.failed()).NotTo(HaveOccurred())
		expectStoredOnce(ctx, store, stored)
		AddReportEntry(fmt.Sprintf("%d entries were written and %d pages read over three changes of the operator; what was done to streams: %s",
			len(stored), users.pages, count(happened.seen())))
		Expect(watched.lapses()).To(BeEmpty(), "a resource was taken for not ready")
	}, SpecTimeout(journeyTimeout))
})

// declareAll applies the resources and returns once each is as it should be under the previous release.
func declareAll(ctx context.Context) {
	GinkgoHelper()
	Expect(env.K8s.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})).To(Succeed())
	for name, entries := range map[string]int{bucket: moved, "dry-" + bucket: 10} {
		Expect(testenv.FillLegacyBucket(ctx, env.JS, testenv.LegacyBucket{Name: name, Entries: entries})).To(Succeed())
	}
	for name, change := range declared {
		obj := cluster.AuditStream(namespace, name)
		change(&obj.Spec)
		Expect(env.K8s.Create(ctx, obj)).To(Succeed())
	}
	for name := range declared {
		Eventually(ready(name), soon).WithContext(ctx).Should(HavePrefix(expected(name, false)), name)
		spec := get(ctx, name).Spec
		if name != migrated {
			write(ctx, spec.Subject, 3)
		}
		addAuditor(ctx, spec.Stream)
	}
	obj := get(ctx, suspended)
	base := obj.DeepCopy()
	obj.Spec.Suspend = true
	Expect(env.K8s.Patch(ctx, obj, client.MergeFrom(base))).To(Succeed())
	Eventually(ready(suspended), soon).WithContext(ctx).Should(HavePrefix(expected(suspended, true)))
}

// expected is how Ready begins.
func expected(name string, isSuspended bool) string {
	switch {
	case name == suspended && isSuspended:
		return "False " + v1alpha1.ReasonSuspended
	case name == dryRun:
		return "False " + v1alpha1.ReasonDryRun
	}
	return "True " + v1alpha1.ReasonReady
}

func get(ctx context.Context, name string) *v1alpha1.AuditStream {
	GinkgoHelper()
	obj := &v1alpha1.AuditStream{}
	Expect(env.K8s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, obj)).To(Succeed())
	return obj
}

// ready is the condition Ready of the latest generation.
func ready(name string) func(context.Context) string {
	return func(ctx context.Context) string {
		obj := &v1alpha1.AuditStream{}
		if err := env.K8s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, obj); err != nil {
			return err.Error()
		}
		c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionReady)
		if c == nil || c.ObservedGeneration != obj.Generation {
			return "not of this generation"
		}
		return string(c.Status) + " " + c.Reason + ": " + c.Message
	}
}

func snapshot(ctx context.Context) map[string]facts {
	GinkgoHelper()
	all := map[string]facts{}
	for name := range declared {
		all[name] = factsOf(ctx, name)
	}
	return all
}

// expectTakenOver is that this release keeps the streams, and that status has what it adds.
func expectTakenOver(ctx context.Context) {
	GinkgoHelper()
	expectHandedBack(ctx)
	Eventually(func(ctx context.Context) (v1alpha1.AuditStreamStatus, error) {
		obj := &v1alpha1.AuditStream{}
		err := env.K8s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: migrated}, obj)
		return obj.Status, err
	}, soon).WithContext(ctx).Should(SatisfyAll(
		HaveField("MigrationProgress", "True"),
		HaveField("Migration", ConsistOf(SatisfyAll(
			HaveField("Phase", v1alpha1.MigrationComplete),
			HaveField("Total", BeEquivalentTo(moved)), HaveField("Migrated", BeEquivalentTo(moved)),
			HaveField("Remaining", BeZero()), HaveField("Mismatched", BeZero()),
		))),
	))
}

// expectHandedBack is that the operator, of whichever release, keeps the streams.
func expectHandedBack(ctx context.Context) {
	GinkgoHelper()
	for _, name := range lookedAfter {
		expectLookedAfter(ctx, name)
	}
	for name := range declared {
		Eventually(ready(name), soon).WithContext(ctx).Should(HavePrefix(expected(name, true)), name)
	}
}

// expectCopyIntact is that nothing was copied again: each of the bucket's entries is in the stream once, and nothing else is.
func expectCopyIntact(ctx context.Context) {
	GinkgoHelper()
	c, err := testenv.Compare(ctx, env.JS, bucket, "MIGRATED", "migrated")
	Expect(err).NotTo(HaveOccurred())
	Expect(c.Err()).NotTo(HaveOccurred())
	Expect(c.StreamEntries).To(Equal(moved))
}

// expectGoesOn is that the service goes on writing and reading.
func expectGoesOn(ctx context.Context, s *service) {
	GinkgoHelper()
	entries, pages := s.soFar()
	Eventually(func() bool {
		e, p := s.soFar()
		return e > entries+10 && p > pages+10
	}, soon).WithContext(ctx).Should(BeTrue())
}

func expectStoredOnce(ctx context.Context, store auditstore.Store, ids []string) {
	GinkgoHelper()
	entries, err := store.ListAll(ctx)
	Expect(err).NotTo(HaveOccurred())
	times := map[string]int{}
	for _, e := range entries {
		times[e.ID]++
	}
	Expect(ids).NotTo(BeEmpty())
	for _, id := range ids {
		Expect(times).To(HaveKeyWithValue(id, 1))
	}
	Expect(entries).To(HaveLen(len(ids)+3), "the service's, and three from before")
}

// count says how often each subject is there.
func count(subjects []string) string {
	times := map[string]int{}
	for _, s := range subjects {
		times[s]++
	}
	var all []string
	for _, subject := range slices.Sorted(maps.Keys(times)) {
		all = append(all, fmt.Sprintf("%s %d times", subject, times[subject]))
	}
	return strings.Join(all, ", ")
}
