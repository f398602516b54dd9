package metrics

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	patience = 2 * time.Minute
	// namespace holds what the journey makes.
	namespace = "payments"
)

// journey is the operator as config/default installs it, with a NATS and a Prometheus.
type journey struct {
	*testing.T
	Gomega

	cp       *testenv.ControlPlane
	nats     *testenv.NATSServer
	operator *testenv.Manager
	k8s      client.Client
	js       jetstream.JetStream
	metrics  string
	reader   string
	prom     *prometheus
}

// TestWhatPeopleWatch has every kind of figure come about, and looks at it through a real Prometheus: each panel of the
// dashboard shows something, each metric is in docs/metrics.md as it is, each rule can be evaluated.
func TestWhatPeopleWatch(t *testing.T) {
	program := tool(t, "PROMETHEUS")
	j := newJourney(t)
	t.Run("Metrics are for who may read them", func(t *testing.T) { j.with(t).access() })
	j.prom = startPrometheus(t, program, j)
	j.scene()
	t.Run("Each panel shows something", func(t *testing.T) { j.with(t).panels() })
	t.Run("Each metric is documented", func(t *testing.T) { j.with(t).documented() })
	t.Run("Each rule works, and a loss is told", func(t *testing.T) { j.with(t).rules() })
	t.Run("The runbooks' commands work, and end the alert of a loss", func(t *testing.T) { j.with(t).runbooks() })
	t.Run("NATS goes and comes", func(t *testing.T) { j.with(t).outage() })
	t.Run("Nothing is left of what is gone", func(t *testing.T) { j.with(t).deletion() })
}

func (j *journey) with(t *testing.T) *journey {
	sub := *j
	sub.T = t
	sub.Gomega = newGomega(t)
	return &sub
}

func newGomega(t *testing.T) Gomega {
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(patience)
	g.SetDefaultEventuallyPollingInterval(200 * time.Millisecond)
	return g
}

func newJourney(t *testing.T) *journey {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	j := &journey{T: t, Gomega: newGomega(t)}
	var err error
	j.cp, err = testenv.StartControlPlane(ctx, testenv.ControlPlaneOptions{Dir: t.TempDir()})
	j.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = j.cp.Stop() })
	j.nats, err = testenv.StartNATS(ctx, testenv.NATSOptions{Dir: t.TempDir()})
	j.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = j.nats.Stop() })
	nc, err := nats.Connect(j.nats.URL(), nats.MaxReconnects(-1))
	j.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(nc.Close)
	j.js, err = jetstream.New(nc)
	j.Expect(err).NotTo(HaveOccurred())

	j.Expect(testenv.InstallOperator(ctx, j.cp)).To(Succeed())
	j.Expect(v1alpha1.AddToScheme(clientgoscheme.Scheme)).To(Succeed())
	j.k8s, err = client.New(j.cp.Config(), client.Options{})
	j.Expect(err).NotTo(HaveOccurred())
	kubeconfig, err := j.cp.ServiceAccountKubeconfig(ctx, testenv.OperatorNamespace, testenv.OperatorServiceAccount)
	j.Expect(err).NotTo(HaveOccurred())
	j.operator, err = testenv.StartManager(ctx, testenv.ManagerOptions{
		Kubeconfig: kubeconfig, NATSURL: j.nats.URL(),
		Args: []string{"--metrics-secure=true", "--resync-interval=10s", "--leader-elect", "--leader-election-namespace=" + testenv.OperatorNamespace},
	})
	j.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last lines of the operator's log\n%s", testenv.LogTail(j.operator.LogFile, 30))
		}
		_ = j.operator.Kill()
	})
	j.metrics = strings.Replace(j.operator.MetricsURL, "http:", "https:", 1)
	j.reader = j.account(ctx, "prometheus")
	j.create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "prometheus-reads-auditstream-operator"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "auditstream-operator-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: "prometheus", Namespace: "default"}},
	})
	return j
}

func (j *journey) create(ctx context.Context, obj client.Object) {
	j.Helper()
	j.Expect(j.k8s.Create(ctx, obj)).To(Succeed())
}

// account makes a ServiceAccount and returns a token of it.
func (j *journey) account(ctx context.Context, name string) string {
	j.Helper()
	j.create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}})
	token, err := j.cp.Kubectl(ctx, "create", "token", name, "--namespace=default", "--duration=1h")
	j.Expect(err).NotTo(HaveOccurred())
	return strings.TrimSpace(token)
}

