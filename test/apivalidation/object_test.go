package apivalidation

import (
	"encoding/json"
	"path/filepath"
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/yaml"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

var _ = Describe("A fresh object", func() {
	It("has the documented defaults and nothing else", func(ctx SpecContext) {
		name := uniqueName()
		Expect(applySpec(ctx, name, minimal(migrate(bucket("audit-log"))))).To(Succeed())
		Expect(get(ctx, name).Spec).To(Equal(v1alpha1.AuditStreamSpec{
			Stream: "AUDIT", Subject: "audit",
			WhenFull:       v1alpha1.WhenFullDropOldest,
			Storage:        v1alpha1.StorageFile,
			Replicas:       1,
			Compression:    v1alpha1.CompressionNone,
			Protection:     v1alpha1.ProtectionAppendOnly,
			RetentionLock:  v1alpha1.RetentionLockNone,
			DeletionPolicy: v1alpha1.DeletionPolicyRetain,
			AdoptionPolicy: v1alpha1.AdoptionPolicyNever,
			MigrateFrom:    []v1alpha1.MigrationSource{{Bucket: "audit-log", AfterMigration: v1alpha1.AfterMigrationRetain}},
		}))
	})

	It("is not taken for ready before the operator has seen it", func(ctx SpecContext) {
		obj := manifest(uniqueName(), minimal(nil))
		Expect(apply(ctx, obj)).To(Succeed())
		got := get(ctx, obj.GetName())
		Expect(got.Generation).To(BeEquivalentTo(1))
		Expect(got.Status).To(Equal(v1alpha1.AuditStreamStatus{ObservedGeneration: -1}))
	})

	It("cannot be applied as ready", func(ctx SpecContext) {
		obj := manifest(uniqueName(), minimal(nil))
		obj.Object["status"] = map[string]any{"observedGeneration": int64(1), "conditions": []any{map[string]any{
			"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
		}}}
		Expect(apply(ctx, obj)).To(Succeed())
		Expect(get(ctx, obj.GetName()).Status).To(Equal(v1alpha1.AuditStreamStatus{ObservedGeneration: -1}))
	})

	It("counts generations by its spec alone", func(ctx SpecContext) {
		name := uniqueName()
		Expect(applySpec(ctx, name, minimal(nil))).To(Succeed())
		Expect(applySpec(ctx, name, minimal(nil))).To(Succeed())
		Expect(get(ctx, name).Generation).To(BeEquivalentTo(1))
		Expect(applySpec(ctx, name, minimal(fields{"maxAge": "30d"}))).To(Succeed())
		Expect(get(ctx, name).Generation).To(BeEquivalentTo(2))
	})
})

var _ = Describe("The resource", func() {
	It("has its short name, categories and status subresource", func() {
		client, err := discovery.NewDiscoveryClientForConfig(config)
		Expect(err).NotTo(HaveOccurred())
		list, err := client.ServerResourcesForGroupVersion(v1alpha1.GroupVersion.String())
		Expect(err).NotTo(HaveOccurred())
		names := map[string]metav1.APIResource{}
		for _, resource := range list.APIResources {
			names[resource.Name] = resource
		}
		Expect(names).To(And(HaveLen(2), HaveKey("auditstreams/status")))
		resource := names["auditstreams"]
		Expect(resource.Kind).To(Equal("AuditStream"))
		Expect(resource.SingularName).To(Equal("auditstream"))
		Expect(resource.Namespaced).To(BeTrue())
		Expect(resource.ShortNames).To(ConsistOf("aus"))
		Expect(resource.Categories).To(ConsistOf("nats", "audit"))
	})

	It("prints the columns that a person looks for", func(ctx SpecContext) {
		client, err := discovery.NewDiscoveryClientForConfig(config)
		Expect(err).NotTo(HaveOccurred())
		raw, err := client.RESTClient().Get().
			AbsPath("/apis", v1alpha1.GroupVersion.String(), "namespaces", namespace, "auditstreams").
			SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(ctx)
		Expect(err).NotTo(HaveOccurred())
		var table metav1.Table
		Expect(json.Unmarshal(raw, &table)).To(Succeed())
		var narrow, wide []string
		for _, column := range table.ColumnDefinitions {
			if column.Priority == 0 {
				narrow = append(narrow, column.Name)
			} else {
				wide = append(wide, column.Name)
			}
		}
		Expect(narrow).To(Equal([]string{"Name", "Stream", "Subject", "Max Age", "Migrated", "Ready", "Reason", "Age"}))
		Expect(wide).To(Equal([]string{"Entries", "Bytes", "Message"}))
	})
})

var _ = Describe("config/samples", func() {
	It("are all accepted as they stand", func(ctx SpecContext) {
		paths, err := filepath.Glob(filepath.Join(repository, "config", "samples", "*.yaml"))
		Expect(err).NotTo(HaveOccurred())
		paths = slices.DeleteFunc(paths, func(path string) bool { return filepath.Base(path) == "kustomization.yaml" })
		Expect(paths).NotTo(BeEmpty(), "there is no sample")
		for _, path := range paths {
			By(filepath.Base(path))
			var obj unstructured.Unstructured
			Expect(yaml.UnmarshalStrict(readFile(path), &obj.Object)).To(Succeed(), path)
			Expect(obj.GroupVersionKind()).To(Equal(v1alpha1.GroupVersion.WithKind("AuditStream")), path)
			obj.SetNamespace(namespace)
			Expect(apply(ctx, &obj)).To(Succeed(), path)
		}
	})
})
