package jsclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

func TestStreamLifecycle(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	registry := prometheus.NewRegistry()
	b := newBench(t, func(o *PoolOptions) { o.Metrics = registry })
	c := b.connected(t, Config{URL: srv.URL()})
	ctx := background(t)

	if _, err := c.Stream(ctx, "AUDIT"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Fatalf("Stream of none: %v", err)
	} else if want := `reading stream AUDIT: NATS answered "stream not found" (code 10059)`; err.Error() != want {
		t.Errorf("message %q, want %q", err, want)
	}
	if _, err := c.UpdateStream(ctx, streamConfig("AUDIT")); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Fatalf("UpdateStream of none: %v", err)
	}
	if err := c.DeleteStream(ctx, "AUDIT"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Fatalf("DeleteStream of none: %v", err)
	}
	if _, err := c.CreateStream(ctx, streamConfig("AUDIT")); err != nil {
		t.Fatalf("CreateStream: %v", err)
	}
	changed := streamConfig("AUDIT")
	changed.Description = "changed"
	if info, err := c.UpdateStream(ctx, changed); err != nil || info.Config.Description != "changed" {
		t.Fatalf("UpdateStream: %v, %v", info, err)
	}
	if _, err := srv.JetStream().Publish(ctx, "audit.1", nil); err != nil {
		t.Fatal(err)
	}
	if info, err := c.Stream(ctx, "AUDIT"); err != nil || info.Config.Description != "changed" || info.State.NumSubjects != 1 {
		t.Fatalf("Stream: %v, %v", info, err)
	}
	if err := c.DeleteStream(ctx, "AUDIT"); err != nil {
		t.Fatalf("DeleteStream: %v", err)
	}
	if got := testutil.ToFloat64(b.metrics.requests.WithLabelValues("stream_info", "not_found")); got != 1 {
		t.Errorf("counted %v requests that were not found, want 1", got)
	}
	wantMetrics(t, registry)
}