func (j *journey) access() {
	for who, want := range map[string]struct {
		token  string
		status int
	}{
		"nobody":     {"", http.StatusUnauthorized},
		"a stranger": {j.account(j.Context(), "stranger"), http.StatusForbidden},
		"the reader": {j.reader, http.StatusOK},
	} {
		// The answers of the API server to who may read what are kept for some seconds.
		j.Eventually(func() (int, error) { status, _, err := scrape(j.Context(), j.metrics, want.token); return status, err }).
			Should(Equal(want.status), who)
	}
	// controller-runtime answers 500, because the API server calls the token an error; docs/metrics.md says so.
	status, text, err := scrape(j.Context(), j.metrics, "wrong")
	j.Expect(err).NotTo(HaveOccurred())
	j.Expect(status).To(Equal(http.StatusInternalServerError))
	j.Expect(text).NotTo(ContainSubstring("auditstream_"))
}

func (j *journey) stream(name string, change func(*v1alpha1.AuditStreamSpec)) *v1alpha1.AuditStream {
	j.Helper()
	obj := &v1alpha1.AuditStream{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.AuditStreamSpec{Stream: strings.ToUpper(name), Subject: name, MaxAge: "30d"},
	}
	change(&obj.Spec)
	j.create(j.Context(), obj)
	return obj
}

func (j *journey) awaitReason(obj *v1alpha1.AuditStream, reason string) {
	j.Helper()
	j.Eventually(func(g Gomega) {
		g.Expect(j.k8s.Get(j.Context(), client.ObjectKeyFromObject(obj), obj)).To(Succeed())
		ready := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionReady)
		g.Expect(ready).NotTo(BeNil())
		g.Expect(ready.Reason).To(Equal(reason), ready.Message)
	}).Should(Succeed())
}

// scene has a migration with an invalid value, a stream that somebody fights over, one that was lost and a claim that
// is refused.
func (j *journey) scene() {
	j.Helper()
	ctx := j.Context()
	j.create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	newest := time.Now().Add(-time.Hour)
	j.Expect(testenv.FillLegacyBucket(ctx, j.js, testenv.LegacyBucket{Name: "audit-log", Entries: 500, Newest: newest})).To(Succeed())
	bucket, err := j.js.KeyValue(ctx, "audit-log")
	j.Expect(err).NotTo(HaveOccurred())
	_, err = bucket.Put(ctx, "broken", []byte("no entry"))
	j.Expect(err).NotTo(HaveOccurred())

	maxBytes := resource.MustParse("1Mi")
	moved := j.stream("moved", func(s *v1alpha1.AuditStreamSpec) {
		s.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: "audit-log"}}
		s.MaxBytes, s.WhenFull = &maxBytes, v1alpha1.WhenFullRejectNew
	})
	j.awaitReason(moved, v1alpha1.ReasonReady)
	fought := j.stream("fought", func(*v1alpha1.AuditStreamSpec) {})
	j.awaitReason(fought, v1alpha1.ReasonReady)
	for _, age := range []time.Duration{time.Hour, 2 * time.Hour} {
		j.tamper("FOUGHT", age)
	}
	lost := j.stream("lost", func(*v1alpha1.AuditStreamSpec) {})
	j.awaitReason(lost, v1alpha1.ReasonReady)
	j.Expect(j.js.DeleteStream(ctx, "LOST")).To(Succeed())
	j.awaitReason(lost, v1alpha1.ReasonStreamRecreated)
	j.awaitReason(j.stream("rival", func(s *v1alpha1.AuditStreamSpec) { s.Stream = "MOVED" }), v1alpha1.ReasonOwnershipConflict)
}

// tamper changes maxAge and waits until it is put right.
func (j *journey) tamper(name string, age time.Duration) {
	j.Helper()
	stream, err := j.js.Stream(j.Context(), name)
	j.Expect(err).NotTo(HaveOccurred())
	cfg := stream.CachedInfo().Config
	declared := cfg.MaxAge
	cfg.MaxAge, cfg.Duplicates = age, time.Minute
	_, err = j.js.UpdateStream(j.Context(), cfg)
	j.Expect(err).NotTo(HaveOccurred())
	j.Eventually(func() (time.Duration, error) {
		info, err := stream.Info(j.Context())
		if err != nil {
			return 0, err
		}
		return info.Config.MaxAge, nil
	}).Should(Equal(declared))
}

var variables = strings.NewReplacer("$namespace", namespace, "$__rate_interval", "30s")

func (j *journey) panels() {
	for title, queries := range panelQueries(j.T) {
		for _, query := range queries {
			query = variables.Replace(query)
			j.Eventually(func() ([]sample, error) { return j.prom.query(j.Context(), query) }).
				ShouldNot(BeEmpty(), "panel %q: %s", title, query)
			result, err := j.prom.query(j.Context(), query)
			j.Expect(err).NotTo(HaveOccurred())
			j.Logf("%s\n%s", title, table(result)) // to look at, with go test -v
		}
	}
	queries := panelQueries(j.T)
	j.Eventually(func() ([]sample, error) {
		return j.prom.query(j.Context(), variables.Replace(queries["Not Ready, and why"][0]))
	}).Should(
		ConsistOf(sample{map[string]string{"namespace": namespace, "name": "rival", "reason": v1alpha1.ReasonOwnershipConflict}, 0}))
	j.awaitValue(queries["Not Ready"][0], 1.0)
	j.awaitValue(queries["Entries lost"][0], 1.0)
	j.awaitValue(queries["AuditStreams"][0], 4.0)
	j.awaitValue(`auditstream_drift_healed_total{field="max_age"}`, 2.0)
	j.awaitValue(`auditstream_migration_entries{result="invalid"}`, 1.0)
	j.awaitValue(`auditstream_migration_entries{result="migrated"}`, 500.0)
	j.awaitValue(`auditstream_stream_entries{name="moved"}`, 500.0)
	j.awaitValue(queries["Used of maxBytes"][0]+" > bool 0.05", 1)
}

