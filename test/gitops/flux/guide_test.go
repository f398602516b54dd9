package flux

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	guideURL = "https://git.example.com/platform/fleet.git"

	clusterDir   = "clusters/production"
	paymentsDir  = "audit/payments"
	billingDir   = "audit/billing"
	apiAuditFile = paymentsDir + "/api-audit.yaml"
	ledgerFile   = paymentsDir + "/ledger-audit.yaml"
)

// guideFiles are the YAML blocks of docs/gitops-flux.md by the path that the comment in their first line names.
func guideFiles() map[string]string {
	GinkgoHelper()
	page, err := os.ReadFile(repoFile("docs", "gitops-flux.md"))
	Expect(err).NotTo(HaveOccurred())
	files := map[string]string{}
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		name, content, _ := strings.Cut(block[1], "\n")
		name, named := strings.CutPrefix(name, "# ")
		Expect(named).To(BeTrue(), "a YAML block of the page does not begin with the path of its file, but with %q", name)
		Expect(files).NotTo(HaveKey(name))
		files[name] = content
	}
	Expect(strings.Count(string(page), "```yaml")).To(Equal(len(files)))
	return files
}

// operatorManifests are what `make build-installer` writes, but for the Deployment, which needs a kubelet.
func operatorManifests(ctx context.Context) string {
	GinkgoHelper()
	var kept []string
	for manifest := range strings.SplitSeq(kubectl(ctx, "kustomize", repoFile("config", "default")), "\n---\n") {
		var object struct{ Kind string }
		Expect(yaml.Unmarshal([]byte(manifest), &object)).To(Succeed())
		if object.Kind != "Deployment" {
			kept = append(kept, manifest)
		}
	}
	return strings.Join(kept, "\n---\n")
}

// write makes the file the way the next commit has it.
func write(name, content string) {
	GinkgoHelper()
	Expect(env.git.Write(name, content)).To(Succeed())
}

// remove takes the file out of the next commit.
func remove(name string) {
	GinkgoHelper()
	Expect(os.Remove(filepath.Join(env.git.Tree(), name))).To(Succeed())
}

// replace changes the text of a file, which has to be there once.
func replace(name, old, text string) {
	GinkgoHelper()
	content, err := os.ReadFile(filepath.Join(env.git.Tree(), name))
	Expect(err).NotTo(HaveOccurred())
	Expect(strings.Count(string(content), old)).To(Equal(1), "%q in %s", old, name)
	write(name, strings.ReplaceAll(string(content), old, text))
}

func repoFile(elements ...string) string {
	GinkgoHelper()
	root, err := testenv.RepoRoot()
	Expect(err).NotTo(HaveOccurred())
	return filepath.Join(append([]string{root}, elements...)...)
}

// everyObject is nil when all that the files of the guide declare is in the cluster.
func everyObject(ctx context.Context) error {
	for _, dir := range []string{clusterDir, paymentsDir, billingDir} {
		if _, err := env.cp.Kubectl(ctx, "get", "--filename", filepath.Join(env.git.Tree(), dir)); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}