func wantMetrics(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	want := `
# HELP auditstream_nats_connected Number of NATS connections that are up. Less than auditstream_nats_connections means that some NATS cannot be reached.
# TYPE auditstream_nats_connected gauge
auditstream_nats_connected 1
# HELP auditstream_nats_connections Number of NATS connections the operator keeps, one for each identity, whether they are up or not.
# TYPE auditstream_nats_connections gauge
auditstream_nats_connections 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "auditstream_nats_connected", "auditstream_nats_connections"); err != nil {
		t.Error(err)
	}
}

func TestConnectionGaugesFollow(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})
	srv.Stop()
	eventually(t, "the loss", func() bool { return !c.Connected() && testutil.ToFloat64(b.metrics.connected) == 0 })
	srv.Restart()
	eventually(t, "the return", func() bool { return testutil.ToFloat64(b.metrics.connected) == 1 })
	b.Close()
	if testutil.ToFloat64(b.metrics.connected) != 0 || testutil.ToFloat64(b.metrics.connections) != 0 {
		t.Error("the gauges count closed connections")
	}
}

func TestStreamsReadsAllPages(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})
	ctx := background(t)
	const total = 600 // three pages of at most 256
	js := srv.JetStream()
	for i := range total {
		if _, err := js.CreateStream(ctx, streamConfig(fmt.Sprintf("S%03d", i))); err != nil {
			t.Fatal(err)
		}
	}
	names := map[string]bool{}
	for info, err := range c.Streams(ctx) {
		if err != nil {
			t.Fatalf("Streams: %v", err)
		}
		if names[info.Config.Name] {
			t.Fatalf("stream %s came twice", info.Config.Name)
		}
		names[info.Config.Name] = true
	}
	if len(names) != total {
		t.Errorf("got %d streams, want %d", len(names), total)
	}
	if got := testutil.ToFloat64(b.metrics.requests.WithLabelValues("stream_list", "ok")); got != 3 {
		t.Errorf("took %v requests, want 3", got)
	}
	for _, err := range c.Streams(ctx) { // Must neither panic nor go on.
		if err != nil {
			t.Error(err)
		}
		break
	}
}

func TestStreamsEndsAtAnError(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})
	srv.Stop()
	eventually(t, "the loss", func() bool { return !c.Connected() })
	rounds := 0
	for info, err := range c.Streams(background(t)) {
		if rounds++; info != nil {
			t.Errorf("got a stream: %v", info)
		}
		wantWaiting(t, err, v1alpha1.ReasonNATSUnavailable)
	}
	if rounds != 1 {
		t.Errorf("yielded %d times, want once", rounds)
	}
}

// A cluster of which servers are down lists what it does not know of as missing.
func TestStreamsTellsWhatWasNotReported(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, withoutJetStream)
	answers := []string{
		`{"total":3,"streams":[{"config":{"name":"A"}}],"missing":["B"],"offline":{"B":"unsupported"}}`,
		`{"total":3,"streams":[{"config":{"name":"C"}}]}`,
	}
	served := 0
	subscribe(t, srv, "$JS.API.STREAM.LIST", func(m *nats.Msg) {
		if want := fmt.Sprintf(`{"offset":%d}`, 2*served); string(m.Data) != want {
			t.Errorf("request %d was %s, want %s", served, m.Data, want)
		}
		_ = m.Respond([]byte(answers[min(served, 1)]))
		served++
	})
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})
	var got []string
	for info, err := range c.Streams(background(t)) {
		if missing, ok := errors.AsType[*StreamUnreportedError](err); ok {
			got = append(got, "missing "+missing.Stream+": "+missing.Detail)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Config.Name)
	}
	if text := strings.Join(got, ", "); text != "A, missing B: unsupported, C" {
		t.Errorf("got %s", text)
	}
}

func TestPermissionDeniedIsRecognisedAtOnce(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, withPassword("operator", &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{"$JS.API.STREAM.INFO.>"}},
	}))
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL(), User: "operator", PasswordFile: tempFile(t, "password", marker)})
	wantWithin(t, atOnce, "a forbidden request", func() {
		_, err := c.CreateStream(background(t), streamConfig("AUDIT"))
		message := wantWaiting(t, err, v1alpha1.ReasonPermissionDenied)
		if !strings.Contains(message, `"$JS.API.STREAM.CREATE.AUDIT"`) || !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("message %q does not name the subject", message)
		}
	})
	if _, err := c.Stream(background(t), "AUDIT"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("a permitted request failed: %v", err)
	}
	// What does not go through request is explained afterwards.
	ctx, cancel := context.WithTimeout(background(t), 300*time.Millisecond)
	defer cancel()
	_, err := c.JetStream().Publish(ctx, "audit.1", nil)
	if err == nil {
		t.Fatal("a forbidden publish was acknowledged")
	}
	eventually(t, "the subject to be named", func() bool { return strings.Contains(c.Explain(err).Error(), `"audit.1"`) })
	wantWaiting(t, c.Explain(err), v1alpha1.ReasonPermissionDenied)
	if err := c.Denied(time.Now()); err != nil {
		t.Errorf("Denied since now: %v", err)
	}
}

func TestADeniedInboxIsRecognisedAtOnce(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, withPassword("operator", &server.Permissions{
		Subscribe: &server.SubjectPermission{Allow: []string{"$JS.EVENT.>"}},
	}))
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL(), User: "operator", PasswordFile: tempFile(t, "password", marker)})
	for range 2 {
		wantWithin(t, atOnce, "a request without answers", func() {
			_, err := c.Stream(background(t), "AUDIT")
			if message := wantWaiting(t, err, v1alpha1.ReasonPermissionDenied); !strings.Contains(message, `"_INBOX.>"`) {
				t.Errorf("message %q does not say what to permit", message)
			}
		})
	}
}

func TestASilentServerIsGivenUp(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, withoutJetStream)
	subscribe(t, srv, "$JS.API.STREAM.INFO.>", func(*nats.Msg) {})
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})
	// A deadline of its own must not take the bound away.
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	wantWithin(t, patience, "a request without an answer", func() {
		_, err := c.Stream(ctx, "AUDIT")
		message := wantWaiting(t, err, v1alpha1.ReasonNATSUnavailable)
		if !strings.Contains(message, "$JS.API.STREAM.INFO.AUDIT") || !errors.Is(err, nats.ErrTimeout) {
			t.Errorf("message %q does not say what was asked", message)
		}
	})
}

func TestARequestEndsWithItsConnectionAndItsContext(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, withoutJetStream)
	asked := make(chan struct{}, 2)
	subscribe(t, srv, "$JS.API.STREAM.INFO.>", func(*nats.Msg) { asked <- struct{}{} })
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := c.Stream(ctx, "AUDIT"); !errors.Is(err, context.Canceled) || classified(err) {
		t.Fatalf("a cancelled request returned %T %v", err, err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := c.Stream(context.Background(), "AUDIT")
		failed <- err
	}()
	<-asked
	srv.Stop()
	err := <-failed // at the latest after requestTimeout, with another message
	if message := wantWaiting(t, err, v1alpha1.ReasonNATSUnavailable); !strings.Contains(message, "was lost while waiting for an answer") {
		t.Errorf("message %q: the request outlived its connection", message)
	}
}

func TestNoJetStream(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, withoutJetStream)
	b := newBench(t)
	_, err := b.connected(t, Config{URL: srv.URL()}).Stream(background(t), "AUDIT")
	wantWaiting(t, err, v1alpha1.ReasonJetStreamUnavailable)
}

func TestDomain(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, func(o *server.Options) { o.JetStreamDomain = "hub" })
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL(), Domain: "hub"})
	if _, err := c.CreateStream(background(t), streamConfig("AUDIT")); err != nil {
		t.Fatalf("CreateStream: %v", err)
	}
	listed := 0
	for info, err := range c.Streams(background(t)) {
		if listed++; err != nil || info.Config.Name != "AUDIT" || info.Domain != "hub" {
			t.Fatalf("Streams: %v, %v", info, err)
		}
	}
	if listed != 1 {
		t.Errorf("listed %d streams, want 1", listed)
	}
	if _, err := c.JetStream().Stream(background(t), "AUDIT"); err != nil {
		t.Errorf("JetStream: %v", err)
	}
	other := b.client(t, Config{URL: srv.URL(), Domain: "elsewhere"})
	_, err := other.Stream(background(t), "AUDIT")
	if message := wantWaiting(t, err, v1alpha1.ReasonJetStreamUnavailable); !strings.Contains(message, "--nats-domain") {
		t.Errorf("message %q does not mention the domain", message)
	}
	for _, err := range other.Streams(background(t)) {
		wantWaiting(t, err, v1alpha1.ReasonJetStreamUnavailable)
	}
}

func TestCheckServer(t *testing.T) {
	t.Parallel()
	for version, tooOld := range map[string]bool{
		"2.15.2": false, "2.12.0": false, "2.12.0-RC.1": false, "v2.12.1": false, "2.100.0": false, "3.0.0": false,
		"": false, "custom": false, "2.11.9": true, "v2.9.1": true, "2.11.0-beta.2": true, "1.4.1": true,
	} {
		err := checkVersion(version)
		if (err != nil) != tooOld {
			t.Errorf("version %q: %v", version, err)
		}
		if tooOld {
			if message := wantWaiting(t, err, v1alpha1.ReasonServerTooOld); !strings.Contains(message, "NATS server "+version+": AuditStream needs 2.12 or newer") {
				t.Errorf("message %q", message)
			}
		}
	}
	srv := natstest.Run(t)
	b := newBench(t)
	if err := b.connected(t, Config{URL: srv.URL()}).CheckServer(); err != nil {
		t.Errorf("a server of today: %v", err)
	}
	wantWaiting(t, b.client(t, Config{URL: "nats://127.0.0.1:1"}).CheckServer(), v1alpha1.ReasonNATSUnavailable)
}

func withoutJetStream(o *server.Options) { o.JetStream = false }

// subscribe serves a subject in the server's stead, and returns once the server knows.
func subscribe(t *testing.T, srv *natstest.Server, subject string, serve nats.MsgHandler) {
	t.Helper()
	nc := srv.Connect()
	if _, err := nc.Subscribe(subject, serve); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}
