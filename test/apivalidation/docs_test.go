package apivalidation

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// foreign are the groups whose kinds this API server does not know: the suites of test/gitops and test/metrics apply them.
var foreign = regexp.MustCompile(`^(source|kustomize|notification|helm)\.toolkit\.fluxcd\.io/|^argoproj\.io/|^monitoring\.coreos\.com/|^kustomize\.config\.k8s\.io/`)

var _ = Describe("The manual", func() {
	It("shows resources that the API server takes as they are, every field of them", func(ctx SpecContext) {
		files, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
		Expect(err).NotTo(HaveOccurred())
		applied := 0
		for _, file := range append(files, filepath.Join(repository, "README.md")) {
			for _, text := range resourcesIn(file) {
				obj := &unstructured.Unstructured{}
				Expect(yaml.UnmarshalStrict([]byte(text), &obj.Object)).To(Succeed(), "%s:\n%s", file, text)
				if obj.GetAPIVersion() == "" || foreign.MatchString(obj.GetAPIVersion()) {
					continue // a part of a file, or somebody else's kind
				}
				By(filepath.Base(file) + ": " + obj.GetKind() + " " + obj.GetName())
				ensureNamespace(ctx, obj.GetNamespace())
				err := k8s.Create(ctx, obj, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))
				if !apierrors.IsAlreadyExists(err) {
					Expect(err).NotTo(HaveOccurred(), "%s:\n%s", file, text)
				}
				applied++
			}
		}
		Expect(applied).To(BeNumerically(">=", 4))
	})
})

func resourcesIn(file string) (resources []string) {
	GinkgoHelper()
	text, err := os.ReadFile(file)
	Expect(err).NotTo(HaveOccurred())
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		for document := range strings.SplitSeq(block[1], "\n---\n") {
			resources = append(resources, document)
		}
	}
	return resources
}

func ensureNamespace(ctx SpecContext, name string) {
	GinkgoHelper()
	if name == "" {
		return
	}
	err := k8s.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if !apierrors.IsAlreadyExists(err) {
		Expect(err).NotTo(HaveOccurred())
	}
}
