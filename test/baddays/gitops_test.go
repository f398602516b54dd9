package baddays

import (
	"context"
	"maps"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
	"github.com/osapi-io/auditstream-operator/test/baddays/cluster"
)

// What GitOps tools and kubectl apply write on what they have applied.
var (
	theirLabels = map[string]string{
		"kustomize.toolkit.fluxcd.io/name":      "audit",
		"kustomize.toolkit.fluxcd.io/namespace": "flux-system",
		"app.kubernetes.io/instance":            "audit",
		"helm.sh/chart":                         "audit-1.0.0",
	}
	theirAnnotations = map[string]string{
		"argocd.argoproj.io/tracking-id":                   "audit:audit.osapi.io/AuditStream:labelled/labelled",
		"argocd.argoproj.io/sync-wave":                     "1",
		"kustomize.toolkit.fluxcd.io/reconcile":            "enabled",
		"kubectl.kubernetes.io/last-applied-configuration": "{}",
		"meta.helm.sh/release-name":                        "audit",
	}
)

var _ = Describe("Labels and annotations of GitOps tools", func() {
	It("stay as they are, whatever the operator does with the resource", func(ctx SpecContext) {
		ns := newNamespace(ctx, "labelled")
		obj := cluster.AuditStream(ns, "labelled")
		obj.Labels, obj.Annotations = maps.Clone(theirLabels), maps.Clone(theirAnnotations)
		bucket := testenv.LegacyBucket{Name: "labelled", Entries: 20}
		Expect(testenv.FillLegacyBucket(ctx, env.JS, bucket)).To(Succeed())
		obj.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: bucket.Name}}
		Expect(env.K8s.Create(ctx, obj)).To(Succeed())
		expectReady(ctx, ns, "labelled")

		By("a drift, a finalizer that comes and goes, and a suspension")
		expectLookedAfter(ctx, "labelled", soon)
		for _, spec := range []string{`{"deletionPolicy":"Delete"}`, `{"deletionPolicy":"Retain"}`, `{"suspend":true}`, `{"suspend":false}`} {
			kubectl(ctx, "patch", "-n", ns, "auditstream", "labelled", "--type=merge", `--patch={"spec":`+spec+`}`)
			Eventually(observed(ns, "labelled"), soon).WithContext(ctx).Should(BeTrue(), spec)
		}
		expectReady(ctx, ns, "labelled")
		now := get(ctx, ns, "labelled")
		Expect(now.Labels).To(Equal(theirLabels))
		Expect(now.Annotations).To(Equal(theirAnnotations))

		By("looking at what the API server says that the operator has written")
		ours := 0
		for _, entry := range now.ManagedFields {
			if entry.Manager != "manager" {
				continue
			}
			ours++
			if entry.Subresource == "status" {
				continue
			}
			for _, key := range []string{`"f:labels"`, `"f:annotations"`, `"f:spec"`, `"f:ownerReferences"`} {
				Expect(entry.FieldsV1.GetRawString()).NotTo(ContainSubstring(key))
			}
		}
		Expect(ours).To(BeNumerically(">", 0), "of the managers %v", managersOf(now))
	}, SpecTimeout(journeyTimeout))

	It("are removed without the operator putting them back", func(ctx SpecContext) {
		ns := newNamespace(ctx, "unlabelled")
		obj := cluster.AuditStream(ns, "unlabelled")
		obj.Labels, obj.Annotations = maps.Clone(theirLabels), maps.Clone(theirAnnotations)
		Expect(env.K8s.Create(ctx, obj)).To(Succeed())
		expectReady(ctx, ns, "unlabelled")
		kubectl(ctx, "patch", "-n", ns, "auditstream", "unlabelled", "--type=merge", `--patch={"metadata":{"labels":null,"annotations":null}}`)
		expectLookedAfter(ctx, "unlabelled", soon)
		Consistently(func() metav1.ObjectMeta { return get(ctx, ns, "unlabelled").ObjectMeta }, aWhile).
			Should(SatisfyAll(HaveField("Labels", BeEmpty()), HaveField("Annotations", BeEmpty())))
	}, SpecTimeout(journeyTimeout))
})

// observed says whether the operator has dealt with the latest generation.
func observed(namespace, name string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		obj := &v1alpha1.AuditStream{}
		err := env.K8s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, obj)
		return obj.Status.ObservedGeneration == obj.Generation, err
	}
}

func managersOf(obj *v1alpha1.AuditStream) []string {
	var names []string
	for _, entry := range obj.ManagedFields {
		names = append(names, entry.Manager+"/"+entry.Subresource)
	}
	return names
}
