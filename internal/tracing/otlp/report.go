package otlp

import (
	"context"
	"errors"
	"net/url"
	"sync"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// reporter logs when the receiver stops and when it begins again to take spans, and not each batch that it does not take.
type reporter struct {
	sdktrace.SpanExporter
	log logr.Logger

	mu      sync.Mutex
	failing bool
	dropped int
}

// ExportSpans implements sdktrace.SpanExporter.
func (r *reporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := r.SpanExporter.ExportSpans(ctx, spans)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.dropped += len(spans)
		if !r.failing {
			r.log.Info("Could not send spans, dropping them until the receiver takes them", "cause", err.Error())
		}
	case r.failing:
		r.log.Info("The receiver takes spans again", "dropped", r.dropped)
		r.dropped = 0
	}
	r.failing = err != nil
	return nil
}

// errorHandler logs what the SDK reports on its own account, each text once in a row.
type errorHandler struct {
	log logr.Logger

	mu   sync.Mutex
	last string
}

// Handle implements otel.ErrorHandler.
func (h *errorHandler) Handle(err error) {
	if errors.Is(err, resource.ErrPartialResource) {
		return // newResource has said so, without the text that could not be read
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if text := err.Error(); text != h.last {
		h.last = text
		h.log.Info("OpenTelemetry reported a fault", "cause", text)
	}
}

// sdkSink passes on the SDK's own errors without the values that it attaches to them, which can be what a header was to hold.
type sdkSink struct{ logr.LogSink }

// Enabled implements logr.LogSink.
func (sdkSink) Enabled(int) bool { return false }

// WithValues implements logr.LogSink.
func (s sdkSink) WithValues(...any) logr.LogSink { return s }

// WithName implements logr.LogSink.
func (s sdkSink) WithName(string) logr.LogSink { return s }

// Error implements logr.LogSink.
func (s sdkSink) Error(err error, message string, _ ...any) {
	cause := message
	if _, quotes := errors.AsType[url.EscapeError](err); err != nil && !quotes {
		cause += ": " + err.Error()
	}
	s.Info(0, "Ignored a setting of OpenTelemetry", "cause", cause)
}
