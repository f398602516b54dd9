// Package tracing begins and ends the operator's spans. It knows OpenTelemetry's API only: internal/tracing/otlp sends what is
// recorded, and where nothing is to be sent every function here does nothing, at next to no cost.
//
// There is no global tracer: a span is recorded where that of its context is, and a trace begins where somebody was handed a
// trace.TracerProvider.
//
// A span holds what a log line may hold: names, figures and the texts of errors, and never a credential.
package tracing
