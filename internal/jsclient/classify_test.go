package jsclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// kind is how an error was classified: a reason with its class, or the empty string for unchanged.
func kind(err error) string {
	if f, ok := errors.AsType[*failure.Terminal](err); ok {
		return "terminal " + f.Reason
	}
	if w, ok := errors.AsType[*failure.Waiting](err); ok {
		return fmt.Sprintf("waiting %s %s", w.Reason, w.After)
	}
	return ""
}

func TestClassifyCodes(t *testing.T) {
	t.Parallel()
	for want, codes := range map[string][]jetstream.ErrorCode{
		"terminal " + v1alpha1.ReasonSubjectOverlap:                {10065},
		"terminal " + v1alpha1.ReasonReplicasUnsupported:           {10074},
		"terminal " + v1alpha1.ReasonInvalidConfiguration:          {10052, 10055, 10157, 10025, 10113, 10122, 10165, 10166, 10054, 10060, 10123},
		"terminal " + v1alpha1.ReasonImmutableField:                {10109, 10057, 10110, 10111},
		"waiting " + v1alpha1.ReasonPlacementFailed + " 1m0s":      {10005},
		"waiting " + v1alpha1.ReasonResourcesExhausted + " 1m0s":   {10047, 10002, 10027, 10026, 10028},
		"waiting " + v1alpha1.ReasonJetStreamUnavailable + " 1m0s": {10039, 10076},
		"waiting " + v1alpha1.ReasonServerTooOld + " 1m0s":         {10185},
		// Transient, or an answer that the caller asked for.
		"": {10058, 10059, 10037, 10071, 10164, 10158, 10008, 10009, 10023, 10118, 10167, 10210, 10211, 19999},
	} {
		for _, code := range codes {
			original := fmt.Errorf("creating stream A: %w", &jetstream.APIError{Code: 400, ErrorCode: code, Description: "some text"})
			err := Classify(original)
			if got := kind(err); got != want {
				t.Errorf("code %d is %q, want %q", code, got, want)
			}
			if !errors.Is(err, original) || !strings.Contains(err.Error(), "some text") || !strings.Contains(err.Error(), fmt.Sprint(code)) {
				t.Errorf("code %d: message %q lost what NATS answered", code, err)
			}
			if again := Classify(fmt.Errorf("again: %w", err)); kind(again) != want {
				t.Errorf("code %d classified twice is %q", code, kind(again))
			}
		}
	}
}

func TestEveryVerdictSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for code, v := range verdicts {
		if v.hint == "" || v.reason == "" {
			t.Errorf("code %d: reason %q, hint %q", code, v.reason, v.hint)
		}
	}
}

func TestClassifyStoreFailedByItsDescription(t *testing.T) {
	t.Parallel()
	for description, want := range map[string]string{
		server.ErrMaxBytes.Error():          "waiting " + v1alpha1.ReasonStreamFull + " 1m0s",
		server.ErrMaxMsgs.Error():           "waiting " + v1alpha1.ReasonStreamFull + " 1m0s",
		server.ErrMaxMsgsPerSubject.Error(): "",
		"write: no space left on device":    "",
	} {
		if got := kind(Classify(&jetstream.APIError{Code: 503, ErrorCode: 10077, Description: description})); got != want {
			t.Errorf("10077 %q is %q, want %q", description, got, want)
		}
	}
}

func TestClassifySentinels(t *testing.T) {
	t.Parallel()
	unavailable := "waiting " + v1alpha1.ReasonNATSUnavailable + " 10s"
	for _, tc := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{nats.ErrNoServers, unavailable},
		{nats.ErrTimeout, unavailable},
		{nats.ErrConnectionClosed, unavailable},
		{nats.ErrReconnectBufExceeded, unavailable},
		{nats.ErrDisconnected, unavailable},
		{jetstream.ErrNoStreamResponse, unavailable},
		{jetstream.ErrConnectionClosed, unavailable},
		{context.DeadlineExceeded, unavailable},
		{nats.ErrNoResponders, "waiting " + v1alpha1.ReasonJetStreamUnavailable + " 10s"},
		{nats.ErrAuthorization, "waiting " + v1alpha1.ReasonAuthenticationFailed + " 1m0s"},
		{nats.ErrAuthExpired, "waiting " + v1alpha1.ReasonAuthenticationFailed + " 1m0s"},
		{fmt.Errorf(`%w: Permissions Violation for Publish to "a.b"`, nats.ErrPermissionViolation), "waiting " + v1alpha1.ReasonPermissionDenied + " 1m0s"},
		{jetstream.ErrInvalidStreamName, "terminal " + v1alpha1.ReasonInvalidConfiguration},
		{jetstream.ErrStreamSubjectTransformNotSupported, "waiting " + v1alpha1.ReasonServerTooOld + " 1m0s"},
		{jetstream.ErrJetStreamNotEnabledForAccount, "waiting " + v1alpha1.ReasonJetStreamUnavailable + " 1m0s"},
		{jetstream.ErrStreamNotFound, ""},
		{context.Canceled, ""},
		{errors.New("something else"), ""},
		// Texts must not decide.
		{errors.New("nats: timeout"), ""},
		{errors.New("nats: permissions violation"), ""},
	} {
		err := Classify(tc.err)
		if got := kind(err); got != tc.want {
			t.Errorf("%v is %q, want %q", tc.err, got, tc.want)
		}
		if tc.want == "" && err != tc.err { //nolint:errorlint // Unchanged means the same.
			t.Errorf("%v was changed to %v", tc.err, err)
		}
		if tc.err != nil && !errors.Is(err, tc.err) {
			t.Errorf("%v lost its cause", err)
		}
	}
}

