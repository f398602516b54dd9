package controller

import (
	"fmt"

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
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	resource := []string{"namespace", "name"}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append(resource[:2:2], labels...))
	}
	m := &metrics{
		ready:     gauge("auditstream_ready", "Whether the AuditStream is Ready (1) or not (0)."),
		entries:   gauge("auditstream_stream_entries", "Messages in the stream when the operator last looked."),
		bytes:     gauge("auditstream_stream_bytes", "Size of the stream's messages in bytes when the operator last looked."),
		migration: gauge("auditstream_migration_entries", "Entries of a legacy bucket by result: total, migrated, already_present, expired, invalid or mismatched.", "bucket", "result"),
		drift: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auditstream_drift_healed_total",
			Help: "Changes of a stream out of band that were put right, by field of the stream's configuration.",
		}, []string{"field"}),
	}
	for _, c := range []prometheus.Collector{m.ready, m.entries, m.bytes, m.migration, m.drift} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) observe(obj *v1alpha1.AuditStream) {
	ready := 0.0
	if meta.IsStatusConditionTrue(obj.Status.Conditions, v1alpha1.ConditionReady) {
		ready = 1
	}
	m.ready.WithLabelValues(obj.Namespace, obj.Name).Set(ready)
	if stream := obj.Status.Stream; stream != nil {
		m.entries.WithLabelValues(obj.Namespace, obj.Name).Set(float64(stream.Entries))
		m.bytes.WithLabelValues(obj.Namespace, obj.Name).Set(float64(stream.Bytes))
	}
	m.migration.DeletePartialMatch(prometheus.Labels{"namespace": obj.Namespace, "name": obj.Name})
	for i := range obj.Status.Migration {
		b := &obj.Status.Migration[i]
		for result, n := range map[string]int64{
			"total": b.Total, "migrated": b.Migrated, "already_present": b.AlreadyPresent,
			"expired": b.Expired, "invalid": b.Invalid, "mismatched": b.Mismatched,
		} {
			m.migration.WithLabelValues(obj.Namespace, obj.Name, b.Bucket, result).Set(float64(n))
		}
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
	for _, vec := range []*prometheus.GaugeVec{m.ready, m.entries, m.bytes, m.migration} {
		vec.DeletePartialMatch(labels)
	}
}
