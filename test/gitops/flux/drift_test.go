package flux

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// fluxManager is the field manager that Flux applies as.
const fluxManager = "kustomize-controller"

func edited(ctx SpecContext) {
	GinkgoT().Setenv("KUBE_EDITOR", "sed -i s/60d/90d/")
	kubectl(ctx, "--namespace="+apiAudit.Namespace, "edit", "auditstream", apiAudit.Name)
	Eventually(maxAge(stream)).WithContext(ctx).Should(Equal(days(90)), "the operator does what the resource says")

	reconcile(ctx, paymentsKustomization)
	Expect(now(apiAudit)(ctx)).To(SatisfyAll(vouchedFor(), HaveField("Spec.MaxAge", BeEquivalentTo("60d"))))
	Expect(maxAge(stream)(ctx)).To(Equal(days(60)))
}

func drifted(ctx SpecContext) {
	before, appliedAt := declared(ctx), lastApplied(ctx)
	setMaxAge(ctx, stream, days(1))
	Eventually(maxAge(stream)).WithContext(ctx).Should(Equal(days(60)))
	Eventually(eventsOf(apiAudit)).WithContext(ctx).Should(ContainElement(HavePrefix(v1alpha1.ReasonDriftHealed + ": ")))
	Expect(declared(ctx)).To(Equal(before))

	By("having Flux look")
	reconcile(ctx, paymentsKustomization)
	Expect(declared(ctx)).To(Equal(before))
	Expect(lastApplied(ctx)).To(Equal(appliedAt), "there was nothing to apply")
	Consistently(maxAge(stream)).WithContext(ctx).Should(Equal(days(60)))

	By("asking the API server who wrote what")
	s, err := now(apiAudit)(ctx)
	Expect(err).NotTo(HaveOccurred())
	var others []metav1.ManagedFieldsEntry
	for _, fields := range s.ManagedFields {
		if fields.Manager != fluxManager {
			others = append(others, fields)
		}
	}
	Expect(others).To(HaveLen(1), "Flux and the operator, and nobody else")
	Expect(others[0].Subresource).To(Equal("status"))
	Expect(topLevel(others[0])).To(ConsistOf("f:status"))
}

// lastApplied is when Flux last changed anything of the resource.
func lastApplied(ctx context.Context) metav1.Time {
	GinkgoHelper()
	s, err := now(apiAudit)(ctx)
	Expect(err).NotTo(HaveOccurred())
	i := slices.IndexFunc(s.ManagedFields, func(f metav1.ManagedFieldsEntry) bool { return f.Manager == fluxManager })
	Expect(i).To(BeNumerically(">=", 0))
	Expect(s.ManagedFields[i].Operation).To(Equal(metav1.ManagedFieldsOperationApply))
	return *s.ManagedFields[i].Time
}

// topLevel are the first steps of the fields that a manager owns.
func topLevel(entry metav1.ManagedFieldsEntry) []string {
	GinkgoHelper()
	var fields map[string]any
	Expect(json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields)).To(Succeed())
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	return names
}

// eventsOf are the operator's events about a resource as "<reason>: <message>".
func eventsOf(key client.ObjectKey) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		list := &corev1.EventList{}
		err := env.k8s.List(ctx, list, client.InNamespace(key.Namespace), client.MatchingFields{"involvedObject.name": key.Name})
		var lines []string
		for _, event := range list.Items {
			lines = append(lines, event.Reason+": "+event.Message)
		}
		return lines, err
	}
}

func shared(ctx SpecContext) {
	By("having the tool apply a field that Git does not set")
	applyAs(ctx, "maxBytes: 64Mi")
	limit := func(ctx context.Context) int64 { return onServer(ctx, stream).Config.MaxBytes }
	Eventually(limit).WithContext(ctx).Should(BeEquivalentTo(64 << 20))
	before := declared(ctx)
	reconcile(ctx, paymentsKustomization)
	Expect(declared(ctx)).To(Equal(before))
	Expect(limit(ctx)).To(BeEquivalentTo(64 << 20))

	By("having it apply a field that Git sets")
	_, err := env.cp.Kubectl(ctx, applyArgs("maxAge: 1d")...)
	Expect(err).To(MatchError(SatisfyAll(ContainSubstring(`conflict with "`+fluxManager+`"`), ContainSubstring(".spec.maxAge"))))
	Expect(declared(ctx)).To(Equal(before))

	By("having it give the field back")
	applyAs(ctx, "{}")
	Eventually(limit).WithContext(ctx).Should(BeEquivalentTo(-1))
	Eventually(now(apiAudit)).WithContext(ctx).Should(vouchedFor())
}

func applyAs(ctx context.Context, spec string) {
	GinkgoHelper()
	kubectl(ctx, applyArgs(spec)...)
}

// applyArgs are kubectl's for what another tool declares of the resource.
func applyArgs(spec string) []string {
	GinkgoHelper()
	file := filepath.Join(env.dir, "capacity.yaml")
	manifest := strings.Join([]string{
		"apiVersion: " + v1alpha1.GroupVersion.String(), "kind: AuditStream",
		"metadata: {name: " + apiAudit.Name + ", namespace: " + apiAudit.Namespace + "}", "spec: ", "  " + spec,
	}, "\n")
	Expect(os.WriteFile(file, []byte(manifest), 0o600)).To(Succeed())
	return []string{"apply", "--server-side", "--field-manager=capacity-planner", "--filename", file}
}

func suspended(ctx SpecContext) {
	replace(apiAuditFile, "stream: AUDIT\n", "stream: AUDIT\n  suspend: true\n")
	push(ctx, "Work on the stream by hand")
	Eventually(now(apiAudit)).WithContext(ctx).Should(beReady(metav1.ConditionFalse, v1alpha1.ReasonSuspended))
	setMaxAge(ctx, stream, days(1))
	Consistently(flux(paymentsKustomization)).WithContext(ctx).Should(sayReady("Unknown "))
	Expect(maxAge(stream)(ctx)).To(Equal(days(1)))

	replace(apiAuditFile, "  suspend: true\n", "")
	pushAndApply(ctx, "Have the stream looked after again")
	Expect(maxAge(stream)(ctx)).To(Equal(days(60)))
}