func TestParseViolation(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]violation{
		`Permissions Violation for Publish to "$JS.API.STREAM.CREATE.A"`:           {subject: "$JS.API.STREAM.CREATE.A"},
		`Permissions Violation for Subscription to "$KV.b.>"`:                      {subject: "$KV.b.>", subscription: true},
		`Permissions Violation for Subscription to "a.>" using queue "q"`:          {subject: "a.>", subscription: true},
		`Permissions Violation for Subscription to "a.>" (sid "3")`:                {subject: "a.>", subscription: true},
		`Permissions Violation for Publish with Reply of "_INBOX.x.y"`:             {subject: "_INBOX.x.y", reply: true},
		`Permissions Violation for Publish to "with \"quotes\" and \\ in subject"`: {subject: `with "quotes" and \ in subject`},
		`Permissions Violation`: {},
	} {
		got, ok := parseViolation(fmt.Errorf("%w: %s", nats.ErrPermissionViolation, text))
		if got != want || ok != (want != violation{}) {
			t.Errorf("%s is %+v, want %+v", text, got, want)
		}
	}
}

// What a real server answers.
func TestClassifyRealAnswers(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})
	ctx := background(t)
	create := func(cfg jetstream.StreamConfig) error {
		_, err := c.CreateStream(ctx, cfg)
		return err
	}
	update := func(cfg jetstream.StreamConfig) error {
		_, err := c.UpdateStream(ctx, cfg)
		return err
	}
	taken := streamConfig("TAKEN", "taken.>")
	if err := create(taken); err != nil {
		t.Fatal(err)
	}
	if err := create(taken); err != nil {
		t.Errorf("creating an equal stream again: %v", err)
	}
	with := func(change func(*jetstream.StreamConfig)) jetstream.StreamConfig {
		cfg := taken
		change(&cfg)
		return cfg
	}

	err := create(streamConfig("OVERLAP", "taken.more"))
	wantTerminal(t, err, v1alpha1.ReasonSubjectOverlap)
	want := `creating stream OVERLAP: NATS answered "subjects overlap with an existing stream" (code 10065); choose another spec.subject, or change the other stream`
	if err.Error() != want {
		t.Errorf("message %q, want %q", err, want)
	}
	replicated := streamConfig("REPLICATED")
	replicated.Replicas = 3
	wantTerminal(t, create(replicated), v1alpha1.ReasonReplicasUnsupported)
	wantTerminal(t, update(with(func(s *jetstream.StreamConfig) { s.Replicas = 3 })), v1alpha1.ReasonReplicasUnsupported)
	wantTerminal(t, update(with(func(s *jetstream.StreamConfig) { s.Storage = jetstream.FileStorage })), v1alpha1.ReasonInvalidConfiguration)
	wantTerminal(t, create(streamConfig("a.b")), v1alpha1.ReasonInvalidConfiguration)

	err = create(with(func(s *jetstream.StreamConfig) { s.Description = "another" }))
	if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) || classified(err) {
		t.Errorf("a name in use: %T %v", err, err)
	}
	err = c.DeleteStream(ctx, "NONE")
	if !errors.Is(err, jetstream.ErrStreamNotFound) || classified(err) {
		t.Errorf("no stream: %T %v", err, err)
	}

	full := streamConfig("FULL")
	full.MaxBytes, full.Discard = 200, jetstream.DiscardNew
	if err := create(full); err != nil {
		t.Fatal(err)
	}
	_, err = c.JetStream().Publish(ctx, "full.1", make([]byte, 500))
	wantWaiting(t, c.Explain(err), v1alpha1.ReasonStreamFull)
}

func TestClassifyRealLimits(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore, o.JetStreamMaxMemory = 1<<20, 1<<20 })
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})
	large := streamConfig("LARGE")
	large.MaxBytes = 1 << 30
	_, err := c.CreateStream(background(t), large)
	wantWaiting(t, err, v1alpha1.ReasonResourcesExhausted)
}

func TestClassifyRealPlacement(t *testing.T) {
	t.Parallel()
	servers := natstest.RunCluster(t)
	b := newBench(t)
	c := b.connected(t, Config{URL: servers[0].URL()})
	for name, cfg := range map[string]jetstream.StreamConfig{
		"too many replicas": {Name: "A", Subjects: []string{"a.>"}, Replicas: 5},
		"unknown tag":       {Name: "B", Subjects: []string{"b.>"}, Placement: &jetstream.Placement{Tags: []string{"nowhere"}}},
	} {
		_, err := c.CreateStream(background(t), cfg)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		t.Log(err)
		wantWaiting(t, err, v1alpha1.ReasonPlacementFailed)
	}
}
