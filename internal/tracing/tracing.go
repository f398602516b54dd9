package tracing

import (
	"context"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Scope is the name of the instrumentation.
const Scope = "github.com/osapi-io/auditstream-operator"

// LogKey is the key of the trace's id in log lines.
const LogKey = "trace_id"

// Root begins a trace.
func Root(ctx context.Context, provider trace.TracerProvider, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	return provider.Tracer(Scope).Start(ctx, name, append(options, trace.WithNewRoot())...)
}

// Child begins a span below that of ctx.
func Child(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer(Scope).Start(ctx, name, options...)
}

// Linked begins a trace for work that origin has set off and that goes on after origin has ended. The two are linked.
func Linked(ctx context.Context, origin trace.Span, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	if origin == nil {
		origin = trace.SpanFromContext(context.Background())
	}
	return Root(ctx, origin.TracerProvider(), name, append(options, trace.WithLinks(trace.Link{SpanContext: origin.SpanContext()}))...)
}

// Fail records why what a span stands for has failed; nil is no failure.
func Fail(span trace.Span, err error) {
	if err == nil {
		return
	}
	span.RecordError(err)
	span.SetStatus(codes.Error, err.Error())
}

// End ends a span whose work has ended with err.
func End(span trace.Span, err error) {
	Fail(span, err)
	span.End()
}

// Logger adds the id of the trace to the lines of a logger, where the trace is recorded.
func Logger(logger logr.Logger, span trace.Span) logr.Logger {
	if sc := span.SpanContext(); sc.IsSampled() && sc.IsValid() {
		return logger.WithValues(LogKey, sc.TraceID().String())
	}
	return logger
}
