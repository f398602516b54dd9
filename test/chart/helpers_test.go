package chart

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	root     = "../.."
	chartDir = root + "/charts/auditstream-operator"
	release  = "auditstream-operator"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// tool is a program that make builds into bin.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make %s", err, name)
	}
	return path
}

// output runs a command and returns what it writes to its standard output. The error says what it wrote to the other one.
func output(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) // #nosec G204 -- tools of the repository
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = errors.Join(err, errors.New(stderr.String()))
	}
	return string(out), err
}

// helmEnv keeps helm from everything that is the user's own.
func helmEnv(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	return []string{"HELM_CONFIG_HOME=" + dir, "HELM_CACHE_HOME=" + dir, "HELM_DATA_HOME=" + dir, "HELM_NAMESPACE=", "KUBECONFIG=" + dir + "/none"}
}

// tryRender renders the chart as the release and in the namespace that config/default has the names of.
func tryRender(t *testing.T, args ...string) (string, error) {
	t.Helper()
	args = append([]string{"template", release, chartDir, "--namespace", testenv.OperatorNamespace}, args...)
	return output(t.Context(), helmEnv(t), tool(t, "helm"), args...)
}

func render(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryRender(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func kustomize(t *testing.T, dir string) string {
	t.Helper()
	out, err := output(t.Context(), nil, tool(t, "kustomize"), "build", dir)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// versions are those in Chart.yaml.
type versions struct{ Version, AppVersion string }

func readChart(t *testing.T) versions {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartDir, "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	chart := versions{}
	if err := sigsyaml.Unmarshal(text, &chart); err != nil {
		t.Fatal(err)
	}
	return chart
}

type objects map[string]*unstructured.Unstructured

// objectsOf reads manifests. The key of an object is its kind, namespace and name.
func objectsOf(t *testing.T, manifests string) objects {
	t.Helper()
	found := objects{}
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(manifests)), 4096); ; {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		if len(object.Object) == 0 {
			continue
		}
		key := object.GetKind() + " " + object.GetNamespace() + "/" + object.GetName()
		if found[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		found[key] = object
	}
}

// sameText tells the first line in which a text is not what it should be.
func sameText(t *testing.T, what, want, got string) {
	t.Helper()
	wantLines, gotLines := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(wantLines), len(gotLines)) {
		var wanted, is string
		if i < len(wantLines) {
			wanted = wantLines[i]
		}
		if i < len(gotLines) {
			is = gotLines[i]
		}
		if wanted != is || i >= min(len(wantLines), len(gotLines)) {
			t.Errorf("%s, line %d: want %q, got %q", what, i+1, wanted, is)
			return
		}
	}
}
