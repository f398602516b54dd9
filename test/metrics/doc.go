// Package metrics checks what people watch the operator by: its metrics as a real Prometheus scrapes them, the dashboard, the
// alerts and their runbooks. make test-metrics builds what the tests need and runs them all; go test alone leaves out those
// that need Prometheus.
package metrics
