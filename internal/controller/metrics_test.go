package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// collected are the series of a metrics, as Prometheus writes them, with the labels in the order of the alphabet.
func collected(m *metrics) map[string]float64 {
	GinkgoHelper()
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{m, m.drift, m.losses} {
		if err := registry.Register(c); err != nil {
			panic(err) // of a test that is written wrong
		}
	}
	families, err := registry.Gather()
	if err != nil {
		panic(err)
	}
	series := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := make([]string, 0, len(metric.GetLabel()))
			for _, l := range metric.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := family.GetName() + "{" + strings.Join(labels, ",") + "}"
			series[name] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	return series
}

// seriesOf are the series of one resource.
func seriesOf(m *metrics, key types.NamespacedName) map[string]float64 {
	of := map[string]float64{}
	for name, value := range collected(m) {
		if strings.Contains(name, fmt.Sprintf("namespace=%q", key.Namespace)) && strings.Contains(name, fmt.Sprintf(",name=%q", key.Name)) ||
			strings.Contains(name, fmt.Sprintf("{name=%q,namespace=%q", key.Name, key.Namespace)) {
			of[name] = value
		}
	}
	return of
}

// everyFigure is a reconcile after which the resource has a series of every metric.
func everyFigure() *scope {
	began, ended := metav1.NewTime(startTime.Add(-time.Minute)), metav1.NewTime(startTime.Add(-30*time.Second))
	maxBytes := resource.MustParse("1Mi")
	return &scope{
		obj: &v1alpha1.AuditStream{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"},
			Spec:       v1alpha1.AuditStreamSpec{MaxAge: "1d", MaxBytes: &maxBytes, WhenFull: v1alpha1.WhenFullRejectNew},
			Status: v1alpha1.AuditStreamStatus{
				Conditions: []metav1.Condition{
					{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonStreamRecreated},
					{Type: v1alpha1.ConditionMigrated, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonMigrating},
				},
				Migration: []v1alpha1.BucketMigration{{
					Bucket: "b", Phase: v1alpha1.MigrationCopying, Total: 10, Remaining: 4, Migrated: 3, AlreadyPresent: 1, Expired: 1, Invalid: 1,
					EntriesPerSecond: 7, StartTime: &began, CompletionTime: &ended,
				}},
			},
		},
		live: &jetstream.StreamInfo{
			Config: jetstream.StreamConfig{Replicas: 3},
			State:  jetstream.StreamState{Msgs: 5, Bytes: 500, FirstTime: startTime.Add(-time.Hour)},
			Cluster: &jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{
				{Name: "n2", Current: true}, {Name: "n3", Current: true, Offline: true},
			}},
		},
		streamReady: true,
	}
}

func newTestMetrics(t *testing.T, clock *time.Time) (*metrics, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	m, err := newMetrics(registry, func() time.Time { return *clock })
	if err != nil {
		t.Fatal(err)
	}
	return m, registry
}

