package controller

import (
	"fmt"
	"strings"
	"sync"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/test/argocd"
)

// Each state that a resource can be in has a dump of its name in config/argocd, and here what is concluded from it.
// make argocd-testdata writes the dumps anew; without it they are compared with what is so now.
var _ = Describe("GitOps tools are told that a resource", Serial, func() {
	DescribeTable("is", func(name string, reach func(fixture) *unstructured.Unstructured, want status.Status, health string) {
		f := newFixture()
		u := reach(f)
		result, err := status.Compute(u)
		Expect(err).NotTo(HaveOccurred())
		Expect(result.Status).To(Equal(want), result.Message)
		shown, err := argocd.HealthOf(u.Object)
		Expect(err).NotTo(HaveOccurred())
		Expect(shown.Status).To(Equal(health), shown.Message)
		compareDump(name, f.neutral(u))
	},
		Entry("in progress while it is fresh", "fresh", fresh, status.InProgressStatus, argocd.Progressing),
		Entry("in progress while a change is not taken up", "changed", changed, status.InProgressStatus, argocd.Progressing),
		Entry("in progress while a bucket is copied", "copying", copyHeld, status.InProgressStatus, argocd.Progressing),
		Entry("in progress while a bucket is waited for", "bucket-not-found", bucketNotFound, status.InProgressStatus, argocd.Progressing),
		Entry("in progress while NATS is down", "nats-unavailable", natsUnavailable, status.InProgressStatus, argocd.Progressing),
		Entry("current when it is ready", "ready", ready, status.CurrentStatus, argocd.Healthy),
		Entry("current when its buckets are copied", "migrated", migrated, status.CurrentStatus, argocd.Healthy),
		Entry("current when its stream was made again", "stream-recreated", recreated, status.CurrentStatus, argocd.Healthy),
		Entry("failed when the stream is not its own", "stream-not-owned", notOwned, status.FailedStatus, argocd.Degraded),
		Entry("failed when an entry differs", "entry-mismatch", mismatched, status.FailedStatus, argocd.Degraded),
		Entry("not current while it is suspended", "suspended", suspended, status.InProgressStatus, argocd.Suspended),
		Entry("not current after a dry run", "dry-run", dryRun, status.InProgressStatus, argocd.Suspended),
		Entry("terminating while its stream waits to be deleted", "deleting", beingDeleted, status.TerminatingStatus, argocd.Progressing),
	)
})

// last is the resource as it is now, as a tool that knows no Go type sees it.
func last(obj *v1alpha1.AuditStream, is metav1.ConditionStatus, reason string) *unstructured.Unstructured {
	GinkgoHelper()
	awaitReady(obj, is, reason)
	return revision(obj, func(u *unstructured.Unstructured) bool { return version(u) == version(obj) })
}

// revision is the first of a resource that is as wanted.
func revision(obj *v1alpha1.AuditStream, wanted func(*unstructured.Unstructured) bool) (found *unstructured.Unstructured) {
	GinkgoHelper()
	Eventually(func() *unstructured.Unstructured {
		for _, u := range seen.of(obj.UID) {
			if found == nil && wanted(u) {
				found = u.DeepCopy()
			}
		}
		return found
	}).ShouldNot(BeNil())
	return found
}

func observed(u *unstructured.Unstructured) int64 {
	generation, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	return generation
}

func fresh(f fixture) *unstructured.Unstructured {
	return revision(f.auditStream("api-audit"), func(u *unstructured.Unstructured) bool { return true })
}

func ready(f fixture) *unstructured.Unstructured {
	return last(f.auditStream("api-audit"), metav1.ConditionTrue, v1alpha1.ReasonReady)
}

func changed(f fixture) *unstructured.Unstructured {
	obj := f.auditStream("api-audit")
	awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
	update(obj, func(o *v1alpha1.AuditStream) { o.Spec.MaxAge = "60d" })
	u := revision(obj, func(u *unstructured.Unstructured) bool { return u.GetGeneration() == 2 })
	Expect(observed(u)).To(BeEquivalentTo(1))
	return u
}

