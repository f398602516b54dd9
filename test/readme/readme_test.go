package readme

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"sigs.k8s.io/yaml"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

const root = "../.."

// blocks returns the fenced blocks of a language. There must be some.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, match := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		found = append(found, match[1])
	}
	if len(found) == 0 {
		t.Fatalf("README.md has no block of %s", language)
	}
	return found
}

// TestYAMLDeclaresStreamsThatNATSTakes makes the streams that the README's resources declare; that the API server takes the resources is what the
// suite in test/apivalidation shows.
func TestYAMLDeclaresStreamsThatNATSTakes(t *testing.T) {
	js := natstest.Run(t).JetStream()
	for _, block := range blocks(t, "yaml") {
		createStream(t, js, block)
	}
}

func createStream(t *testing.T, js jetstream.JetStream, block string) {
	t.Helper()
	var obj v1alpha1.AuditStream
	if err := yaml.UnmarshalStrict([]byte(block), &obj); err != nil {
		t.Fatalf("%v in\n%s", err, block)
	}
	cfg, err := jsbuilder.Build(&obj.Spec, obj.Namespace, obj.Name, "owner")
	if err != nil {
		t.Fatalf("%v in\n%s", err, block)
	}
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatalf("%v for\n%s", err, block)
	}
}

func TestGoProgramWritesAndReads(t *testing.T) {
	server := natstest.Run(t)
	createStream(t, server.JetStream(), blocks(t, "yaml")[0])
	for _, program := range blocks(t, "go") {
		// Outside of the tree, which other tests copy meanwhile. Its imports are found all the same: the module is that of this directory.
		file := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
		run := exec.CommandContext(t.Context(), "go", "run", file)
		run.Env = append(os.Environ(), "NATS_URL="+server.URL())
		var stderr bytes.Buffer
		run.Stderr = &stderr
		out, err := run.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, stderr.String())
		}
		if want := "alice DELETE /users/7\n1 entries\n"; string(out) != want {
			t.Errorf("the program printed %q, want %q", out, want)
		}
	}
}

func TestMakeTargetsExist(t *testing.T) {
	targets := 0
	for _, block := range blocks(t, "console") {
		for line := range strings.Lines(block) {
			command, found := strings.CutPrefix(line, "$ make ")
			if !found {
				continue
			}
			targets++
			command, _, _ = strings.Cut(command, "#")
			args := append([]string{"--dry-run", "-C", root}, strings.Fields(command)...)
			if out, err := exec.CommandContext(t.Context(), "make", args...).CombinedOutput(); err != nil {
				t.Errorf("make %s: %v\n%s", command, err, out)
			}
		}
	}
	if targets == 0 {
		t.Error("README.md shows no make target")
	}
}

// TestLinksLeadSomewhere looks at the README and at what people read beside it.
func TestLinksLeadSomewhere(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no file in docs: %v", err)
	}
	for _, file := range append(files, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			if strings.HasPrefix(match[1], "https://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), match[1])); err != nil {
				t.Errorf("%s: link to %s: %v", file, match[1], err)
			}
		}
	}
}

func TestEveryDirectDependencyHasAReason(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{if not (or .Indirect .Main)}}{{.Path}}{{end}}", "all")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(string(out))
	if len(modules) == 0 {
		t.Fatal("go list names no direct dependency")
	}
	for _, module := range modules {
		path := regexp.MustCompile(`/v\d+$`).ReplaceAllString(module, "")
		if !regexp.MustCompile(`(?m)^\|[^|]*` + regexp.QuoteMeta(path) + `[],) ]`).Match(readme) {
			t.Errorf("%s is a direct dependency without a reason in README.md's table", module)
		}
	}
}

func TestTheManagerDoesNotLinkTheServer(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/manager")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	if packages := string(out); strings.Contains(packages, "nats-server") || !strings.Contains(packages, "nats.go") {
		t.Errorf("the manager is built from\n%s", packages)
	}
}
