package argocd

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const page = "docs/gitops-argocd.md"

// theConfigMap finds the block of the page that holds what config/argocd/argocd-cm.yaml holds.
var theConfigMap = regexp.MustCompile("(?s)(`configs.cm`\\):\n\n```yaml\n)(.*?)(```\n)")

// indent puts a script where YAML expects it below a key.
func indent(spaces int, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString(strings.Repeat(" ", spaces))
		}
		b.WriteString(line)
	}
	return b.String()
}

// patch is what argocd-cm needs, made of the scripts.
func patch(g *gomega.WithT) string {
	script := func(parts ...string) string {
		text, err := read(parts...)
		g.Expect(err).NotTo(gomega.HaveOccurred())
		return text
	}
	actions := "discovery.lua: |\n" + indent(2, script("actions", "discovery.lua")) + "definitions:\n"
	for _, name := range []string{"suspend", "resume"} {
		actions += "- name: " + name + "\n  action.lua: |\n" + indent(4, script("actions", name, "action.lua"))
	}
	return "data:\n  resource.customizations.health.audit.osapi.io_AuditStream: |\n" + indent(4, script("health.lua")) +
		"  resource.customizations.actions.audit.osapi.io_AuditStream: |\n" + indent(4, actions)
}

func repoFile(g *gomega.WithT, name string) string {
	root, err := testenv.RepoRoot()
	g.Expect(err).NotTo(gomega.HaveOccurred())
	return filepath.Join(root, name)
}

func TestTheConfigMapHoldsTheScripts(t *testing.T) {
	g := gomega.NewWithT(t)
	want := patch(g)
	for _, name := range []string{"config/argocd/argocd-cm.yaml", page} {
		file := repoFile(g, name)
		text, err := os.ReadFile(file) // #nosec G304 -- a file of this repository
		g.Expect(err).NotTo(gomega.HaveOccurred())
		now := want
		if name == page {
			g.Expect(theConfigMap.Match(text)).To(gomega.BeTrue(), "the ConfigMap in %s", name)
			parts := theConfigMap.FindSubmatchIndex(text)
			now = string(text[:parts[4]]) + want + string(text[parts[5]:])
		}
		if os.Getenv(updateDumps) != "" {
			g.Expect(os.WriteFile(file, []byte(now), 0o644)).To(gomega.Succeed()) // #nosec G306 -- as all files of a repository
			continue
		}
		g.Expect(string(text)).To(gomega.Equal(now), "%s: run make argocd-testdata", name)
	}
}

// As Argo CD reads it: the scripts that come out of the ConfigMap are the ones that were tested.
func TestTheConfigMapIsReadAsMeant(t *testing.T) {
	g := gomega.NewWithT(t)
	var configMap struct {
		Data map[string]string `json:"data"`
	}
	g.Expect(yaml.UnmarshalStrict([]byte(patch(g)), &configMap)).To(gomega.Succeed())
	g.Expect(configMap.Data).To(gomega.HaveLen(2))
	var actions struct {
		Discovery   string `json:"discovery.lua"`
		Definitions []struct {
			Name   string `json:"name"`
			Action string `json:"action.lua"`
		} `json:"definitions"`
	}
	key := "audit.osapi.io_AuditStream"
	g.Expect(yaml.UnmarshalStrict([]byte(configMap.Data["resource.customizations.actions."+key]), &actions)).To(gomega.Succeed())
	g.Expect(read("health.lua")).To(gomega.Equal(configMap.Data["resource.customizations.health."+key]))
	g.Expect(read("actions", "discovery.lua")).To(gomega.Equal(actions.Discovery))
	g.Expect(actions.Definitions).To(gomega.HaveLen(2))
	for _, action := range actions.Definitions {
		g.Expect(read("actions", action.Name, "action.lua")).To(gomega.Equal(action.Action))
	}
}

// The table of the page says of every dump what kstatus and health.lua make of it.
func TestThePageTellsWhatToolsConclude(t *testing.T) {
	g := gomega.NewWithT(t)
	text, err := os.ReadFile(repoFile(g, page))
	g.Expect(err).NotTo(gomega.HaveOccurred())
	told := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !strings.Contains(cells[2], "`") {
			continue
		}
		for _, name := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(cells[2], -1) {
			told[name[1]] = []string{strings.TrimSpace(cells[3]), strings.TrimSpace(cells[4])}
		}
	}
	so := map[string][]string{}
	var tests healthTests
	load(g, &tests, "health_test.yaml")
	for _, test := range tests.Tests {
		text, err := read(test.InputPath)
		g.Expect(err).NotTo(gomega.HaveOccurred())
		json, err := yaml.YAMLToJSON([]byte(text))
		g.Expect(err).NotTo(gomega.HaveOccurred())
		u := &unstructured.Unstructured{}
		g.Expect(u.UnmarshalJSON(json)).To(gomega.Succeed())
		result, err := status.Compute(u)
		g.Expect(err).NotTo(gomega.HaveOccurred())
		name := strings.TrimSuffix(filepath.Base(test.InputPath), ".yaml")
		so[name] = []string{result.Status.String(), test.HealthStatus.Status}
	}
	g.Expect(told).To(gomega.Equal(so))
}
