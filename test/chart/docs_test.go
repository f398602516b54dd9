package chart

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// guideURL is where NATS is in docs/install.md.
const guideURL = "nats://nats.nats.svc:4222"

// TestTheGuideForInstallingWorks runs every command of docs/install.md in its order, in a directory with what a clone has, and
// with the files that the guide shows. After each command the operator runs that is deployed then.
func TestTheGuideForInstallingWorks(t *testing.T) {
	r := newRig(t)
	r.prometheusOperator()
	dir := clone(t)
	if err := os.WriteFile(filepath.Join(dir, "user.creds"), credentials(t), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	// The test's nats-server is elsewhere.
	guide := strings.ReplaceAll(string(text), guideURL, r.nats.URL())
	for _, block := range regexp.MustCompile("(?ms)^```(yaml|console)\n(.*?)^```$").FindAllStringSubmatch(guide, -1) {
		if block[1] == "yaml" {
			writeFile(t, dir, block[2])
			continue
		}
		for _, shown := range strings.Split("\n"+block[2], "\n$ ")[1:] {
			commands++
			if strings.Contains(shown, " rollout status ") {
				r.rolledOut()
			}
			if err := r.run(dir, shown); err != nil {
				t.Fatal(err)
			}
			r.follow()
		}
	}
	if commands == 0 {
		t.Error("docs/install.md shows no command")
	}
	// The guide has removed all but the data. Before that, it has shown the AuditStream after each way to uninstall the operator.
	r.holds("AUDIT", 0)
}

// TestThePatchOnFluxsPageSaysWhereNATSIs makes of dist/install.yaml what Flux would.
func TestThePatchOnFluxsPageSaysWhereNATSIs(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "gitops-flux.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(page), "```yaml\n# clusters/production/operator.yaml\n")
	block, _, closed := strings.Cut(block, "```")
	if !found || !closed {
		t.Fatal("docs/gitops-flux.md shows no clusters/production/operator.yaml")
	}
	var told struct {
		Spec struct {
			Patches []any `json:"patches"`
		} `json:"spec"`
	}
	if err := sigsyaml.Unmarshal([]byte(block), &told); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(clone(t), "dist")
	text, err := sigsyaml.Marshal(map[string]any{"resources": []string{"install.yaml"}, "patches": told.Spec.Patches})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	const variable = "- name: NATS_URL\n          value: "
	contains(t, kustomize(t, dir), variable+"nats://nats.messaging.svc:4222\n")
}

// run runs a command and looks for the lines that the guide shows below it.
func (r *rig) run(dir, shown string) error {
	command, expected, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(shown), "\\\n", "\\\v"), "\n")
	command = strings.ReplaceAll(command, "\v", "\n")
	cmd := exec.CommandContext(r.t.Context(), "bash", "-c", command) // #nosec G204 -- the guide's commands are what is tested
	kubectl, err := testenv.Kubectl()
	if err != nil {
		return err
	}
	cmd.Dir = dir
	path := filepath.Dir(tool(r.t, "helm")) + ":" + filepath.Dir(kubectl) + ":" + os.Getenv("PATH")
	cmd.Env = append(append(os.Environ(), r.env...), "PATH="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	printed := strings.Join(strings.Fields(string(out)), " ")
	for line := range strings.Lines(expected) {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.Join(strings.Fields(line), " ")), "…", ".*")
		if !regexp.MustCompile(pattern).MatchString(printed) {
			return fmt.Errorf("%s\ndoes not print\n%s\nbut\n%s", command, line, out)
		}
	}
	return nil
}

// writeFile writes a block to the file that its first line names.
func writeFile(t *testing.T, dir, block string) {
	t.Helper()
	name, _, found := strings.Cut(strings.TrimPrefix(block, "# "), "\n")
	if !found || !strings.HasSuffix(name, ".yaml") {
		t.Fatalf("the block does not begin with the name of a file:\n%s", block)
	}
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(block), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func clone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, part := range []string{"charts", "config", "dist"} {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join(root, part))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// credentials are a credentials file, which the test's nats-server does not ask for.
func credentials(t *testing.T) []byte {
	t.Helper()
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewUserClaims(public).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	file, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// prometheusOperator defines the kinds of the Prometheus operator, with any content.
func (r *rig) prometheusOperator() {
	r.t.Helper()
	for plural, kind := range map[string]string{"servicemonitors": "ServiceMonitor", "prometheusrules": "PrometheusRule"} {
		r.must(r.k8s.Create(r.t.Context(), anyContent("monitoring.coreos.com", plural, kind)))
		r.eventually(plural+" to be served", func() error {
			_, err := r.cp.Kubectl(r.t.Context(), "get", plural+".monitoring.coreos.com")
			return err
		})
	}
}
