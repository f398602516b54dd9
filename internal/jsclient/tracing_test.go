package jsclient

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
	"github.com/osapi-io/auditstream-operator/internal/tracing"
)

// traced is a context with a root span whose trace is recorded.
func traced(t *testing.T) (context.Context, *tracetest.SpanRecorder) {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	ctx, root := tracing.Root(background(t), sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)), "root")
	t.Cleanup(func() { root.End() })
	return ctx, recorder
}

func attributesOf(span sdktrace.ReadOnlySpan) map[string]string {
	m := map[string]string{}
	for _, a := range span.Attributes() {
		m[string(a.Key)] = a.Value.String()
	}
	return m
}

// wantNoSecretIn asserts that nothing a span holds is a credential.
func wantNoSecretIn(t *testing.T, spans []sdktrace.ReadOnlySpan) {
	t.Helper()
	for _, span := range spans {
		text := fmt.Sprint(span.Name(), span.Attributes(), span.Status(), span.Events())
		if strings.Contains(text, marker) {
			t.Errorf("the span holds a credential: %s", text)
		}
	}
}

func TestARequestIsASpanOfItsCaller(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, func(o *server.Options) { o.JetStreamDomain = "hub" })
	c := newBench(t).connected(t, Config{URL: srv.URL(), Domain: "hub"})
	ctx, recorder := traced(t)
	_, _ = c.Stream(ctx, "AUDIT.of.nobody") // NATS would not even take the name
	_, _ = c.Stream(ctx, "AUDIT")
	if _, err := c.CreateStream(ctx, streamConfig("AUDIT")); err != nil {
		t.Fatal(err)
	}
	for _, err := range c.Streams(ctx) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Stream(background(t), "AUDIT"); err != nil { // of nobody who is traced
		t.Fatal(err)
	}

	spans := recorder.Ended()
	var names []string
	for _, span := range spans {
		names = append(names, span.Name())
		if !span.Parent().IsValid() {
			t.Errorf("%s has no parent", span.Name())
		}
	}
	info := "stream_info $JS.hub.API.STREAM.INFO.{stream}"
	want := []string{info, info, "stream_create $JS.hub.API.STREAM.CREATE.{stream}", "stream_list $JS.hub.API.STREAM.LIST"}
	if strings.Join(names, "\n") != strings.Join(want, "\n") {
		t.Fatalf("the spans are\n%s", strings.Join(names, "\n"))
	}
	if got := attributesOf(spans[1]); spans[1].Status().Code != codes.Unset || got["error.type"] != "not_found" {
		t.Errorf("that there is no such stream is told as %v, %v", spans[1].Status(), got)
	}
	got := attributesOf(spans[2])
	for key, value := range map[string]string{
		"messaging.system": "nats", "messaging.operation.type": "send", "messaging.operation.name": "stream_create",
		"messaging.destination.name": "$JS.hub.API.STREAM.CREATE.AUDIT", "messaging.destination.template": "$JS.hub.API.STREAM.CREATE.{stream}",
	} {
		if got[key] != value {
			t.Errorf("%s is %q, want %q", key, got[key], value)
		}
	}
}

func TestARequestThatIsNotTracedBuildsNoSpan(t *testing.T) {
	c := &Client{cfg: Config{URL: "nats://127.0.0.1:4222"}}
	op := operation{name: "stream_info", subject: "STREAM.INFO.AUDIT"}
	ctx := t.Context()
	if n := testing.AllocsPerRun(10, func() { _, span := c.beginSpan(ctx, op); endSpan(span, nil) }); n != 0 {
		t.Errorf("it takes %v allocations", n)
	}
}

// No way in which a request fails puts a password, a token or a URL's user into a span.
func TestSpansHoldNoCredentials(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, withPassword("operator", &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{"$JS.API.STREAM.INFO.>"}},
	}))
	b := newBench(t)
	ctx, recorder := traced(t)
	good := b.connected(t, Config{URL: srv.URL(), User: "operator", PasswordFile: tempFile(t, "password", marker)})
	_, err := good.CreateStream(ctx, streamConfig("AUDIT"))
	wantWaiting(t, err, v1alpha1.ReasonPermissionDenied)
	refused := b.client(t, Config{URL: strings.Replace(srv.URL(), "nats://", "nats://nobody:"+marker+"@", 1)})
	eventually(t, "the refusal", func() bool { return strings.Contains(refused.Err().Error(), "refuses") })
	_, err = refused.Stream(ctx, "AUDIT")
	wantWaiting(t, err, v1alpha1.ReasonAuthenticationFailed)

	spans := recorder.Ended()
	if len(spans) != 2 || spans[0].Status().Code != codes.Error || spans[1].Status().Code != codes.Error {
		t.Fatalf("the spans are %v", spans)
	}
	if !strings.Contains(spans[1].Status().Description, "refuses the operator's credentials") {
		t.Errorf("the span says %q", spans[1].Status().Description)
	}
	wantNoSecretIn(t, spans)
}

// The same denial comes again each time the reconcile is tried, and is logged once as long as it lasts.
func TestADeniedPublishIsNewsOnce(t *testing.T) {
	t.Parallel()
	s := newState(time.Hour, func() {})
	t.Cleanup(func() { s.close() })
	deny := func(subject string) bool {
		_, news := s.deny(violation{subject: subject}, nil)
		return news
	}
	if !deny("a") || deny("a") || !deny("b") || deny("a") {
		t.Error("a denial is not news once for each subject")
	}
	for i := range s.denials.publishes {
		s.denials.publishes[i].at = time.Now().Add(-deniedNews)
	}
	if !deny("a") || deny("a") {
		t.Error("a denial that was over is not news again")
	}
}
