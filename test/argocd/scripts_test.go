package argocd

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// updateDumps has what follows from the dumps written rather than compared: messages, and what actions make of a resource.
const updateDumps = "UPDATE_DUMPS"

// healthTests and actionTests are the files of Argo CD's own tests.
type healthTests struct {
	Tests []struct {
		HealthStatus Health `json:"healthStatus"`
		InputPath    string `json:"inputPath"`
	} `json:"tests"`
}

type actionTests struct {
	DiscoveryTests []struct {
		InputPath string   `json:"inputPath"`
		Result    []Action `json:"result"`
	} `json:"discoveryTests"`
	ActionTests []struct {
		Action             string `json:"action"`
		InputPath          string `json:"inputPath"`
		ExpectedOutputPath string `json:"expectedOutputPath"`
	} `json:"actionTests"`
}

func load(g *gomega.WithT, into any, parts ...string) {
	text, err := read(parts...)
	g.Expect(err).NotTo(gomega.HaveOccurred())
	g.Expect(yaml.Unmarshal([]byte(text), into)).To(gomega.Succeed())
}

func dump(g *gomega.WithT, parts ...string) map[string]any {
	obj := map[string]any{}
	load(g, &obj, parts...)
	return obj
}

func save(g *gomega.WithT, what any, parts ...string) {
	dir, err := Dir()
	g.Expect(err).NotTo(gomega.HaveOccurred())
	text, err := yaml.Marshal(what)
	g.Expect(err).NotTo(gomega.HaveOccurred())
	file := filepath.Join(append([]string{dir}, parts...)...)
	g.Expect(os.WriteFile(file, text, 0o644)).To(gomega.Succeed()) // #nosec G306 -- as all files of a repository
}

func TestHealth(t *testing.T) {
	var tests healthTests
	load(gomega.NewWithT(t), &tests, "health_test.yaml")
	for i := range tests.Tests {
		test := &tests.Tests[i]
		t.Run(test.InputPath, func(t *testing.T) {
			g := gomega.NewWithT(t)
			health, err := HealthOf(dump(g, test.InputPath))
			g.Expect(err).NotTo(gomega.HaveOccurred())
			g.Expect(health.Message).NotTo(gomega.BeEmpty())
			if os.Getenv(updateDumps) != "" {
				test.HealthStatus.Message = health.Message
			}
			g.Expect(health).To(gomega.Equal(test.HealthStatus))
		})
	}
	if os.Getenv(updateDumps) != "" && !t.Failed() {
		save(gomega.NewWithT(t), tests, "health_test.yaml")
	}
}

func TestEveryDumpHasAHealth(t *testing.T) {
	g := gomega.NewWithT(t)
	dir, err := Dir()
	g.Expect(err).NotTo(gomega.HaveOccurred())
	files, err := filepath.Glob(filepath.Join(dir, "testdata", "*.yaml"))
	g.Expect(err).NotTo(gomega.HaveOccurred())
	var dumps, named []string
	for _, file := range files {
		dumps = append(dumps, filepath.Join("testdata", filepath.Base(file)))
	}
	var tests healthTests
	load(g, &tests, "health_test.yaml")
	for _, test := range tests.Tests {
		named = append(named, test.InputPath)
	}
	g.Expect(named).To(gomega.ConsistOf(dumps))
}

// What no dump can show: an object of a cluster where the operator has never run, or not yet this version of it.
func TestHealthWithoutAWordFromTheOperator(t *testing.T) {
	for name, status := range map[string]any{
		"no status":     nil,
		"no conditions": map[string]any{"observedGeneration": int64(3)},
		"no Ready":      map[string]any{"observedGeneration": int64(3), "conditions": []any{map[string]any{"type": "StreamReady", "status": "True"}}},
		"no generation": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True", "reason": "Ready", "message": "m"}}},
	} {
		t.Run(name, func(t *testing.T) {
			g := gomega.NewWithT(t)
			obj := map[string]any{"metadata": map[string]any{"generation": int64(3)}, "spec": map[string]any{}}
			if status != nil {
				obj["status"] = status
			}
			g.Expect(HealthOf(obj)).To(gomega.Equal(Health{Progressing, "Waiting for the operator to take up generation 3"}))
		})
	}
}

