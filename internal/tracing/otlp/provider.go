package otlp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

const (
	// serviceName is what the traces are listed under unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise.
	serviceName = "auditstream-operator"
	// flushTimeout bounds the last try to send what is left. It is well below the grace time of a Pod.
	flushTimeout = 5 * time.Second
)

// Provider makes tracers. Shutdown has to be called at the end.
type Provider struct {
	trace.TracerProvider
	sdk *sdktrace.TracerProvider
	log logr.Logger
}

// NewProvider returns the provider that the environment asks for. It does not fail and does not wait for the receiver: what
// stands in the way of sending spans is logged, and then none are made.
func NewProvider(ctx context.Context, log logr.Logger, version string) *Provider {
	none := &Provider{TracerProvider: noop.NewTracerProvider(), log: log}
	s, err := fromEnvironment()
	if err == nil && s.endpoint == "" {
		return none
	}
	otel.SetLogger(logr.New(sdkSink{log.GetSink()}))
	otel.SetErrorHandler(&errorHandler{log: log})
	var exporter sdktrace.SpanExporter
	if err == nil {
		exporter, err = newExporter(ctx, s.protocol)
	}
	if err != nil {
		log.Error(err, "Left out tracing")
		return none
	}
	for _, ignored := range s.ignored {
		log.Info("Ignored a setting of OpenTelemetry", "cause", ignored)
	}
	dropEmpty(envSampler, envSamplerArg)
	sdk := sdktrace.NewTracerProvider(
		sdktrace.WithResource(newResource(ctx, log, version)),
		sdktrace.WithBatcher(&reporter{SpanExporter: exporter, log: log}),
	)
	log.Info("Tracing is on", "endpoint", s.endpoint, "protocol", s.protocol)
	return &Provider{TracerProvider: sdk, sdk: sdk, log: log}
}

func newExporter(ctx context.Context, protocol string) (sdktrace.SpanExporter, error) {
	if protocol == protocolGRPC {
		exporter, err := otlptracegrpc.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("preparing to send spans by gRPC: %w", err)
		}
		return exporter, nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("preparing to send spans by HTTP: %w", err)
	}
	return exporter, nil
}

// newResource says who sends the spans. What the environment says about it comes last and wins.
func newResource(ctx context.Context, log logr.Logger, version string) *resource.Resource {
	attributes := resource.WithAttributes(semconv.ServiceName(serviceName), semconv.ServiceVersion(version))
	if version == "" {
		attributes = resource.WithAttributes(semconv.ServiceName(serviceName))
	}
	r, err := resource.New(ctx, attributes, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		log.Info("Ignored a setting of OpenTelemetry", "cause", "OTEL_RESOURCE_ATTRIBUTES: write it as key=value,key=value")
	}
	return r
}

// Enabled says whether spans are made.
func (p *Provider) Enabled() bool { return p.sdk != nil }

// Shutdown sends what is left, for a few seconds at most, and logs when that fails.
func (p *Provider) Shutdown() {
	if p.sdk == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	err := p.sdk.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the receiver did not take them within %s", flushTimeout)
	}
	if err != nil {
		p.log.Info("Left spans unsent", "cause", err.Error())
	}
}
