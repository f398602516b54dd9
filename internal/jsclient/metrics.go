package jsclient

import (
	"errors"
	"time"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/osapi-io/auditstream-operator/internal/failure"
)

// metrics count what a pool does. No label holds a stream, nor anything secret; only what is told of each connection grows
// with their number.
type metrics struct {
	connections prometheus.Gauge
	connected   prometheus.Gauge
	state       *prometheus.GaugeVec
	losses      *prometheus.CounterVec
	requests    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
}

func newMetrics(registerer prometheus.Registerer, log logr.Logger) *metrics {
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "auditstream_nats_connections",
			Help: "Number of NATS connections the operator keeps, one for each identity, whether they are up or not.",
		}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "auditstream_nats_connected",
			Help: "Number of NATS connections that are up. Less than auditstream_nats_connections means that some NATS cannot be reached.",
		}),
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "auditstream_nats_connection_up",
			Help: "Whether the NATS connection is up (1) or not (0), by its server URLs without credentials, and by a fingerprint of what " +
				"is not secret of its identity, which tells apart connections to the same servers.",
		}, connectionLabels),
		losses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auditstream_nats_connection_losses_total",
			Help: "How often the NATS connection was lost after it had been up.",
		}, connectionLabels),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auditstream_nats_requests_total",
			Help: "Requests to the JetStream API by operation and outcome: ok, not_found, terminal, waiting (NATS has to change first) or transient.",
		}, []string{"operation", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "auditstream_nats_request_duration_seconds",
			Help:    "Time from a request to the JetStream API to its answer, or to giving it up after 5 seconds.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"operation"}),
	}
	m.register(registerer, log)
	return m
}

// register keeps the collectors of an earlier pool, which matters only when a process makes several.
func (m *metrics) register(registerer prometheus.Registerer, log logr.Logger) {
	if registerer == nil {
		return
	}
	m.connections = register(registerer, log, m.connections)
	m.connected = register(registerer, log, m.connected)
	m.state = register(registerer, log, m.state)
	m.losses = register(registerer, log, m.losses)
	m.requests = register(registerer, log, m.requests)
	m.duration = register(registerer, log, m.duration)
}

func register[T prometheus.Collector](registerer prometheus.Registerer, log logr.Logger, collector T) T {
	err := registerer.Register(collector)
	if err == nil {
		return collector
	}
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(T); ok {
			return existing
		}
	}
	log.Error(err, "Could not register a metric")
	return collector
}

func (m *metrics) observe(operation string, err error, took time.Duration) {
	m.requests.WithLabelValues(operation, outcome(err)).Inc()
	m.duration.WithLabelValues(operation).Observe(took.Seconds())
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return "not_found"
	}
	if _, ok := errors.AsType[*failure.Terminal](err); ok {
		return "terminal"
	}
	if _, ok := errors.AsType[*failure.Waiting](err); ok {
		return "waiting"
	}
	return "transient"
}