// A failure that was told of an older generation says nothing about this one.
func TestAnOldFailureIsNoFailure(t *testing.T) {
	g := gomega.NewWithT(t)
	obj := dump(g, "testdata", "stream-not-owned.yaml")
	g.Expect(unstructured.SetNestedField(obj, int64(2), "metadata", "generation")).To(gomega.Succeed())
	g.Expect(HealthOf(obj)).To(gomega.HaveField("Status", Progressing))
}

// As kstatus has it, a condition counts while it is True.
func TestStalledHasToBeTrue(t *testing.T) {
	g := gomega.NewWithT(t)
	obj := dump(g, "testdata", "stream-not-owned.yaml")
	conditions, _, err := unstructured.NestedSlice(obj, "status", "conditions")
	g.Expect(err).NotTo(gomega.HaveOccurred())
	for _, c := range conditions {
		c.(map[string]any)["status"] = "False"
	}
	g.Expect(unstructured.SetNestedSlice(obj, conditions, "status", "conditions")).To(gomega.Succeed())
	g.Expect(HealthOf(obj)).To(gomega.HaveField("Status", Progressing))
}

func TestDiscovery(t *testing.T) {
	var tests actionTests
	load(gomega.NewWithT(t), &tests, "actions", "action_test.yaml")
	for _, test := range tests.DiscoveryTests {
		t.Run(test.InputPath, func(t *testing.T) {
			g := gomega.NewWithT(t)
			actions, err := Discover(dump(g, "actions", test.InputPath))
			g.Expect(err).NotTo(gomega.HaveOccurred())
			g.Expect(actions).To(gomega.Equal(test.Result))
		})
	}
}

func TestActions(t *testing.T) {
	var tests actionTests
	load(gomega.NewWithT(t), &tests, "actions", "action_test.yaml")
	for _, test := range tests.ActionTests {
		t.Run(test.Action+" "+test.InputPath, func(t *testing.T) {
			g := gomega.NewWithT(t)
			obj := dump(g, "actions", test.InputPath)
			changed, err := Act(test.Action, obj)
			g.Expect(err).NotTo(gomega.HaveOccurred())
			if os.Getenv(updateDumps) != "" {
				save(g, changed, "actions", test.ExpectedOutputPath)
			}
			expectYAML(g, changed, dump(g, "actions", test.ExpectedOutputPath))

			suspend, found, err := unstructured.NestedBool(changed, "spec", "suspend")
			g.Expect(err).NotTo(gomega.HaveOccurred())
			g.Expect([]bool{suspend, found}).To(gomega.HaveEach(test.Action == "suspend"))
			for _, o := range []map[string]any{obj, changed} {
				unstructured.RemoveNestedField(o, "spec", "suspend")
			}
			expectYAML(g, changed, obj) // nothing else was touched
		})
	}
}

func expectYAML(g *gomega.WithT, got, want map[string]any) {
	gotText, err := yaml.Marshal(got)
	g.Expect(err).NotTo(gomega.HaveOccurred())
	wantText, err := yaml.Marshal(want)
	g.Expect(err).NotTo(gomega.HaveOccurred())
	g.Expect(string(gotText)).To(gomega.Equal(string(wantText)))
}

// Argo CD gives scripts from argocd-cm no string library and no way out of the sandbox.
func TestTheSandbox(t *testing.T) {
	for name, script := range map[string]string{
		"no string library": `return {status = string.format("Healthy")}`,
		"no io":             `io.open("/etc/passwd") return {}`,
		"no os beyond time": `os.getenv("HOME") return {}`,
		"no endless loop":   `while true do end`,
		"a table is due":    `return "Healthy"`,
		"a known status":    `return {status = "Fine"}`,
	} {
		t.Run(name, func(t *testing.T) {
			g := gomega.NewWithT(t)
			_, err := runHealth(script, map[string]any{})
			g.Expect(err).To(gomega.HaveOccurred())
		})
	}
	g := gomega.NewWithT(t)
	g.Expect(runHealth(`local os = require("os") return {status = "Healthy", message = tostring(os.time() > 0)}`, nil)).
		To(gomega.Equal(Health{Healthy, "true"}))
}

// An empty object is not made a list on its way through Lua.
func TestActionsKeepEmptyObjects(t *testing.T) {
	g := gomega.NewWithT(t)
	obj := map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{}}, "spec": map[string]any{"tags": []any{}, "replicas": int64(3)},
	}
	g.Expect(runAction("return obj", obj)).To(gomega.Equal(obj))
}