// awaitValue waits until a query has one series of the value.
func (j *journey) awaitValue(query string, want float64) {
	j.Helper()
	j.Eventually(func() ([]float64, error) {
		result, err := j.prom.query(j.Context(), variables.Replace(query))
		values := make([]float64, len(result))
		for i := range result {
			values[i] = result[i].Value
		}
		return values, err
	}).Should(Equal([]float64{want}), query)
}

func (j *journey) rules() {
	j.Eventually(func(g Gomega) {
		states, err := j.prom.alertingRules(j.Context())
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(states).To(HaveLen(len(alerts(j.T))))
		for name, rule := range states {
			g.Expect(rule.Health).To(Equal("ok"), "%s: %s", name, rule.LastError)
		}
		g.Expect(states["AuditStreamEntriesLost"].State).To(Equal("firing"))
		g.Expect(states["AuditStreamNotReady"].State).To(Equal("pending"))
		g.Expect(states["AuditStreamInvalidEntries"].State).To(Equal("pending"))
		g.Expect(states["AuditStreamOperatorDown"].State).To(Equal("inactive"))
		g.Expect(states["AuditStreamNATSUnreachable"].State).To(Equal("inactive"))
		g.Expect(states["AuditStreamNearlyFull"].State).To(Equal("inactive"))
	}).Should(Succeed())
	// What AuditStreamOperatorDown looks at to know whether somebody leads.
	j.awaitValue(`leader_election_master_status{name="auditstream-operator.audit.osapi.io"}`, 1)
	live := j.families()
	for _, rule := range alerts(j.T) {
		for _, name := range metricsIn(rule.Expr) {
			j.Expect(live[name]).NotTo(BeNil(), "alert %s asks for %s", rule.Alert, name)
		}
	}
}

func (j *journey) outage() {
	state := func(want string) {
		j.Helper()
		j.Eventually(func() (string, error) {
			states, err := j.prom.alertingRules(j.Context())
			return states["AuditStreamNATSUnreachable"].State, err
		}).Should(Equal(want))
	}
	j.Expect(j.nats.Kill()).To(Succeed())
	state("pending")
	j.Expect(j.nats.Restart(j.Context())).To(Succeed())
	state("inactive")
}

func (j *journey) deletion() {
	for _, name := range []string{"moved", "fought", "lost", "rival"} {
		obj := &v1alpha1.AuditStream{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		j.Expect(j.k8s.Delete(j.Context(), obj)).To(Succeed())
	}
	j.Eventually(func() ([]string, error) {
		_, text, err := scrape(j.Context(), j.metrics, j.reader)
		return slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool {
			return !strings.Contains(line, fmt.Sprintf("namespace=%q", namespace))
		}), err
	}).Should(BeEmpty())
}

// runbooks runs what docs/runbooks.md has kubectl do with an AuditStream, on the one that was lost.
func (j *journey) runbooks() {
	kubectl, err := testenv.Kubectl()
	j.Expect(err).NotTo(HaveOccurred())
	ran := 0
	for line := range strings.Lines(string(read(j.T, "docs", "runbooks.md"))) {
		command, ok := strings.CutPrefix(line, "$ kubectl ")
		if !ok || !strings.Contains(command, "auditstream") || strings.Contains(command, testenv.OperatorNamespace) {
			continue
		}
		command, _, _ = strings.Cut(command, "|") // a grep that finds nothing is no fault
		command = strings.ReplaceAll(command, "api-audit", "lost")
		cmd := exec.CommandContext(j.Context(), "sh", "-ec", `"$0" `+command+"", kubectl) // #nosec G204 -- the repository's own text
		cmd.Env = append(os.Environ(), j.cp.KubectlEnv()...)
		out, err := cmd.CombinedOutput()
		j.Expect(err).NotTo(HaveOccurred(), "kubectl %s%s", command, out)
		j.Expect(string(out)).NotTo(ContainSubstring("error"), command)
		ran++
	}
	j.Expect(ran).To(BeNumerically(">", 8))
	j.Eventually(func() (string, error) {
		states, err := j.prom.alertingRules(j.Context())
		return states["AuditStreamEntriesLost"].State, err
	}).Should(Equal("inactive"))
}
