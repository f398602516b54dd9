package controller

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

// metrics are the controller's own metrics; controller-runtime adds those of queues and reconciles. There is one series
// of each gauge for a resource, and for a bucket and result of a resource.
type metrics struct {
	ready     *prometheus.GaugeVec
	entries   *prometheus.GaugeVec
	bytes     *prometheus.GaugeVec
	drift     *prometheus.CounterVec
	migration *prometheus.GaugeVec
	seconds   *prometheus.GaugeVec
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	resource := []string{"namespace", "name"}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append(resource[:2:2], labels...))
	}
	m := &metrics{
		ready:   gauge("auditstream_ready", "Whether the AuditStream is Ready (1) or not (0)."),
		entries: gauge("auditstream_stream_entries", "Messages in the stream when the operator last looked."),
		bytes:   gauge("auditstream_stream_bytes", "Size of the stream's messages in bytes when the operator last looked."),
		migration: gauge("auditstream_migration_entries",
			"Entries of a legacy bucket by result: migrated, already_present, expired, invalid or mismatched; "+
				"done is the sum of these, total all live entries of the bucket, remaining the difference.", "bucket", "result"),
		seconds: gauge("auditstream_migration_seconds",
			"Seconds from the start of the first copy of a legacy bucket to its completion, or so far.", "bucket"),
		drift: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auditstream_drift_healed_total",
			Help: "Changes of a stream out of band that were put right, by field of the stream's configuration.",
		}, []string{"field"}),
	}
	for _, c := range []prometheus.Collector{m.ready, m.entries, m.bytes, m.migration, m.seconds, m.drift} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) observe(obj *v1alpha1.AuditStream, now time.Time) {
	ready := 0.0
	if meta.IsStatusConditionTrue(obj.Status.Conditions, v1alpha1.ConditionReady) {
		ready = 1
	}
	m.ready.WithLabelValues(obj.Namespace, obj.Name).Set(ready)
	if stream := obj.Status.Stream; stream != nil {
		m.entries.WithLabelValues(obj.Namespace, obj.Name).Set(float64(stream.Entries))
		m.bytes.WithLabelValues(obj.Namespace, obj.Name).Set(float64(stream.Bytes))
	}
	m.observeMigration(obj, now)
}

func (m *metrics) observeMigration(obj *v1alpha1.AuditStream, now time.Time) {
	of := prometheus.Labels{"namespace": obj.Namespace, "name": obj.Name}
	m.migration.DeletePartialMatch(of)
	m.seconds.DeletePartialMatch(of)
	for i := range obj.Status.Migration {
		b := &obj.Status.Migration[i]
		for result, n := range map[string]int64{
			"total": b.Total, "done": b.Total - b.Remaining, "remaining": b.Remaining, "migrated": b.Migrated,
			"already_present": b.AlreadyPresent, "expired": b.Expired, "invalid": b.Invalid, "mismatched": b.Mismatched,
		} {
			m.migration.WithLabelValues(obj.Namespace, obj.Name, b.Bucket, result).Set(float64(n))
		}
		if b.StartTime == nil {
			continue
		}
		end := now
		if b.CompletionTime != nil {
			end = b.CompletionTime.Time
		}
		m.seconds.WithLabelValues(obj.Namespace, obj.Name, b.Bucket).Set(max(0, end.Sub(b.StartTime.Time).Seconds()))
	}
}

func (m *metrics) healed(differences []jsbuilder.Difference) {
	for _, d := range differences {
		m.drift.WithLabelValues(d.Field).Inc()
	}
}

// forget drops the series of a resource that is gone.
func (m *metrics) forget(key types.NamespacedName) {
	labels := prometheus.Labels{"namespace": key.Namespace, "name": key.Name}
	for _, vec := range []*prometheus.GaugeVec{m.ready, m.entries, m.bytes, m.migration, m.seconds} {
		vec.DeletePartialMatch(labels)
	}
}
