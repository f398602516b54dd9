package metrics

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const runbookURL = "https://github.com/osapi-io/auditstream-operator/blob/main/docs/runbooks.md#"

// ruleFile is what the tests look at of a rule file.
type ruleFile struct {
	Groups []struct {
		Rules []alertRule `json:"rules"`
	} `json:"groups"`
}

type alertRule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// dashboard is what the tests look at of config/grafana.
type dashboard struct {
	Panels []struct {
		Title       string `json:"title"`
		Type        string `json:"type"`
		Description string `json:"description"`
		Targets     []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
	} `json:"panels"`
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	root, err := testenv.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func alerts(t *testing.T) []alertRule {
	t.Helper()
	var file ruleFile
	if err := yaml.Unmarshal(read(t, "config", "prometheus", "rules.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	var rules []alertRule
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	if len(rules) == 0 {
		t.Fatal("there are no alerts")
	}
	return rules
}

// panelQueries are the queries of the dashboard by the panel's title.
func panelQueries(t *testing.T) map[string][]string {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal(read(t, "config", "grafana", "auditstream-operator.json"), &d); err != nil {
		t.Fatal(err)
	}
	queries := map[string][]string{}
	for _, panel := range d.Panels {
		if panel.Type == "row" {
			continue
		}
		if panel.Description == "" || len(panel.Targets) == 0 || len(queries[panel.Title]) > 0 {
			t.Errorf("panel %q lacks a description or a query, or is there twice", panel.Title)
		}
		for _, target := range panel.Targets {
			queries[panel.Title] = append(queries[panel.Title], target.Expr)
		}
	}
	return queries
}

func TestThePrometheusRuleHoldsTheRules(t *testing.T) {
	var object struct {
		Spec any `json:"spec"`
	}
	var rules any
	if err := yaml.Unmarshal(read(t, "config", "prometheus", "prometheusrule.yaml"), &object); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(read(t, "config", "prometheus", "rules.yaml"), &rules); err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(object.Spec)
	want, _ := json.Marshal(rules)
	if !bytes.Equal(got, want) {
		t.Error("config/prometheus/prometheusrule.yaml is not made from rules.yaml: run make prometheus-rule")
	}
}

func TestEachAlertHasItsRunbook(t *testing.T) {
	sections := map[string]string{}
	for _, part := range strings.Split(string(read(t, "docs", "runbooks.md")), "\n## ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		sections[title] = text
	}
	for _, rule := range alerts(t) {
		section, found := sections[rule.Alert]
		delete(sections, rule.Alert)
		if !found {
			t.Errorf("docs/runbooks.md has no section %s", rule.Alert)
		}
		for _, part := range []string{"**Meaning.** ", "**Impact.** ", "**Look at**\n\n```console\n$ ", "**Mend.** "} {
			if !strings.Contains(section, part) {
				t.Errorf("the runbook of %s has no %q", rule.Alert, part)
			}
		}
		if want := runbookURL + strings.ToLower(rule.Alert); rule.Annotations["runbook_url"] != want {
			t.Errorf("the runbook_url of %s is %q, want %q", rule.Alert, rule.Annotations["runbook_url"], want)
		}
		if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" ||
			!slices.Contains([]string{"warning", "critical"}, rule.Labels["severity"]) {
			t.Errorf("alert %s lacks a summary, a description or a severity", rule.Alert)
		}
	}
	for title := range sections {
		t.Errorf("docs/runbooks.md has a section %s, and there is no such alert", title)
	}
}

func TestEachAlertHasATest(t *testing.T) {
	tests := string(read(t, "test", "metrics", "rules_test.yaml"))
	for _, rule := range alerts(t) {
		if !regexp.MustCompile(`alertname: ` + rule.Alert + `\n    exp_alerts:`).MatchString(tests) {
			t.Errorf("no test expects %s to fire", rule.Alert)
		}
	}
}

func TestAlerts(t *testing.T) {
	promtool := tool(t, "PROMTOOL")
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", "../../config/prometheus/rules.yaml"},
		{"test", "rules", "rules_test.yaml"},
	} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil { // #nosec G204 -- a tool of the repository
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// tool is the path in a variable that make test-metrics sets.
func tool(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Skipf("%s is not set: make test-metrics builds it and runs this test", variable)
	}
	return path
}

var (
	quoted     = regexp.MustCompile(`"[^"]*"`)
	metricName = regexp.MustCompile(`\b(auditstream|controller_runtime|workqueue|leader_election|rest_client|process)_[a-z_]+\b`)
)

// metricsIn are the metrics that a query names, histograms without their suffix.
func metricsIn(query string) []string {
	names := metricName.FindAllString(quoted.ReplaceAllString(query, `""`), -1)
	for i := range names {
		names[i] = strings.TrimSuffix(names[i], "_bucket")
	}
	return names
}
