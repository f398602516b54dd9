package metrics

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"

	"github.com/osapi-io/auditstream-operator/internal/freeport"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// prometheus is a Prometheus that scrapes the operator as config/prometheus/monitor.yaml has it scraped.
type prometheus struct{ url string }

// sample is one series of an answer, at one moment.
type sample struct {
	Labels map[string]string
	Value  float64
}

// monitor is what a ServiceMonitor says of how to scrape.
type monitor struct {
	Spec struct {
		Endpoints []struct {
			Path        string `json:"path"`
			Scheme      string `json:"scheme"`
			HonorLabels bool   `json:"honorLabels"`
			TLSConfig   struct {
				InsecureSkipVerify bool `json:"insecureSkipVerify"`
			} `json:"tlsConfig"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// configuration is what the Prometheus operator would make of the ServiceMonitor, but for how the target is found.
func configuration(t *testing.T, target, tokenFile, rules string) []byte {
	t.Helper()
	var m monitor
	if err := yaml.Unmarshal(read(t, "config", "prometheus", "monitor.yaml"), &m); err != nil || len(m.Spec.Endpoints) != 1 {
		t.Fatalf("config/prometheus/monitor.yaml: %v, %d endpoints", err, len(m.Spec.Endpoints))
	}
	endpoint := m.Spec.Endpoints[0]
	config, err := yaml.Marshal(map[string]any{
		"global":     map[string]any{"scrape_interval": "1s", "evaluation_interval": "1s"},
		"rule_files": []string{rules},
		"scrape_configs": []map[string]any{{
			"job_name": "auditstream-operator", "scheme": endpoint.Scheme, "metrics_path": endpoint.Path, "honor_labels": endpoint.HonorLabels,
			"authorization": map[string]any{"credentials_file": tokenFile},
			"tls_config":    map[string]any{"insecure_skip_verify": endpoint.TLSConfig.InsecureSkipVerify},
			"static_configs": []map[string]any{{
				"targets": []string{target},
				"labels":  map[string]string{"namespace": testenv.OperatorNamespace, "pod": "operator-0"},
			}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func startPrometheus(t *testing.T, program string, j *journey) *prometheus {
	t.Helper()
	dir := t.TempDir()
	root, err := testenv.RepoRoot()
	j.Expect(err).NotTo(HaveOccurred())
	target, err := url.Parse(j.metrics)
	j.Expect(err).NotTo(HaveOccurred())
	port, err := freeport.Next()
	j.Expect(err).NotTo(HaveOccurred())
	tokenFile, configFile := filepath.Join(dir, "token"), filepath.Join(dir, "prometheus.yaml")
	j.Expect(os.WriteFile(tokenFile, []byte(j.reader), 0o600)).To(Succeed())
	config := configuration(t, target.Host, tokenFile, filepath.Join(root, "config", "prometheus", "rules.yaml"))
	j.Expect(os.WriteFile(configFile, config, 0o600)).To(Succeed())
	log, err := os.Create(filepath.Join(dir, "log"))
	j.Expect(err).NotTo(HaveOccurred())

	address := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "--config.file="+configFile, // #nosec G204 -- a tool of the repository
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = log, log
	j.Expect(cmd.Start()).To(Succeed())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			t.Logf("last lines of Prometheus's log\n%s", testenv.LogTail(log.Name(), 20))
		}
	})
	p := &prometheus{url: "http://" + address}
	j.Eventually(func() ([]sample, error) { return p.query(t.Context(), "up == 1") }).Should(HaveLen(1), "the operator is scraped")
	return p
}

func (p *prometheus) get(ctx context.Context, path string, data any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %s: %w", path, response.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return nil
}

// query evaluates PromQL as of now. Values that are no number are left out, as a panel would.
func (p *prometheus) query(ctx context.Context, query string) ([]sample, error) {
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := p.get(ctx, "/api/v1/query?query="+url.QueryEscape(query), &data); err != nil {
		return nil, err
	}
	var samples []sample
	for _, r := range data.Result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || value != value {
			continue
		}
		samples = append(samples, sample{r.Metric, value})
	}
	return samples, nil
}

// ruleState is what Prometheus makes of a rule.
type ruleState struct{ Name, State, Health, LastError string }

func (p *prometheus) alertingRules(ctx context.Context) (map[string]ruleState, error) {
	var data struct {
		Groups []struct{ Rules []ruleState }
	}
	if err := p.get(ctx, "/api/v1/rules", &data); err != nil {
		return nil, err
	}
	states := map[string]ruleState{}
	for _, group := range data.Groups {
		for _, rule := range group.Rules {
			states[rule.Name] = rule
		}
	}
	return states, nil
}

// scrape reads metrics as Prometheus does. The operator's certificate is its own.
func scrape(ctx context.Context, address, token string) (status int, text string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // #nosec G402 -- made at each start
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// table renders samples for who reads the log.
func table(samples []sample) string {
	lines := make([]string, 0, len(samples))
	for _, s := range samples {
		labels := make([]string, 0, len(s.Labels))
		for name, value := range s.Labels {
			labels = append(labels, name+"="+value)
		}
		slices.Sort(labels)
		lines = append(lines, fmt.Sprintf("  %-14.6g %s", s.Value, strings.Join(labels, " ")))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
