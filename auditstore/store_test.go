package auditstore

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

func TestNewValidatesTheConfig(t *testing.T) {
	js := natstest.Run(t).JetStream()
	for _, cfg := range []Config{{}, {Stream: "A.B", Subject: "audit"}, {Stream: "A", Subject: ""}, {Stream: "A", Subject: "audit.>"},
		{Stream: "A", Subject: "audit.*"}, {Stream: "A", Subject: ".audit"}, {Stream: "A", Subject: "audit."}, {Stream: "A", Subject: "a b"}} {
		_, err := New(t.Context(), js, cfg)
		wantIs(t, err, ErrInvalidConfig)
	}
	_, err := New(t.Context(), nil, Config{Stream: "A", Subject: "audit"})
	wantIs(t, err, ErrInvalidConfig)
}

func TestNewValidatesTheStream(t *testing.T) {
	tests := map[string]struct {
		change func(*jetstream.StreamConfig)
		says   string // "" is accepted
	}{
		"as the operator makes it": {func(*jetstream.StreamConfig) {}, ""},
		"one token":                {func(cfg *jetstream.StreamConfig) { cfg.Subjects = []string{"audit.*"} }, ""},
		"and the base":             {func(cfg *jetstream.StreamConfig) { cfg.Subjects = []string{"audit", "audit.>"} }, ""},
		"a bucket handed over": {func(cfg *jetstream.StreamConfig) {
			cfg.Subjects = []string{"audit.>", "$KV.audit-log.>"}
			cfg.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "$KV.audit-log.>", Destination: "audit.>"}
		}, ""},
		"other subject": {func(cfg *jetstream.StreamConfig) { cfg.Subjects = []string{"logs.>"} }, `captures "logs.>"`},
		"shared":        {func(cfg *jetstream.StreamConfig) { cfg.Subjects = []string{"audit.>", "logs"} }, `captures "logs"`},
		"narrower":      {func(cfg *jetstream.StreamConfig) { cfg.Subjects = []string{"audit.api.>"} }, `does not capture "audit.>"`},
		"no direct get": {func(cfg *jetstream.StreamConfig) { cfg.AllowDirect = false }, "set allow_direct"},
		"no ack":        {func(cfg *jetstream.StreamConfig) { cfg.NoAck = true }, "clear no_ack"},
		"buckets handed over, as the operator does it": {func(cfg *jetstream.StreamConfig) {
			cfg.Subjects = []string{"audit.>", "$KV.audit-log.>", "$KV.old.>"}
			cfg.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "$KV.*.>", Destination: "audit.>"}
		}, ""},
		"write-once, as the operator does it": {func(cfg *jetstream.StreamConfig) {
			cfg.MaxMsgsPerSubject, cfg.Discard, cfg.DiscardNewPerSubject = 1, jetstream.DiscardNew, true
		}, ""},
		"one message a subject, the newest": {func(cfg *jetstream.StreamConfig) { cfg.MaxMsgsPerSubject = 1 }, "max_msgs_per_subject 1"},
		"and full means full": {func(cfg *jetstream.StreamConfig) { cfg.MaxMsgsPerSubject, cfg.Discard = 2, jetstream.DiscardNew },
			"max_msgs_per_subject 2"},
		"interest": {func(cfg *jetstream.StreamConfig) { cfg.Retention = jetstream.InterestPolicy }, "the retention interest"},
		"queue":    {func(cfg *jetstream.StreamConfig) { cfg.Retention = jetstream.WorkQueuePolicy }, "the retention workqueue"},
		"transformed": {func(cfg *jetstream.StreamConfig) {
			cfg.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "audit.*", Destination: "elsewhere.{{wildcard(1)}}"}
		}, `subject_transform from "audit.*" to "elsewhere.{{wildcard(1)}}"`},
		"transformed with all": {func(cfg *jetstream.StreamConfig) {
			cfg.SubjectTransform = &jetstream.SubjectTransformConfig{Source: ">", Destination: "audit.>"}
		}, `subject_transform from ">"`},
	}
	js := natstest.Run(t).JetStream()
	_, err := New(t.Context(), js, Config{Stream: testStream, Subject: testSubject})
	wantIs(t, err, ErrNotReady)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := streamConfig()
			test.change(&cfg)
			create(t, js, cfg)
			defer func() { _ = js.DeleteStream(t.Context(), testStream) }()
			_, err := New(t.Context(), js, Config{Stream: testStream, Subject: testSubject})
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantIs(t, err, ErrNotReady)
			if err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error %q does not say %q", err, test.says)
			}
		})
	}
}

