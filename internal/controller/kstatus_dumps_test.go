package controller

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/test/argocd"
)

// updateDumps has the dumps written rather than compared.
const updateDumps = "UPDATE_DUMPS"

var (
	aTime   = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	aServer = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	aDigest = regexp.MustCompile(`[0-9a-f]{64}`)
)

// neutral is a resource without what is different in each run: names, identities, times, addresses.
func (f fixture) neutral(u *unstructured.Unstructured) string {
	GinkgoHelper()
	u = u.DeepCopy()
	for _, field := range []string{"uid", "resourceVersion", "managedFields"} {
		unstructured.RemoveNestedField(u.Object, "metadata", field)
	}
	text, err := yaml.Marshal(u)
	Expect(err).NotTo(HaveOccurred())
	neutral := strings.NewReplacer(f.stream, "AUDIT", f.subject, "audit", f.bucket, "audit-log", f.namespace, "payments").Replace(string(text))
	neutral = aTime.ReplaceAllString(neutral, "2026-01-01T00:00:00Z")
	neutral = aServer.ReplaceAllString(neutral, "nats.example.com:4222")
	return aDigest.ReplaceAllString(neutral, strings.Repeat("0", 64))
}

// compareDump fails when a dump in config/argocd is not what the operator says today.
func compareDump(name, now string) {
	GinkgoHelper()
	dir, err := argocd.Dir()
	Expect(err).NotTo(HaveOccurred())
	file := filepath.Join(dir, "testdata", name+".yaml")
	if os.Getenv(updateDumps) != "" {
		Expect(os.WriteFile(file, []byte(now), 0o644)).To(Succeed()) // #nosec G306 -- as all files of a repository
		return
	}
	kept, err := os.ReadFile(file) // #nosec G304 -- a file of this repository
	Expect(err).NotTo(HaveOccurred())
	Expect(essence(now)).To(MatchYAML(essence(string(kept))), "%s is not what the operator writes: run make argocd-testdata", file)
}

// essence is a dump without what depends on the moment: what a network error says, and how many bytes messages take.
func essence(dump string) string {
	GinkgoHelper()
	u := map[string]any{}
	Expect(yaml.Unmarshal([]byte(dump), &u)).To(Succeed())
	unstructured.RemoveNestedField(u, "status", "stream", "bytes")
	conditions, _, err := unstructured.NestedSlice(u, "status", "conditions")
	Expect(err).NotTo(HaveOccurred())
	for _, c := range conditions {
		condition := c.(map[string]any)
		switch condition["reason"] {
		case v1alpha1.ReasonNATSUnavailable, v1alpha1.ReasonDeleting:
			delete(condition, "message")
		}
	}
	if len(conditions) > 0 {
		Expect(unstructured.SetNestedSlice(u, conditions, "status", "conditions")).To(Succeed())
	}
	text, err := yaml.Marshal(u)
	Expect(err).NotTo(HaveOccurred())
	return string(text)
}
