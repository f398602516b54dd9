package controller

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

// metrics are the controller's own metrics; controller-runtime adds those of queues and reconciles. They show what the
// last reconcile or resync has found: a scrape asks neither NATS nor the API server. It is safe for concurrent use.
type metrics struct {
	now    func() time.Time
	drift  *prometheus.CounterVec
	losses *prometheus.CounterVec

	mu        sync.Mutex
	resources map[types.NamespacedName]resourceFigures
}

// resourceFigures are what is known of one resource. The slices are replaced, never changed.
type resourceFigures struct {
	conditions []metav1.Condition
	maxBytes   int64
	maxAge     time.Duration
	whenFull   string
	migration  []v1alpha1.BucketMigration
	stream     streamFigures
}

// streamFigures are what is known of a stream.
type streamFigures struct {
	known          bool
	entries, bytes int64
	// oldest is when the oldest entry was stored, zero in an empty stream.
	oldest time.Time
	// looked is when NATS was last asked; zero when it has not answered this process yet, and the figures are those of
	// the status.
	looked           time.Time
	replicas, behind int
}

func newMetrics(registry prometheus.Registerer, now func() time.Time) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"namespace", "name"}, labels...))
	}
	m := &metrics{
		now:       now,
		resources: map[types.NamespacedName]resourceFigures{},
		drift: counter("auditstream_drift_healed_total",
			"Changes of a stream out of band that were put right, by field of the stream's configuration as NATS calls it; "+
				"metadata is all keys of the stream's metadata together.", "field"),
		losses: counter("auditstream_stream_losses_total",
			"How often the stream was found deleted, or replaced, out of band. Each time it lost what it held."),
	}
	for _, c := range []prometheus.Collector{m, m.drift, m.losses} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

// observe takes over what a reconcile has found and derived.
func (m *metrics) observe(s *scope, now time.Time) {
	key := client.ObjectKeyFromObject(s.obj)
	spec, status := &s.obj.Spec, s.obj.Status.DeepCopy()
	figures := resourceFigures{conditions: status.Conditions, migration: status.Migration, whenFull: string(spec.WhenFull)}
	if spec.MaxBytes != nil {
		figures.maxBytes = spec.MaxBytes.Value()
	}
	if age, err := jsbuilder.ParseMaxAge(spec.MaxAge); err == nil {
		figures.maxAge = age
	}
	m.losses.WithLabelValues(key.Namespace, key.Name).Add(0) // a series that begins with 1 looks like no increase

	m.mu.Lock()
	defer m.mu.Unlock()
	figures.stream = m.resources[key].stream
	switch {
	case s.live != nil && s.streamReady:
		figures.stream = figuresOf(s.live, now)
	case !figures.stream.known && status.Stream != nil:
		figures.stream = streamFigures{known: true, entries: status.Stream.Entries, bytes: status.Stream.Bytes}
		if status.Stream.FirstTime != nil {
			figures.stream.oldest = status.Stream.FirstTime.Time
		}
	}
	m.resources[key] = figures
}

// looked takes over what a resync has found of a resource's own stream. A resource that no reconcile has seen, or that is
// gone, stays unknown.
func (m *metrics) looked(key types.NamespacedName, live *jetstream.StreamInfo, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if figures, known := m.resources[key]; known {
		figures.stream = figuresOf(live, now)
		m.resources[key] = figures
	}
}

func figuresOf(live *jetstream.StreamInfo, now time.Time) streamFigures {
	figures := streamFigures{
		known: true, looked: now,
		entries: int64(live.State.Msgs), bytes: int64(live.State.Bytes),
		replicas: max(1, live.Config.Replicas), behind: behind(live),
	}
	if live.State.Msgs > 0 {
		figures.oldest = live.State.FirstTime
	}
	return figures
}

// behind counts the replicas that do not have all that the leader has, or are not there.
func behind(live *jetstream.StreamInfo) int {
	if live.Cluster == nil || live.Config.Replicas < 2 {
		return 0
	}
	followers := live.Config.Replicas - 1
	for _, peer := range live.Cluster.Replicas {
		if peer.Current && !peer.Offline {
			followers--
		}
	}
	return max(0, followers)
}

func (m *metrics) lost(key types.NamespacedName) {
	m.losses.WithLabelValues(key.Namespace, key.Name).Inc()
}

func (m *metrics) healed(key types.NamespacedName, differences []jsbuilder.Difference) {
	for _, d := range differences {
		m.drift.WithLabelValues(key.Namespace, key.Name, fieldLabel(d.Field)).Inc()
	}
}

// fieldLabel keeps the label to NATS's fields: the keys of metadata have no end.
func fieldLabel(field string) string {
	field, _, _ = strings.Cut(field, "[")
	return field
}

// forget drops the series of a resource that is gone.
func (m *metrics) forget(key types.NamespacedName) {
	m.mu.Lock()
	delete(m.resources, key)
	m.mu.Unlock()
	labels := prometheus.Labels{"namespace": key.Namespace, "name": key.Name}
	m.drift.DeletePartialMatch(labels)
	m.losses.DeletePartialMatch(labels)
}