// legacy makes the fixture's bucket with entries.
func (f fixture) legacy(entries int) {
	GinkgoHelper()
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: f.bucket})
	Expect(err).NotTo(HaveOccurred())
	for i := range entries {
		_, err := kv.Put(ctx, fmt.Sprintf("id-%d", i), fmt.Appendf(nil, `{"id":"id-%d"}`, i))
		Expect(err).NotTo(HaveOccurred())
	}
}

func copyHeld(f fixture) *unstructured.Unstructured {
	f.legacy(5)
	for range maxCopies { // so that the copy stays where it is
		reconciler.copies.slots <- struct{}{}
	}
	DeferCleanup(sync.OnceFunc(func() {
		for range maxCopies {
			<-reconciler.copies.slots
		}
	}))
	return last(f.auditStream("api-audit", f.migrating), metav1.ConditionFalse, v1alpha1.ReasonMigrating)
}

func bucketNotFound(f fixture) *unstructured.Unstructured {
	return last(f.auditStream("api-audit", f.migrating), metav1.ConditionFalse, v1alpha1.ReasonBucketNotFound)
}

func natsUnavailable(f fixture) *unstructured.Unstructured {
	obj := f.auditStream("api-audit")
	awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
	stopNATS()
	return last(obj, metav1.ConditionFalse, v1alpha1.ReasonNATSUnavailable)
}

// stopNATS has it down until the test is over, which is when the operator has noticed that it is back.
func stopNATS() {
	GinkgoHelper()
	nats.Stop()
	DeferCleanup(func() {
		nats.Restart()
		client, err := reconciler.Pool.Get(reconciler.Connection)
		Expect(err).NotTo(HaveOccurred())
		Eventually(client.Err).Should(Succeed())
	})
}

func migrated(f fixture) *unstructured.Unstructured {
	f.legacy(5)
	return last(f.auditStream("api-audit", f.migrating), metav1.ConditionTrue, v1alpha1.ReasonReady)
}

func recreated(f fixture) *unstructured.Unstructured {
	obj := f.auditStream("api-audit")
	awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
	Expect(js.DeleteStream(ctx, f.stream)).To(Succeed())
	return last(obj, metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated)
}

func (f fixture) foreignStream() {
	GinkgoHelper()
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: f.stream, Subjects: []string{f.subject + ".>"}})
	Expect(err).NotTo(HaveOccurred())
}

func notOwned(f fixture) *unstructured.Unstructured {
	f.foreignStream()
	return last(f.auditStream("api-audit"), metav1.ConditionFalse, v1alpha1.ReasonStreamNotOwned)
}

func mismatched(f fixture) *unstructured.Unstructured {
	f.foreignStream()
	_, err := js.Publish(ctx, f.subject+".id-1", []byte(`{"id":"id-1","user":"somebody else"}`))
	Expect(err).NotTo(HaveOccurred())
	f.legacy(3)
	return last(f.auditStream("api-audit", f.migrating, adopting), metav1.ConditionFalse, v1alpha1.ReasonEntryMismatch)
}

func suspended(f fixture) *unstructured.Unstructured {
	obj := f.auditStream("api-audit")
	awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
	suspend(obj)
	return last(obj, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
}

func dryRun(f fixture) *unstructured.Unstructured {
	f.legacy(5)
	obj := f.auditStream("api-audit", f.migrating, func(o *v1alpha1.AuditStream) { o.Spec.MigrateFrom[0].DryRun = true })
	awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonDryRun)
	return revision(obj, func(u *unstructured.Unstructured) bool { // the one that has counted
		text, _ := yaml.Marshal(u)
		return strings.Contains(string(text), "would be copied")
	})
}

func beingDeleted(f fixture) *unstructured.Unstructured {
	obj := f.auditStream("api-audit", deleting)
	awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
	stopNATS()
	Expect(k8s.Delete(ctx, obj)).To(Succeed())
	return last(obj, metav1.ConditionFalse, v1alpha1.ReasonDeleting)
}