func TestMetricsTellWhatAReconcileFound(t *testing.T) {
	clock := startTime
	m, registry := newTestMetrics(t, &clock)
	s := everyFigure()
	m.observe(s, clock)
	key := client.ObjectKeyFromObject(s.obj)
	m.lost(key)
	m.healed(key, []jsbuilder.Difference{{Field: "max_age"}, {Field: "metadata[audit.osapi.io/owner]"}, {Field: "metadata[x]"}})
	clock = clock.Add(time.Second)

	want := map[string]float64{
		`auditstream_ready{name="a",namespace="ns"}`:                                                       1,
		`auditstream_status_condition{condition="Ready",name="a",namespace="ns",reason="StreamRecreated"}`: 1,
		`auditstream_status_condition{condition="Migrated",name="a",namespace="ns",reason="Migrating"}`:    0,
		`auditstream_stream_entries{name="a",namespace="ns"}`:                                              5,
		`auditstream_stream_bytes{name="a",namespace="ns"}`:                                                500,
		`auditstream_stream_max_bytes{name="a",namespace="ns",when_full="RejectNew"}`:                      1 << 20,
		`auditstream_stream_max_age_seconds{name="a",namespace="ns"}`:                                      86400,
		`auditstream_stream_oldest_entry_age_seconds{name="a",namespace="ns"}`:                             3601,
		`auditstream_stream_replicas{name="a",namespace="ns"}`:                                             3,
		`auditstream_stream_replicas_behind{name="a",namespace="ns"}`:                                      1,
		`auditstream_stream_last_look_timestamp_seconds{name="a",namespace="ns"}`:                          float64(startTime.Unix()),
		`auditstream_stream_losses_total{name="a",namespace="ns"}`:                                         1,
		`auditstream_drift_healed_total{field="max_age",name="a",namespace="ns"}`:                          1,
		`auditstream_drift_healed_total{field="metadata",name="a",namespace="ns"}`:                         2,
		`auditstream_migration_seconds{bucket="b",name="a",namespace="ns"}`:                                30,
		`auditstream_migration_phase{bucket="b",name="a",namespace="ns",phase="Copying"}`:                  1,
		`auditstream_migration_entries_per_second{bucket="b",name="a",namespace="ns"}`:                     7,
		`auditstream_migration_entries{bucket="b",name="a",namespace="ns",result="total"}`:                 10,
		`auditstream_migration_entries{bucket="b",name="a",namespace="ns",result="done"}`:                  6,
		`auditstream_migration_entries{bucket="b",name="a",namespace="ns",result="remaining"}`:             4,
		`auditstream_migration_entries{bucket="b",name="a",namespace="ns",result="migrated"}`:              3,
		`auditstream_migration_entries{bucket="b",name="a",namespace="ns",result="already_present"}`:       1,
		`auditstream_migration_entries{bucket="b",name="a",namespace="ns",result="expired"}`:               1,
		`auditstream_migration_entries{bucket="b",name="a",namespace="ns",result="invalid"}`:               1,
		`auditstream_migration_entries{bucket="b",name="a",namespace="ns",result="mismatched"}`:            0,
	}
	got := collected(m)
	for name, value := range want {
		if is, found := got[name]; !found || is != value {
			t.Errorf("%s is %v (found: %t), want %v", name, is, found, value)
		}
	}
	for name := range got {
		if _, expected := want[name]; !expected {
			t.Errorf("there is a series %s, too", name)
		}
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("promlint says %v, %v", problems, err)
	}
}

func TestNoSeriesOutlivesItsResource(t *testing.T) {
	clock := startTime
	m, _ := newTestMetrics(t, &clock)
	s, other := everyFigure(), everyFigure()
	other.obj.Name = "b"
	for _, s := range []*scope{s, other} {
		m.observe(s, clock)
		m.healed(client.ObjectKeyFromObject(s.obj), []jsbuilder.Difference{{Field: "max_age"}})
	}
	before := len(seriesOf(m, client.ObjectKeyFromObject(other.obj)))
	m.forget(client.ObjectKeyFromObject(s.obj))
	// A resync that has listed the resource before it went comes too late.
	m.looked(client.ObjectKeyFromObject(s.obj), s.live, clock)
	if left := seriesOf(m, client.ObjectKeyFromObject(s.obj)); len(left) > 0 {
		t.Errorf("series that are left: %v", left)
	}
	if left := len(seriesOf(m, client.ObjectKeyFromObject(other.obj))); left != before || before == 0 {
		t.Errorf("the other resource has %d series, before %d", left, before)
	}
}

// An operator that starts while NATS is down shows what the status says, and does not claim to have looked.
func TestMetricsBeforeTheFirstLook(t *testing.T) {
	clock := startTime
	m, _ := newTestMetrics(t, &clock)
	s := everyFigure()
	s.obj.Status.Stream = streamState(s.live)
	s.live, s.streamReady, s.obj.Spec.MaxBytes, s.obj.Spec.MaxAge, s.obj.Status.Migration = nil, false, nil, "", nil
	m.observe(s, clock)
	got := collected(m)
	if got[`auditstream_stream_entries{name="a",namespace="ns"}`] != 5 || got[`auditstream_stream_oldest_entry_age_seconds{name="a",namespace="ns"}`] != 3600 {
		t.Errorf("the figures of the status do not show: %v", got)
	}
	for name := range got {
		for _, absent := range []string{"replicas", "last_look", "max_bytes", "max_age", "migration"} {
			if strings.Contains(name, absent) {
				t.Errorf("there is a series %s", name)
			}
		}
	}
}

