package controller

import (
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// howOld is the part of a help text that says how old a figure of a stream may be.
const howOld = " As old as the operator's last look, which events, reconciles and the resync bring: at most 1.2 times " +
	"--resync-interval (12 minutes by default) while NATS answers."

var (
	readyDesc     = resourceDesc("auditstream_ready", "Whether the AuditStream is Ready (1) or not (0).")
	conditionDesc = resourceDesc("auditstream_status_condition",
		"The conditions that the AuditStream has: 1 when True, 0 when False or Unknown, with the reason of the moment.", "condition", "reason")

	entriesDesc  = resourceDesc("auditstream_stream_entries", "Entries in the stream."+howOld)
	bytesDesc    = resourceDesc("auditstream_stream_bytes", "Size of the stream's entries as NATS counts it against maxBytes, in bytes."+howOld)
	maxBytesDesc = resourceDesc("auditstream_stream_max_bytes",
		"The declared spec.maxBytes in bytes; absent where there is none. The label says what becomes of an entry once it is reached.", "when_full")
	maxAgeDesc    = resourceDesc("auditstream_stream_max_age_seconds", "The declared spec.maxAge in seconds; absent where entries are kept for ever.")
	oldestAgeDesc = resourceDesc("auditstream_stream_oldest_entry_age_seconds",
		"Seconds since the oldest entry of the stream was stored; absent while it is empty. Which entry is the oldest is as old as the "+
			"operator's last look: at most 1.2 times --resync-interval (12 minutes by default) while NATS answers.")
	replicasDesc = resourceDesc("auditstream_stream_replicas", "Replicas that the stream is configured with."+howOld)
	behindDesc   = resourceDesc("auditstream_stream_replicas_behind",
		"Replicas of the stream that are offline, missing or not current with their leader."+howOld+" Looked at each minute while it is not 0.")
	lookedDesc = resourceDesc("auditstream_stream_last_look_timestamp_seconds",
		"Unix time at which NATS last told the operator about the stream; absent when it has not since the operator started.")

	migrationDesc = resourceDesc("auditstream_migration_entries",
		"Entries of a legacy bucket by result: migrated, already_present, expired, invalid or mismatched; "+
			"done is the sum of these, total all live entries of the bucket, remaining the difference.", "bucket", "result")
	secondsDesc = resourceDesc("auditstream_migration_seconds",
		"Seconds from the start of the first copy of a legacy bucket to its completion, or so far.", "bucket")
	phaseDesc = resourceDesc("auditstream_migration_phase",
		"1 for the phase that the migration of a legacy bucket is in.", "bucket", "phase")
	rateDesc = resourceDesc("auditstream_migration_entries_per_second",
		"How fast the first copy of a legacy bucket gets on; 0 when none runs.", "bucket")
)

func resourceDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"namespace", "name"}, labels...), nil)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		readyDesc, conditionDesc, entriesDesc, bytesDesc, maxBytesDesc, maxAgeDesc, oldestAgeDesc, replicasDesc, behindDesc, lookedDesc,
		migrationDesc, secondsDesc, phaseDesc, rateDesc,
	} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(series chan<- prometheus.Metric) {
	m.mu.Lock()
	resources := maps.Clone(m.resources)
	m.mu.Unlock()
	now := m.now()
	for key, figures := range resources {
		gauges := gauges{key, series}
		gauges.conditions(figures.conditions)
		gauges.stream(&figures, now)
		for i := range figures.migration {
			gauges.bucket(&figures.migration[i], now)
		}
	}
}

// gauges sends the series of one resource.
type gauges struct {
	key    types.NamespacedName
	series chan<- prometheus.Metric
}

func (g gauges) set(desc *prometheus.Desc, value float64, labels ...string) {
	g.series <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{g.key.Namespace, g.key.Name}, labels...)...)
}

func (g gauges) conditions(conditions []metav1.Condition) {
	ready := 0.0
	for _, c := range conditions {
		value := 0.0
		if c.Status == metav1.ConditionTrue {
			value = 1
		}
		if c.Type == v1alpha1.ConditionReady {
			ready = value
		}
		g.set(conditionDesc, value, c.Type, c.Reason)
	}
	g.set(readyDesc, ready)
}

func (g gauges) stream(f *resourceFigures, now time.Time) {
	if f.maxBytes > 0 {
		g.set(maxBytesDesc, float64(f.maxBytes), f.whenFull)
	}
	if f.maxAge > 0 {
		g.set(maxAgeDesc, f.maxAge.Seconds())
	}
	stream := &f.stream
	if !stream.known {
		return
	}
	g.set(entriesDesc, float64(stream.entries))
	g.set(bytesDesc, float64(stream.bytes))
	if !stream.oldest.IsZero() {
		g.set(oldestAgeDesc, max(0, now.Sub(stream.oldest).Seconds()))
	}
	if !stream.looked.IsZero() {
		g.set(lookedDesc, float64(stream.looked.UnixMilli())/1000)
		g.set(replicasDesc, float64(stream.replicas))
		g.set(behindDesc, float64(stream.behind))
	}
}

func (g gauges) bucket(b *v1alpha1.BucketMigration, now time.Time) {
	for result, n := range map[string]int64{
		"total": b.Total, "done": b.Total - b.Remaining, "remaining": b.Remaining, "migrated": b.Migrated,
		"already_present": b.AlreadyPresent, "expired": b.Expired, "invalid": b.Invalid, "mismatched": b.Mismatched,
	} {
		g.set(migrationDesc, float64(n), b.Bucket, result)
	}
	g.set(phaseDesc, 1, b.Bucket, string(b.Phase))
	g.set(rateDesc, float64(b.EntriesPerSecond), b.Bucket)
	if b.StartTime == nil {
		return
	}
	end := now
	if b.CompletionTime != nil {
		end = b.CompletionTime.Time
	}
	g.set(secondsDesc, max(0, end.Sub(b.StartTime.Time).Seconds()), b.Bucket)
}
