package baddays

import (
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/test/baddays/cluster"
)

var _ = Describe("An API server that validates fields strictly", func() {
	It("needs no webhook, takes the samples and everything that is installed, and refuses a field that nobody knows", func(ctx SpecContext) {
		ns := newNamespace(ctx, "strict")
		raw, err := kubernetes.NewForConfig(env.CP.Config())
		Expect(err).NotTo(HaveOccurred())
		for _, webhooks := range []func() (int, error){
			func() (int, error) {
				list, err := raw.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
				return len(list.Items), err
			},
			func() (int, error) {
				list, err := raw.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
				return len(list.Items), err
			},
		} {
			Expect(webhooks()).To(BeZero())
		}
		kubectl(ctx, "apply", "--server-side", "--validate=strict", "-k", filepath.Join(env.root, "config", "default"))
		samples, err := filepath.Glob(filepath.Join(env.root, "config", "samples", "audit_*.yaml"))
		Expect(err).NotTo(HaveOccurred())
		Expect(samples).NotTo(BeEmpty())
		for _, sample := range samples {
			kubectl(ctx, "apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", sample)
			kubectl(ctx, "create", "--validate=strict", "--dry-run=server", "-f", sample)
		}

		By("giving fields that are misspelt, unknown or there twice")
		for where, path := range map[string][]string{
			"spec.maxage":             {"spec", "maxage"},
			"spec.retention":          {"spec", "retention"},
			"metadata.lables":         {"metadata", "lables"},
			"spec.migrateFrom[0].ttl": nil,
		} {
			obj := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "audit.osapi.io/v1alpha1", "kind": "AuditStream",
				"metadata": map[string]any{"name": "strict", "namespace": ns},
				"spec": map[string]any{
					"stream": "STRICT", "subject": "strict", "migrateFrom": []any{map[string]any{"bucket": "strict", "dryRun": true}},
				},
			}}
			if path == nil {
				obj.Object["spec"].(map[string]any)["migrateFrom"].([]any)[0].(map[string]any)["ttl"] = "1h"
			} else {
				Expect(unstructured.SetNestedField(obj.Object, "1h", path...)).To(Succeed())
			}
			err := env.K8s.Create(ctx, obj, client.FieldValidation(metav1.FieldValidationStrict))
			Expect(err).To(MatchError(ContainSubstring(`unknown field "` + where + `"`)))
		}

		By("having the operator work on what was applied strictly")
		obj := cluster.AuditStream(ns, "strict")
		Expect(env.K8s.Create(ctx, obj, client.FieldValidation(metav1.FieldValidationStrict))).To(Succeed())
		expectReady(ctx, ns, "strict")
		written := &unstructured.Unstructured{}
		written.SetAPIVersion("audit.osapi.io/v1alpha1")
		written.SetKind("AuditStream")
		Expect(env.K8s.Get(ctx, client.ObjectKeyFromObject(obj), written)).To(Succeed())
		written.SetName("strict-again")
		written.SetResourceVersion("")
		written.SetManagedFields(nil)
		Expect(unstructured.SetNestedField(written.Object, "STRICT_AGAIN", "spec", "stream")).To(Succeed())
		Expect(unstructured.SetNestedField(written.Object, "strict_again", "spec", "subject")).To(Succeed())
		Expect(env.K8s.Create(ctx, written, client.FieldValidation(metav1.FieldValidationStrict))).To(Succeed(),
			"what the operator writes into status is in the schema")
	}, SpecTimeout(journeyTimeout))
})
