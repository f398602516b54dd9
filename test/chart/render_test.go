package chart

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRendersAreWhatTheyWere renders the chart with each of testdata/*.values.yaml and compares the result with the golden file
// beside it. go test ./test/chart -run Renders -update writes these files; look at what changes.
func TestRendersAreWhatTheyWere(t *testing.T) {
	for _, file := range goldens(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".values.yaml")
		t.Run(name, func(t *testing.T) {
			got := withoutVersions(t, withoutFiles(render(t, "--values", file)))
			golden := filepath.Join("testdata", name+".golden.yaml")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			sameText(t, golden, string(want), got)
		})
	}
}

// goldens are the files with values.
func goldens(t *testing.T) []string {
	t.Helper()
	values, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(values) == 0 {
		t.Fatalf("no values in testdata: %v", err)
	}
	return values
}

// withoutFiles leaves out what is copied from config/ as it is, which another test compares: the spec of the CRD, rules of
// roles, the alerts and the dashboards.
func withoutFiles(rendered string) string {
	var kept []string
	for document := range strings.SplitSeq(rendered, "---\n") {
		for _, long := range []struct{ kind, from string }{
			{"CustomResourceDefinition", "\nspec:\n"}, {"PrometheusRule", "\nspec:\n"}, {"ConfigMap", "\ndata:\n"},
			{"ClusterRole", "\nrules:\n"}, {"Role", "\nrules:\n"},
		} {
			head, _, found := strings.Cut(document, long.from)
			if found && strings.Contains(head, "\nkind: "+long.kind+"\n") {
				document = head + long.from
			}
		}
		kept = append(kept, document)
	}
	return strings.Join(kept, "---\n")
}

// withoutVersions names versions by where they stand, so that a release leaves the golden files as they are.
func withoutVersions(t *testing.T, rendered string) string {
	t.Helper()
	chart := readChart(t)
	return strings.NewReplacer(
		"helm.sh/chart: "+release+"-"+chart.Version, "helm.sh/chart: "+release+"-<version>",
		chart.AppVersion, "<appVersion>",
	).Replace(rendered)
}

func TestTheSchemaRefusesWhatIsWrong(t *testing.T) {
	for _, test := range []struct{ set, says string }{
		{"replica=2", "replica"},
		{"replicas=-1", "/replicas"},
		{"replicas=two", "/replicas"},
		{"image.digest=sha256:abc", "/image/digest"},
		{"image.repository=ghcr.io/osapi-io/auditstream-operator:v1", "/image/repository"},
		{"image.pullPolicy=Sometimes", "/image/pullPolicy"},
		{"nats.url=", "/nats/url"},
		{"nats.url=nats://user:password@nats:4222", "/nats/url"},
		{"nats.domain=a.b", "/nats/domain"},
		{"nats.credentials.secret=Not_A_Name", "/nats/credentials/secret"},
		{"nats.credentials.secretName=nats", "secretName"},
		{"namespaces={Payments}", "/namespaces/0"},
		{"maxConcurrentReconciles=257", "/maxConcurrentReconciles"},
		{"resyncInterval=10", "/resyncInterval"},
		{"logLevel=loud", "/logLevel"},
		{"podDisruptionBudget.maxUnavailable=half", "/podDisruptionBudget/maxUnavailable"},
		{"metrics.port=0", "/metrics/port"},
		{"metrics.port=8081", "/metrics/port"},
		{"networkPolicy.from=[]", "/networkPolicy/from"},
		{"extraLabels.control-plane=mine", "/extraLabels/control-plane"},
		{"extraEnv[0].value=x", "/extraEnv/0"},
	} {
		flag := "--set"
		if strings.HasSuffix(test.set, "[]") {
			flag = "--set-json" // the other one has no empty list
		}
		_, err := tryRender(t, flag, test.set)
		if err == nil || !strings.Contains(err.Error(), "don't meet the specifications of the schema") || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s %s: want the schema to refuse %s, got %v", flag, test.set, test.says, err)
		}
	}
}

func TestHelmFindsNothingToSay(t *testing.T) {
	for _, values := range goldens(t) {
		out, err := output(t.Context(), helmEnv(t), tool(t, "helm"), "lint", "--strict", "--quiet", "--values", values, chartDir)
		if err != nil || strings.Contains(out, "[WARNING]") {
			t.Errorf("helm lint with %s: %v\n%s", values, err, out)
		}
	}
}

func TestContradictionsAreRefused(t *testing.T) {
	for _, test := range []struct{ set, says string }{
		{"nats.credentials.secret=a,nats.token.secret=b", "nats.credentials and nats.token contradict each other: set one of them"},
		{"resyncInterval=9s999ms", "resyncInterval is 9s999ms: give at least 10s"},
		{"resyncInterval=0.1m", "resyncInterval is 0.1m: give at least 10s"},
		{"nats.password.user=operator", "nats.password.secret is \"\": set both or neither"},
		{"nats.ca.secret=a,nats.ca.configMap=b", "nats.ca.configMap is \"b\": set one of them"},
		{"networkPolicy.enabled=true,networkPolicy.from=null", "networkPolicy.from is empty, which would let in everybody: name who reaches the metrics"},
		{"metrics.enabled=false,metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.enabled needs metrics.enabled"},
		{"metrics.enabled=false,metrics.prometheusRule.enabled=true", "metrics.prometheusRule.enabled needs metrics.enabled"},
	} {
		if _, err := tryRender(t, "--set", test.set); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("--set %s: want %q, got %v", test.set, test.says, err)
		}
	}
}

func TestTheManagerTakesTheShortestInterval(t *testing.T) {
	for _, interval := range []string{"10s", "10000ms", "0.5m", "1s9s"} {
		contains(t, render(t, "--set", "resyncInterval="+interval), "--resync-interval="+interval)
	}
}

// schema is as much of a JSON schema as values.schema.json uses for what has a default.
type schema struct {
	Description          string             `json:"description"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties any                `json:"additionalProperties"`
}

// TestEveryValueIsDocumented wants of each value in the schema a default in values.yaml, under a comment that is the schema's
// description, and of each value in values.yaml that the schema knows it.
func TestEveryValueIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chartDir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	declared := &schema{}
	if err := json.Unmarshal(text, declared); err != nil {
		t.Fatal(err)
	}
	described := map[string]string{}
	declared.walk(t, "", described)
	delete(described, "global") // a chart around this one sets it
	documented := comments(t)
	for _, path := range slices.Sorted(maps.Keys(described)) {
		if documented[path] != described[path] {
			t.Errorf("%s is %q in values.schema.json, and %q in values.yaml", path, described[path], documented[path])
		}
		delete(documented, path)
	}
	for path := range documented {
		t.Errorf("values.schema.json does not know %s", path)
	}
}

func (s *schema) walk(t *testing.T, path string, described map[string]string) {
	t.Helper()
	if len(s.Properties) > 0 && s.AdditionalProperties != false {
		t.Errorf("values.schema.json: %q takes values that it does not know", path)
	}
	for name, property := range s.Properties {
		inner := strings.TrimPrefix(path+"."+name, ".")
		described[inner] = property.Description
		if property.Description == "" {
			t.Errorf("values.schema.json: %s has no description", inner)
		}
		if property.AdditionalProperties == false {
			property.walk(t, inner, described)
		}
	}
}

// comments are the comments in values.yaml, by the path of the value below.
func comments(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	var path, comment []string
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		if words, isComment := strings.CutPrefix(trimmed, "# "); isComment {
			comment = append(comment, words)
			continue
		}
		name, _, isValue := strings.Cut(trimmed, ":")
		if isValue && len(comment) > 0 {
			depth := (len(line) - len(strings.TrimLeft(line, " "))) / 2
			path = append(path[:depth:depth], name)
			found[strings.Join(path, ".")] = strings.Join(comment, " ")
		}
		comment = nil
	}
	return found
}
