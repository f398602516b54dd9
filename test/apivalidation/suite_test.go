package apivalidation

import (
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	repository   = "../.."
	fieldManager = "kubectl"
)

var (
	config    *rest.Config
	k8s       client.Client
	namespace string
	objects   int
)

func TestAPIValidation(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "API validation")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	cp, err := testenv.StartControlPlane(ctx, testenv.ControlPlaneOptions{InstallCRDs: true})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() error { return cp.Stop() })
	config = cp.Config()
	config.QPS, config.Burst = 1000, 1000

	scheme := runtime.NewScheme()
	Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	Expect(v1alpha1.AddToScheme(scheme)).To(Succeed())
	k8s, err = client.New(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())

	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "apivalidation-"}}
	Expect(k8s.Create(ctx, ns)).To(Succeed())
	namespace = ns.Name
	DeferCleanup(func(ctx SpecContext) { Expect(k8s.Delete(ctx, ns)).To(Succeed()) })
}, NodeTimeout(2*time.Minute))

// fields are fields of a spec as they stand in a manifest.
type fields map[string]any

// minimal is the least that can be said, with changes on top. A nil value takes a field out.
func minimal(changes fields) fields {
	spec := fields{"stream": "AUDIT", "subject": "audit"}
	maps.Copy(spec, changes)
	maps.DeleteFunc(spec, func(_ string, value any) bool { return value == nil })
	return spec
}

func uniqueName() string {
	objects++
	return fmt.Sprintf("audit-%d", objects)
}

func manifest(name string, spec fields) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       "AuditStream",
		"metadata":   map[string]any{"name": name, "namespace": namespace},
		"spec":       map[string]any(spec),
	}}
}

// apply does what `kubectl apply --server-side` does. An apply is always strict: an unknown field is an error.
func apply(ctx SpecContext, obj *unstructured.Unstructured, options ...client.ApplyOption) error {
	options = append(options, client.FieldOwner(fieldManager))
	return k8s.Apply(ctx, client.ApplyConfigurationFromUnstructured(obj.DeepCopy()), options...)
}

func applySpec(ctx SpecContext, name string, spec fields) error {
	return apply(ctx, manifest(name, spec))
}

// expectOutcome expects success where no text is given, and otherwise a refusal that says all of them.
func expectOutcome(err error, texts []string) {
	GinkgoHelper()
	if len(texts) == 0 {
		Expect(err).NotTo(HaveOccurred())
		return
	}
	Expect(err).To(HaveOccurred(), "it was accepted")
	for _, text := range texts {
		Expect(err.Error()).To(ContainSubstring(text))
	}
}

// creation is the body of most tables: apply a fresh object of minimal and the changes.
func creation(ctx SpecContext, changes fields, texts ...string) {
	expectOutcome(applySpec(ctx, uniqueName(), minimal(changes)), texts)
}

// change is the body of the tables on updates: apply the first, then the second to the same object.
func change(ctx SpecContext, first, second fields, texts ...string) {
	name := uniqueName()
	Expect(applySpec(ctx, name, minimal(first))).To(Succeed(), "the first apply")
	expectOutcome(applySpec(ctx, name, minimal(second)), texts)
}

func get(ctx SpecContext, name string) *v1alpha1.AuditStream {
	GinkgoHelper()
	var got v1alpha1.AuditStream
	Expect(k8s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &got)).To(Succeed())
	return &got
}

func readFile(path string) []byte {
	GinkgoHelper()
	data, err := os.ReadFile(path)
	Expect(err).NotTo(HaveOccurred())
	return data
}
