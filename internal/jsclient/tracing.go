package jsclient

import (
	"context"
	"strings"

	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/osapi-io/auditstream-operator/internal/tracing"
)

// streamToken stands for a stream's name in the name of a span: spans are grouped by their names.
const streamToken = "{stream}"

// beginSpan begins the span of a request, where its caller is traced. Elsewhere it costs nothing.
func (c *Client) beginSpan(ctx context.Context, op operation) (context.Context, trace.Span) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, noop.Span{}
	}
	prefix := c.cfg.apiPrefix()
	template := prefix + op.template()
	return tracing.Child(ctx, op.name+" "+template, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		semconv.MessagingSystemKey.String("nats"),
		semconv.MessagingOperationTypeSend,
		semconv.MessagingOperationName(op.name),
		semconv.MessagingDestinationName(prefix+op.subject),
		semconv.MessagingDestinationTemplate(template),
	))
}

// template is the operation's subject without the name of a stream.
func (op operation) template() string {
	tokens := strings.SplitN(op.subject, ".", 3)
	if len(tokens) == 3 {
		tokens[2] = streamToken
	}
	return strings.Join(tokens, ".")
}

// endSpan ends the span of a request. That there is no such stream is an answer, and no fault.
func endSpan(span trace.Span, err error) {
	if result := outcome(err); result != "ok" {
		span.SetAttributes(semconv.ErrorTypeKey.String(result))
		if result == "not_found" {
			err = nil
		}
	}
	tracing.End(span, err)
}
