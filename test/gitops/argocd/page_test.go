package argocd

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

var aCommand = regexp.MustCompile("(?s)```sh\nkubectl (.*?)\n```")

func repoFile(name string) string {
	GinkgoHelper()
	root, err := testenv.RepoRoot()
	Expect(err).NotTo(HaveOccurred())
	return filepath.Join(root, name)
}

func page() string {
	GinkgoHelper()
	text, err := os.ReadFile(repoFile("docs/gitops-argocd.md"))
	Expect(err).NotTo(HaveOccurred())
	return string(text)
}

// onPage is the YAML of docs/gitops-argocd.md that has the name in its first line.
func onPage(name string) string {
	GinkgoHelper()
	_, block, found := strings.Cut(page(), "```yaml\n# "+name+"\n")
	Expect(found).To(BeTrue(), name)
	block, _, found = strings.Cut(block, "```")
	Expect(found).To(BeTrue(), name)
	return block
}

// commandOnPage is what the page has a reader run with kubectl, who is in a clone of the repository.
func commandOnPage() []string {
	GinkgoHelper()
	commands := aCommand.FindAllStringSubmatch(page(), -1)
	Expect(commands).To(HaveLen(1))
	args := strings.Fields(commands[0][1])
	for i, arg := range args {
		if strings.HasPrefix(arg, "config/") {
			args[i] = repoFile(arg)
		}
	}
	return args
}

func kubectl(ctx context.Context, args ...string) {
	GinkgoHelper()
	out, err := env.cp.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred(), out)
}
