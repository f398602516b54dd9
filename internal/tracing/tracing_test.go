package tracing_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/osapi-io/auditstream-operator/internal/tracing"
)

func TestSpansOfOneTraceAndOfAnotherThatIsLinkedToIt(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))

	ctx, root := tracing.Root(t.Context(), provider, "root")
	_, child := tracing.Child(ctx, "child")
	tracing.End(child, errors.New("no answer"))
	tracing.End(root, nil)
	_, linked := tracing.Linked(ctx, root, "linked")
	tracing.End(linked, nil)

	spans := map[string]sdktrace.ReadOnlySpan{}
	for _, span := range recorder.Ended() {
		spans[span.Name()] = span
	}
	if got := spans["child"]; got.Parent().SpanID() != root.SpanContext().SpanID() || got.SpanContext().TraceID() != root.SpanContext().TraceID() {
		t.Errorf("the child's parent is %s of trace %s", got.Parent().SpanID(), got.SpanContext().TraceID())
	}
	if got := spans["child"].Status(); got.Code != codes.Error || got.Description != "no answer" {
		t.Errorf("the child's status is %v", got)
	}
	if got := spans["root"].Status().Code; got != codes.Unset {
		t.Errorf("the root's status is %v", got)
	}
	got := spans["linked"]
	if got.Parent().IsValid() || got.SpanContext().TraceID() == root.SpanContext().TraceID() {
		t.Error("the linked span is in the trace of what set it off")
	}
	if len(got.Links()) != 1 || !got.Links()[0].SpanContext.Equal(root.SpanContext()) {
		t.Errorf("the links are %v", got.Links())
	}
}

func TestNothingIsRecordedWithoutATrace(t *testing.T) {
	for name, begin := range map[string]func(context.Context) (context.Context, trace.Span){
		"child":  func(ctx context.Context) (context.Context, trace.Span) { return tracing.Child(ctx, "x") },
		"linked": func(ctx context.Context) (context.Context, trace.Span) { return tracing.Linked(ctx, nil, "x") },
		"linked to noting": func(ctx context.Context) (context.Context, trace.Span) {
			return tracing.Linked(ctx, trace.SpanFromContext(ctx), "x")
		},
	} {
		if _, span := begin(t.Context()); span.IsRecording() || span.SpanContext().IsValid() {
			t.Errorf("%s: a span is recorded", name)
		}
	}
}

func TestLogLinesNameTheTraceThatIsRecorded(t *testing.T) {
	var line string
	logger := funcr.New(func(_, args string) { line = args }, funcr.Options{})
	for _, c := range []struct {
		name    string
		sampler sdktrace.Sampler
		named   bool
	}{
		{"recorded", sdktrace.AlwaysSample(), true},
		{"not recorded", sdktrace.NeverSample(), false},
	} {
		_, span := tracing.Root(t.Context(), sdktrace.NewTracerProvider(sdktrace.WithSampler(c.sampler)), "root")
		tracing.Logger(logger, span).Info("Did it")
		if named := strings.Contains(line, `"trace_id"="`+span.SpanContext().TraceID().String()+`"`); named != c.named {
			t.Errorf("%s: the line is %s", c.name, line)
		}
	}
}