func TestNewRefusesASealedStream(t *testing.T) {
	s, js, _ := open(t)
	cfg := s.stream.CachedInfo().Config
	cfg.Sealed = true
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	_, err := New(t.Context(), js, Config{Stream: testStream, Subject: testSubject})
	wantIs(t, err, ErrNotReady)
	if !strings.Contains(fmt.Sprint(err), "is sealed") {
		t.Errorf("the error does not say why: %v", err)
	}
}

func TestStoreInADomain(t *testing.T) {
	srv := natstest.Run(t, func(opts *server.Options) { opts.JetStreamDomain = "hub" })
	js, err := jetstream.NewWithDomain(srv.Connect(), "hub")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), streamConfig()); err != nil {
		t.Fatal(err)
	}
	s := openOn(t, js)
	if s.api != "$JS.hub.API." {
		t.Errorf("the API prefix is %q", s.api)
	}
	exercise(t, s)
}

func TestStoreBehindAnAPIPrefix(t *testing.T) {
	_, _, srv := open(t)
	g := newGateway(t, srv)
	s := openOn(t, g.js)
	before := g.asked.Load()
	exercise(t, s)
	if g.asked.Load()-before < 5 {
		t.Errorf("only %d requests went through the prefix", g.asked.Load()-before)
	}
}

// exercise calls each method once with success.
func exercise(t *testing.T, s *StreamStore) {
	t.Helper()
	mustWrite(t, s, "a", "b")
	mustWrite(t, s, "a") // asks the leader what is stored
	if _, err := s.Get(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if got, total := list(t, s, 5, 0); got != "b a" || total != 2 {
		t.Errorf("List is %q of %d", got, total)
	}
	if all, err := s.ListAll(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("ListAll is %v, %v", all, err)
	}
}

func TestMisuseIsAnError(t *testing.T) {
	for _, s := range []*StreamStore{nil, {}} {
		_, err := s.Get(t.Context(), "a")
		wantIs(t, err, ErrInvalidConfig)
		_, _, err = s.List(t.Context(), 1, 0)
		wantIs(t, err, ErrInvalidConfig)
		_, err = s.ListAll(t.Context())
		wantIs(t, err, ErrInvalidConfig)
		wantIs(t, s.Write(t.Context(), Entry{}), ErrInvalidConfig)
	}
	s, _, _ := open(t)
	_, err := s.Export(t.Context(), nil, ExportOptions{})
	wantIs(t, err, ErrInvalidQuery)
	s.limits.probe = 0
	if err := s.Write(nil, named("a")); err != nil { //nolint:staticcheck // a nil context is the point
		t.Error(err)
	}
	if _, err := s.Get(nil, "a"); err != nil { //nolint:staticcheck // as above
		t.Error(err)
	}
	if _, _, err := s.List(nil, 1, 0); err != nil { //nolint:staticcheck // as above
		t.Error(err)
	}
	if _, err := s.ListAll(nil); err != nil { //nolint:staticcheck // as above
		t.Error(err)
	}
}

func TestEmptyStream(t *testing.T) {
	s, js, _ := open(t)
	for round := range uint64(2) {
		if got, total := list(t, s, 10, 0); got != "" || total != 0 {
			t.Errorf("List is %q of %d", got, total)
		}
		if all, err := s.ListAll(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("ListAll is %v, %v", all, err)
		}
		mustWrite(t, s, "a", "b")
		remove(t, js, 2*round+1, 2*round+2)
	}
}

func TestStreamMadeAgainUnderItsName(t *testing.T) {
	s, js, _ := open(t)
	publish(t, js, "new", body("new", "ada"))
	publish(t, js, "old", body("old", "ada"), time.Now().Add(-time.Hour))
	if got, _ := list(t, s, 5, 0); got != "new old" {
		t.Fatalf("List is %q", got)
	}
	if err := js.DeleteStream(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	create(t, js, streamConfig())
	mustWrite(t, s, "x", "y", "z")
	if got, total := list(t, s, 5, 0); got != "z y x" || total != 3 {
		t.Errorf("List of the new stream is %q of %d", got, total)
	}
}
