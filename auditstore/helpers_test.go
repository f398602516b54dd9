package auditstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

const (
	testStream  = "AUDIT"
	testSubject = "audit"
)

func streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: testStream, Subjects: []string{testSubject + ".>"}, AllowDirect: true}
}

// open runs a server with the stream, changed as asked, and opens the store on it.
func open(t *testing.T, change ...func(*jetstream.StreamConfig)) (*StreamStore, jetstream.JetStream, *natstest.Server) {
	t.Helper()
	srv := natstest.Run(t)
	js := srv.JetStream()
	cfg := streamConfig()
	for _, apply := range change {
		apply(&cfg)
	}
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return openOn(t, js), js, srv
}

// create makes the stream, also where one of its name was deleted just before: the server still clears its files for a moment
// and fails with 10049. It waits until the stream answers, which in a new cluster may be a while later.
func create(t *testing.T, js jetstream.JetStream, cfg jetstream.StreamConfig) {
	t.Helper()
	eventually(t, "the stream to be made", func() error {
		_, err := js.CreateStream(t.Context(), cfg)
		return err
	})
	if cfg.NoAck {
		return
	}
	subject := strings.NewReplacer("*", "probe", ">", "probe").Replace(cfg.Subjects[0])
	eventually(t, "the stream to answer", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.Publish(ctx, subject, nil, jetstream.WithExpectStream("another"))
		var refused *jetstream.APIError
		if errors.As(err, &refused) && refused.ErrorCode == codeOtherStream {
			return nil
		}
		return fmt.Errorf("a message for another stream was not refused: %w", err)
	})
}

func openOn(t *testing.T, js jetstream.JetStream) *StreamStore {
	t.Helper()
	s, err := New(t.Context(), js, Config{Stream: testStream, Subject: testSubject})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func named(id string) Entry {
	return Entry{ID: id, Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), User: "ada", Roles: []string{"admin"},
		Method: "POST", Path: "/nodes", SourceIP: "192.0.2.1", ResponseCode: 201, DurationMs: 12}
}

func mustWrite(t *testing.T, s *StreamStore, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := s.Write(t.Context(), named(id)); err != nil {
			t.Fatal(err)
		}
	}
}

func body(id, user string) []byte { return fmt.Appendf(nil, `{"id":%q,"user":%q}`, id, user) }

// publish stores a message the way another program would, without any check. A source time makes it a migrated one.
func publish(t *testing.T, js jetstream.JetStream, id string, data []byte, source ...time.Time) uint64 {
	t.Helper()
	msg := nats.NewMsg(testSubject + "." + id)
	msg.Data = data
	for _, at := range source {
		msg.Header.Set(HeaderSourceTime, at.Format(time.RFC3339Nano))
	}
	ack, err := js.PublishMsg(t.Context(), msg)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// fill stores n entries e0, e1, … quickly.
func fill(t *testing.T, js jetstream.JetStream, n int) {
	t.Helper()
	for i := range n {
		id := fmt.Sprintf("e%d", i)
		if _, err := js.PublishAsync(testSubject+"."+id, body(id, "ada")); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 999 || i == n-1 {
			awaitAcks(t, js)
		}
	}
}

func awaitAcks(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(30 * time.Second):
		t.Fatal("the stream did not acknowledge in time")
	}
}

func remove(t *testing.T, js jetstream.JetStream, sequences ...uint64) {
	t.Helper()
	stream, err := js.Stream(t.Context(), testStream)
	if err != nil {
		t.Fatal(err)
	}
	for _, sequence := range sequences {
		if err := stream.DeleteMsg(t.Context(), sequence); err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T, s *StreamStore, limit, offset int) (string, int) {
	t.Helper()
	entries, total, err := s.List(t.Context(), limit, offset)
	if err != nil {
		t.Fatalf("List(%d, %d): %v", limit, offset, err)
	}
	return idsOf(entries), total
}

func idsOf(entries []Entry) string {
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.ID
	}
	return strings.Join(names, " ")
}

func consumers(t *testing.T, js jetstream.JetStream) int {
	t.Helper()
	stream, err := js.Stream(t.Context(), testStream)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Consumers
}

// noConsumers waits until none is left: removing one may take longer than whoever does it waits for the answer. What is left behind
// would be there for longer than this waits.
func noConsumers(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	eventuallyWithin(t, orphaned/2, "the consumers to go", func() error {
		if n := consumers(t, js); n > 0 {
			return fmt.Errorf("%d were left behind", n)
		}
		return nil
	})
}

// patient lets no request of the store time out, so that their number does not depend on how slow the machine is.
func patient(s *StreamStore) *StreamStore {
	s.limits.request, s.limits.try = time.Minute, time.Minute
	return s
}

func wantIs(t *testing.T, err error, sentinels ...error) {
	t.Helper()
	for _, sentinel := range sentinels {
		if !errors.Is(err, sentinel) {
			t.Errorf("got error %v, want one that is %v", err, sentinel)
		}
	}
}

// gateway passes JetStream API requests under another prefix on to the server, save those that refuse keeps. It stands in for
// replicas that lag, leaders that are gone and answers that are lost.
type gateway struct {
	js     jetstream.JetStream
	asked  atomic.Int64
	refuse atomic.Pointer[func(operation string, msg *nats.Msg) bool]
}

func newGateway(t *testing.T, srv *natstest.Server) *gateway {
	t.Helper()
	g := &gateway{}
	nc := srv.Connect()
	_, err := nc.Subscribe("GATE.API.>", func(msg *nats.Msg) {
		operation := strings.TrimPrefix(msg.Subject, "GATE.API.")
		g.asked.Add(1)
		if refuse := g.refuse.Load(); refuse != nil && (*refuse)(operation, msg) {
			return
		}
		forward := &nats.Msg{Subject: jetstream.DefaultAPIPrefix + operation, Reply: msg.Reply, Header: msg.Header, Data: msg.Data}
		_ = nc.PublishMsg(forward)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if g.js, err = jetstream.NewWithAPIPrefix(srv.Connect(), "GATE.API"); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gateway) set(refuse func(operation string, msg *nats.Msg) bool) { g.refuse.Store(&refuse) }

// notFound answers a direct get as a replica does that has not got the message yet.
func notFound(msg *nats.Msg) {
	answer := nats.NewMsg(msg.Reply)
	answer.Header.Set("Status", "404")
	answer.Header.Set("Description", "Message Not Found")
	_ = msg.RespondMsg(answer)
}

type publisherFunc func(context.Context, *nats.Msg, ...jetstream.PublishOpt) (*jetstream.PubAck, error)

func (f publisherFunc) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return f(ctx, msg, opts...)
}
