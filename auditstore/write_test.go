package auditstore

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

func TestWriteFillsIDAndTimestamp(t *testing.T) {
	s, _, _ := open(t)
	before := time.Now()
	if err := s.Write(t.Context(), Entry{User: "ada"}); err != nil {
		t.Fatal(err)
	}
	entries, _, err := s.List(t.Context(), 1, 0)
	if err != nil || len(entries) != 1 {
		t.Fatalf("List gave %v, %v", entries, err)
	}
	entry := entries[0]
	if len(entry.ID) != 26 || entry.Timestamp.Before(before.Truncate(0)) || entry.Timestamp.After(time.Now()) || entry.User != "ada" {
		t.Errorf("stored %+v", entry)
	}
	if got, err := s.Get(t.Context(), entry.ID); err != nil || got.ID != entry.ID {
		t.Errorf("Get gave %+v, %v", got, err)
	}
}

func TestNewIDGrowsInEveryGoroutine(t *testing.T) {
	const writers, each = 8, 2000
	var wg sync.WaitGroup
	made := make([][]string, writers)
	for w := range writers {
		wg.Go(func() {
			for range each {
				made[w] = append(made[w], NewID())
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, list := range made {
		for i, id := range list {
			if seen[id] || !ValidID(id) || i > 0 && id <= list[i-1] {
				t.Fatalf("id %q is double, invalid or not greater than the one before", id)
			}
			seen[id] = true
		}
	}
}

func TestEntryHasTheLegacyNames(t *testing.T) {
	entry := named("a")
	entry.OperationID, entry.TraceID = "createNode", "4bf92f3577b34da6a3ce929d0e0e4736"
	data, err := json.Marshal(entry)
	const want = `{"id":"a","timestamp":"2026-01-02T03:04:05.000000006Z","user":"ada","roles":["admin"],"method":"POST",` +
		`"path":"/nodes","operation_id":"createNode","source_ip":"192.0.2.1","response_code":201,"duration_ms":12,` +
		`"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}`
	if err != nil || string(data) != want {
		t.Errorf("got %s, %v\nwant %s", data, err, want)
	}
}

func TestWriteRefuses(t *testing.T) {
	full := func(cfg *jetstream.StreamConfig) { cfg.MaxBytes, cfg.Discard = 2000, jetstream.DiscardNew }
	tests := map[string]struct {
		change func(*jetstream.StreamConfig)
		entry  Entry
		want   error
	}{
		"wildcard":               {nil, Entry{ID: ">"}, ErrInvalidID},
		"two tokens":             {nil, Entry{ID: "a.b"}, ErrInvalidID},
		"long id":                {nil, Entry{ID: strings.Repeat("x", 1025)}, ErrInvalidID},
		"year 10000":             {nil, Entry{Timestamp: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, ErrInvalidEntry},
		"over the server's size": {nil, Entry{Path: strings.Repeat("x", 2<<20)}, ErrTooLarge},
		"over the stream's size": {func(cfg *jetstream.StreamConfig) { cfg.MaxMsgSize = 300 }, Entry{Path: strings.Repeat("x", 300)}, ErrTooLarge},
		"bytes":                  {full, Entry{Path: strings.Repeat("x", 3000)}, ErrStreamFull},
		"messages": {func(cfg *jetstream.StreamConfig) { cfg.MaxMsgs, cfg.Discard = 1, jetstream.DiscardNew },
			Entry{}, ErrStreamFull},
		"taken": {nil, Entry{ID: "first", User: "eve"}, ErrConflict},
		"taken, one per subject": {func(cfg *jetstream.StreamConfig) {
			cfg.MaxMsgsPerSubject, cfg.Discard, cfg.DiscardNewPerSubject = 1, jetstream.DiscardNew, true
		}, Entry{ID: "first", User: "eve"}, ErrConflict},
		"sealed": {nil, Entry{ID: "sealed"}, ErrNotReady},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.change == nil {
				test.change = func(*jetstream.StreamConfig) {}
			}
			s, js, _ := open(t, test.change)
			mustWrite(t, s, "first")
			if errors.Is(test.want, ErrNotReady) {
				cfg := streamConfig()
				cfg.Sealed = true
				if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
					t.Fatal(err)
				}
			}
			start := time.Now()
			err := s.Write(t.Context(), test.entry)
			wantIs(t, err, test.want)
			var named *WriteError
			if !errors.As(err, &named) || (test.entry.ID != "" && named.ID != test.entry.ID) {
				t.Errorf("the error does not name the entry: %v", err)
			}
			if took := time.Since(start); took > WriteTimeout/2 {
				t.Errorf("a refusal that will not change took %s", took)
			}
			mustWriteAgain(t, s, test.want)
		})
	}
}

// mustWriteAgain repeats the first write, which is a success on every stream that still answers conflicts.
func mustWriteAgain(t *testing.T, s *StreamStore, met error) {
	t.Helper()
	if errors.Is(met, ErrNotReady) || errors.Is(met, ErrStreamFull) {
		return
	}
	mustWrite(t, s, "first")
}

func TestWriteTriesUntilTheDeadline(t *testing.T) {
	s, js, _ := open(t)
	if err := js.DeleteStream(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := s.Write(ctx, named("a"))
	wantIs(t, err, ErrNotReady, context.DeadlineExceeded, jetstream.ErrNoStreamResponse)
	if took := time.Since(start); took < 600*time.Millisecond || took > WriteTimeout/2 {
		t.Errorf("gave up after %s", took)
	}
	done := make(chan error, 1)
	go func() { done <- s.Write(t.Context(), named("a")) }()
	create(t, js, streamConfig())
	if err := <-done; err != nil {
		t.Errorf("the stream is back, but the write failed: %v", err)
	}
	canceled, stop := context.WithCancel(t.Context())
	stop()
	wantIs(t, s.Write(canceled, named("b")), ErrNotReady, context.Canceled)
}

func TestWriteGivesUpALostTrySoon(t *testing.T) {
	s, js, _ := open(t)
	var lost atomic.Bool
	s.publisher = publisherFunc(func(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
		if lost.CompareAndSwap(false, true) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return js.PublishMsg(ctx, msg, opts...)
	})
	start := time.Now()
	mustWrite(t, s, "a")
	if took := time.Since(start); took < s.limits.try || took > WriteTimeout/2 {
		t.Errorf("a write whose first request was lost took %s", took)
	}
}

func TestWriteSurvivesARestart(t *testing.T) {
	s, _, srv := open(t)
	mustWrite(t, s, "a")
	srv.Stop()
	done := make(chan error, 1)
	go func() { done <- s.Write(t.Context(), named("b")) }()
	srv.Restart()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, total := list(t, s, 5, 0); got != "b a" || total != 2 {
		t.Errorf("the stream holds %q of %d", got, total)
	}
}

func TestWriteOnAClosedConnection(t *testing.T) {
	_, _, srv := open(t)
	nc := srv.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s := openOn(t, js)
	nc.Close()
	wantIs(t, s.Write(t.Context(), named("a")), ErrNotReady, nats.ErrConnectionClosed)
}

func TestRefusalsByCode(t *testing.T) {
	tests := []struct {
		code        jetstream.ErrorCode
		description string
		want        error
	}{
		{10071, "wrong last sequence: 5", errConflicting},
		{10164, "wrong last sequence", errConflicting},
		{10077, "maximum messages per subject exceeded", errConflicting},
		{10077, "maximum messages exceeded", ErrStreamFull},
		{10077, "maximum bytes exceeded", ErrStreamFull},
		{10077, "message to large", ErrTooLarge},
		{10077, "disk on fire", nil},
		{10002, "resource limits exceeded for account", ErrStreamFull},
		{10047, "insufficient storage resources available", ErrStreamFull},
		{10054, "message size exceeds maximum allowed", ErrTooLarge},
		{10097, "header size exceeds maximum allowed of 64k", ErrTooLarge},
		{10060, "expected stream does not match", ErrNotReady},
		{10109, "invalid operation on sealed stream", ErrNotReady},
		{10008, "JetStream system temporarily unavailable", nil},
		{10023, "insufficient resources", nil},
	}
	for _, test := range tests {
		err := classifyPublish(&jetstream.APIError{ErrorCode: test.code, Description: test.description})
		switch {
		case test.want != nil:
			wantIs(t, err, test.want)
		case err == nil || final(err) || errors.Is(err, errConflicting):
			t.Errorf("%d %q is to be tried again, got %v", test.code, test.description, err)
		}
	}
}

// TestFullAfterAnAcknowledgementWasLost: what an earlier try has stored is not reported as refused for want of room.
func TestFullAfterAnAcknowledgementWasLost(t *testing.T) {
	full := &jetstream.APIError{Code: 503, ErrorCode: codeAccountResources, Description: "resource limits exceeded for account"}
	for name, tt := range map[string]struct {
		first func(js jetstream.JetStream, msg *nats.Msg) // what becomes of the first try, which is not acknowledged
		want  error
	}{
		"stored": {func(js jetstream.JetStream, msg *nats.Msg) {
			if _, err := js.PublishMsg(t.Context(), msg); err != nil {
				t.Error(err)
			}
		}, nil},
		"lost":              {func(jetstream.JetStream, *nats.Msg) {}, ErrStreamFull},
		"another was there": {func(js jetstream.JetStream, _ *nats.Msg) { publish(t, js, "a", body("a", "eve")) }, ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			s, js, _ := open(t)
			patient(s)
			calls := 0
			s.publisher = publisherFunc(func(_ context.Context, msg *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
				if calls++; calls == 1 {
					tt.first(js, msg)
					return nil, context.DeadlineExceeded
				}
				return nil, full
			})
			err := s.Write(t.Context(), named("a"))
			if tt.want == nil && err != nil || !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if calls != 2 {
				t.Errorf("%d tries, want 2", calls)
			}
		})
	}
}

func TestDeniedPublishNamesThePermission(t *testing.T) {
	srv := natstest.Run(t, func(opts *server.Options) {
		opts.Users = []*server.User{{Username: "admin", Password: "admin"}, {Username: "reader", Password: "reader",
			Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{testSubject + ".>"}}}}}
	})
	if _, err := srv.JetStream(nats.UserInfo("admin", "admin")).CreateStream(t.Context(), streamConfig()); err != nil {
		t.Fatal(err)
	}
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	s := openOn(t, srv.JetStream(nats.UserInfo("reader", "reader"), quiet))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // the server's word comes beside the request
	defer cancel()
	wantIs(t, s.Write(ctx, named("a")), ErrNotReady, nats.ErrPermissionViolation)
}
