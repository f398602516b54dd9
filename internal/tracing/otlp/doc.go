// Package otlp sends the operator's spans to an OTLP receiver, as OpenTelemetry's environment variables say. Where they name no
// receiver it makes nothing: no connection, no goroutine and no log line.
//
// Tracing never gets in the way. A setting that cannot be used is logged and left out, spans that cannot be sent are dropped,
// and what happens with the receiver is logged once when it changes.
package otlp