func TestReplicasBehind(t *testing.T) {
	servers := natstest.RunCluster(t)
	js := servers[0].JetStream()
	var stream jetstream.Stream
	natstest.Ask(t.Context(), t, "creating the stream", func(ctx context.Context) (err error) {
		stream, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Replicas: 3})
		return err
	})
	await := func(want int) {
		t.Helper()
		g := NewWithT(t)
		g.Eventually(func() (int, error) {
			info, err := stream.Info(t.Context()) // which waits for a few seconds
			if err != nil {
				return -1, err
			}
			return behind(info), nil
		}, 2*time.Minute, 50*time.Millisecond).Should(Equal(want))
	}
	await(0)
	follower := slices.IndexFunc(servers, func(s *natstest.Server) bool {
		return s.Name() != stream.CachedInfo().Cluster.Leader && s != servers[0]
	})
	servers[follower].Stop()
	await(1)
	servers[follower].Restart()
	await(0)
}

var _ = Describe("The metrics", func() {
	It("count healed drift by field, follow the stream at a resync without a write, and go with the resource", func() {
		f := newFixture()
		obj := f.auditStream("a")
		key := client.ObjectKeyFromObject(obj)
		labels := fmt.Sprintf(`name="a",namespace=%q}`, f.namespace)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Eventually(func() map[string]float64 { return seriesOf(reconciler.metrics, key) }).Should(
			And(HaveKeyWithValue("auditstream_ready{"+labels, 1.0), HaveKeyWithValue("auditstream_stream_losses_total{"+labels, 0.0)))

		By("counting drift")
		tamper(f.stream, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour; c.Duplicates = time.Minute })
		Eventually(func() map[string]float64 { return seriesOf(reconciler.metrics, key) }).Should(
			HaveKeyWithValue(`auditstream_drift_healed_total{field="max_age",`+labels, 1.0))

		By("looking at a resync")
		suspend(obj) // so that nothing else looks, or writes
		_, err := js.Publish(ctx, f.subject+".e1", []byte("{}"))
		Expect(err).NotTo(HaveOccurred())
		Expect(reconciler.resync(ctx)).To(Succeed())
		Expect(seriesOf(reconciler.metrics, key)).To(And(
			HaveKeyWithValue("auditstream_ready{"+labels, 0.0), HaveKeyWithValue("auditstream_stream_entries{"+labels, 1.0)))
		version := obj.ResourceVersion
		Expect(k8s.Get(ctx, key, obj)).To(Succeed())
		Expect(obj.ResourceVersion).To(Equal(version))

		By("forgetting the resource")
		Expect(k8s.Delete(ctx, obj)).To(Succeed())
		Eventually(func() map[string]float64 { return seriesOf(reconciler.metrics, key) }).Should(BeEmpty())
	})

	It("show a stream only for the resource that owns it", func() {
		f := newFixture()
		owner := f.auditStream("owner")
		awaitReady(owner, metav1.ConditionTrue, v1alpha1.ReasonReady)
		rival := f.auditStream("rival")
		awaitReady(rival, metav1.ConditionFalse, v1alpha1.ReasonOwnershipConflict)
		Expect(reconciler.resync(ctx)).To(Succeed())
		entries := fmt.Sprintf(`auditstream_stream_entries{name="%%s",namespace=%q}`, f.namespace)
		Expect(collected(reconciler.metrics)).To(HaveKey(fmt.Sprintf(entries, "owner")))
		Expect(collected(reconciler.metrics)).NotTo(HaveKey(fmt.Sprintf(entries, "rival")))
	})
})
