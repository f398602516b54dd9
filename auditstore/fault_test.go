package auditstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestReadsFallBackToTheLeader(t *testing.T) {
	s, _, srv := open(t)
	mustWrite(t, s, "a", "b", "c")
	g := newGateway(t, srv)
	s = patient(openOn(t, g.js))
	var lagging atomic.Int64
	g.set(func(operation string, msg *nats.Msg) bool {
		if strings.HasPrefix(operation, "DIRECT.GET.") {
			lagging.Add(1)
			notFound(msg)
			return true
		}
		return false
	})
	if entry, err := s.Get(t.Context(), "b"); err != nil || entry.ID != "b" {
		t.Errorf("Get gave %+v, %v", entry, err)
	}
	if got, total := list(t, s, 2, 0); got != "c b" || total != 3 {
		t.Errorf("List is %q of %d", got, total)
	}
	_, err := s.Get(t.Context(), "d")
	wantIs(t, err, ErrNotFound)
	if lagging.Load() != 5 { // of which one was for what lies below the page
		t.Errorf("%d direct gets were refused, want 5", lagging.Load())
	}
}

// TestAnswersToOtherQuestions: a replica that answers with another message than was asked for is not believed.
func TestAnswersToOtherQuestions(t *testing.T) {
	s, _, srv := open(t)
	mustWrite(t, s, "a", "b", "c")
	g := newGateway(t, srv)
	s = patient(openOn(t, g.js))
	var wrong atomic.Int64
	g.set(func(operation string, msg *nats.Msg) bool {
		if !strings.HasPrefix(operation, "DIRECT.GET.") {
			return false
		}
		wrong.Add(1)
		answer := nats.NewMsg(msg.Reply)
		answer.Data = body("x", "eve")
		for key, value := range map[string]string{
			jetstream.SequenceHeader: "999", jetstream.SubjectHeader: testSubject + ".x", jetstream.StreamHeader: testStream,
			jetstream.TimeStampHeaer: time.Now().Format(time.RFC3339Nano), jetstream.ExpectedLastSubjSeqHeader: "0",
		} {
			answer.Header.Set(key, value)
		}
		_ = msg.RespondMsg(answer)
		return true
	})
	if entry, err := s.Get(t.Context(), "b"); err != nil || entry.ID != "b" {
		t.Errorf("Get gave %+v, %v", entry, err)
	}
	if got, total := list(t, s, 5, 0); got != "c b a" || total != 3 {
		t.Errorf("List is %q of %d", got, total)
	}
	if wrong.Load() != 4 {
		t.Errorf("%d wrong answers were given, want 4", wrong.Load())
	}
}

func TestReadsOutliveLostAnswers(t *testing.T) {
	s, _, srv := open(t)
	mustWrite(t, s, "a", "b", "c")
	g := newGateway(t, srv)
	random := rand.New(rand.NewPCG(1, 2))
	g.set(func(string, *nats.Msg) bool { return random.IntN(3) != 0 }) // two of three requests are lost
	s = openOn(t, g.js)
	s.limits.request, s.limits.try = time.Minute, 100*time.Millisecond
	if entry, err := s.Get(t.Context(), "b"); err != nil || entry.ID != "b" {
		t.Errorf("Get gave %+v, %v", entry, err)
	}
	if got, total := list(t, s, 5, 0); got != "c b a" || total != 3 {
		t.Errorf("List is %q of %d", got, total)
	}
}

func TestSilentServerIsNotReadyInTime(t *testing.T) {
	s, _, srv := open(t)
	mustWrite(t, s, "a")
	g := newGateway(t, srv)
	s = openOn(t, g.js)
	s.limits.request, s.limits.try = 300*time.Millisecond, 100*time.Millisecond
	silent := func(operation string, _ *nats.Msg) bool { return !strings.HasPrefix(operation, "STREAM.INFO.") }
	for name, refuse := range map[string]func(string, *nats.Msg) bool{
		"all":           func(string, *nats.Msg) bool { return true },
		"all but info":  silent,
		"all but reads": func(operation string, _ *nats.Msg) bool { return !strings.HasPrefix(operation, "DIRECT") },
	} {
		t.Run(name, func(t *testing.T) {
			g.set(refuse)
			start := time.Now()
			_, getErr := s.Get(t.Context(), "missing")
			_, _, listErr := s.List(t.Context(), 5, 0)
			_, allErr := s.ListAll(t.Context())
			if name != "all but reads" {
				wantIs(t, getErr, ErrNotReady)
			}
			wantIs(t, errors.Join(listErr, allErr), ErrNotReady)
			if errors.Is(errors.Join(getErr, listErr, allErr), ErrNotFound) {
				t.Error("a missing answer was taken for a missing entry")
			}
			if took := time.Since(start); took > 2*RequestTimeout { // without the limits above each would take RequestTimeout
				t.Errorf("gave up after %s", took)
			}
		})
	}
}

func TestReadsEndWithTheirContext(t *testing.T) {
	s, _, srv := open(t)
	mustWrite(t, s, "a")
	g := newGateway(t, srv)
	s = openOn(t, g.js)
	s.limits.probe = 0 // ListAll goes through a consumer
	g.set(func(operation string, _ *nats.Msg) bool {
		return !strings.HasPrefix(operation, "STREAM.INFO.") && !strings.HasPrefix(operation, "CONSUMER.")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := s.Get(ctx, "a")
	wantIs(t, err, ErrNotReady, context.DeadlineExceeded)
	_, _, err = s.List(ctx, 5, 0)
	wantIs(t, err, ErrNotReady, context.DeadlineExceeded)
	_, err = s.ListAll(ctx)
	wantIs(t, err, ErrNotReady, context.DeadlineExceeded)
	if took := time.Since(start); took >= RequestTimeout {
		t.Errorf("took %s with a context of 200 ms", took)
	}
}

func TestConsumerThatStalls(t *testing.T) {
	_, js, srv := open(t)
	fill(t, js, 50)
	g := newGateway(t, srv)
	s := openOn(t, g.js)
	s.limits.probe, s.limits.request = 10, time.Second
	refuse := func(operations ...string) {
		g.set(func(operation string, _ *nats.Msg) bool {
			return slices.ContainsFunc(operations, func(prefix string) bool { return strings.HasPrefix(operation, prefix) })
		})
	}
	refuse("CONSUMER.MSG.NEXT.")
	if entries, err := s.ListAll(t.Context()); err != nil || len(entries) != 50 {
		t.Errorf("without a consumer, got %d entries and %v, want all 50 by other means", len(entries), err)
	}
	refuse("CONSUMER.MSG.NEXT.", "DIRECT.GET.", "STREAM.MSG.GET.")
	entries, err := s.ListAll(t.Context())
	wantIs(t, err, ErrIncomplete)
	if entries != nil || !strings.Contains(fmt.Sprint(err), "read 0 of 50 messages") {
		t.Errorf("got %d entries, and an error that does not say what is missing: %v", len(entries), err)
	}
	noConsumers(t, js)
}

func TestMessageDeletedWhileItIsRead(t *testing.T) {
	s, js, srv := open(t)
	mustWrite(t, s, "a", "b", "c", "d")
	g := newGateway(t, srv)
	s = openOn(t, g.js)
	var once atomic.Bool
	g.set(func(operation string, _ *nats.Msg) bool {
		if strings.HasPrefix(operation, "DIRECT.GET.") && once.CompareAndSwap(false, true) {
			remove(t, js, 3) // after the stream's state was read, before the message is
		}
		return false
	})
	if got, total := list(t, s, 2, 0); got != "d b" || total != 3 {
		t.Errorf("List is %q of %d, want d b of 3", got, total)
	}
}

func TestMessageThatNobodyCanReadIsCorrupt(t *testing.T) {
	s, _, srv := open(t)
	mustWrite(t, s, "a", "b", "c")
	g := newGateway(t, srv)
	s = openOn(t, g.js)
	g.set(func(operation string, msg *nats.Msg) bool {
		if string(msg.Data) != `{"seq":2}` {
			return false
		}
		if strings.HasPrefix(operation, "DIRECT.GET.") {
			notFound(msg)
		} else {
			_ = msg.Respond([]byte(`{"error":{"code":404,"err_code":10037,"description":"no message found"}}`))
		}
		return true
	})
	entries, total, err := s.List(t.Context(), 3, 0)
	if idsOf(entries) != "c a" || total != 3 {
		t.Errorf("List is %q of %d, want c a of 3", idsOf(entries), total)
	}
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || corrupt.Sequence != 2 {
		t.Errorf("the error does not name sequence 2: %v", err)
	}
	all, err := s.ListAll(t.Context())
	if idsOf(all) != "c a" {
		t.Errorf("ListAll is %q, want c a", idsOf(all))
	}
	wantSequences(t, err, 2)
}

func TestStoredHeadersCannotPassForTheServers(t *testing.T) {
	_, js, srv := open(t)
	msg := nats.NewMsg(testSubject + ".a")
	msg.Data = body("a", "ada")
	for key, value := range map[string]string{"Nats-Sequence": "99", "Nats-Subject": "audit.z", "Status": "404",
		"Nats-Time-Stamp": "2001-01-01T00:00:00Z", "Description": "Message Not Found"} {
		msg.Header.Set(key, value)
	}
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, srv)
	s := openOn(t, g.js)
	g.set(func(operation string, _ *nats.Msg) bool { // the direct answer alone has to do
		if strings.HasPrefix(operation, "STREAM.MSG.GET.") {
			t.Error("the leader was asked for a message that a replica has")
		}
		return false
	})
	if entry, err := s.Get(t.Context(), "a"); err != nil || entry.ID != "a" {
		t.Errorf("Get gave %+v, %v", entry, err)
	}
	if got, _ := list(t, s, 1, 0); got != "a" {
		t.Errorf("List is %q", got)
	}
}

// TestAPageCostsItsEntries counts requests: the stream's state, and one for each entry, of the newest ones only for those that were
// not read before and for the newest one that was. What a store has to find out first, it finds out once.
func TestAPageCostsItsEntries(t *testing.T) {
	_, js, srv := open(t)
	g := newGateway(t, srv)
	s := patient(openOn(t, g.js))
	s.limits.probe = 10
	fill(t, js, 60)
	costs := func(what string, offset int, want int64) {
		t.Helper()
		before := g.asked.Load()
		list(t, s, 5, offset)
		if cost := g.asked.Load() - before; cost != want {
			t.Errorf("%s: a page of 5 cost %d requests, want %d", what, cost, want)
		}
	}
	page := func(what string, offset int) {
		t.Helper()
		list(t, s, 5, offset)
		costs(what, offset, 6)
	}
	costs("newest, the first time", 0, 7) // and the one below, to see that it is older
	costs("newest", 0, 2)
	publish(t, js, "new1", body("new1", "ada"))
	publish(t, js, "new2", body("new2", "ada"))
	costs("newest with two new ones", 0, 4)
	page("middle", 30)
	remove(t, js, 20, 22, 40, 60)
	list(t, s, 5, 0)
	costs("newest with holes", 0, 2)
	page("middle with holes", 30)
	for i := range 10 {
		id := fmt.Sprintf("m%d", i)
		publish(t, js, id, body(id, "ada"), time.Now().Add(time.Duration(i-100)*time.Minute))
	}
	page("newest below moved entries", 0)
	page("oldest, moved", 60)
	publish(t, js, "e7", body("e7", "eve"))
	page("newest with a later message", 0)
	page("middle with a later message", 30)
}

func TestWalkFetchesWhatTheConsumerLeftOut(t *testing.T) {
	s, js, _ := open(t)
	mustWrite(t, s, "a", "b", "c", "d", "e")
	snap, err := s.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var seen []uint64
	w := &walker{store: s, snap: snap, visit: func(m *message) error { seen = append(seen, m.sequence); return nil }}
	for _, sequence := range []uint64{1, 4, 5, 6} { // 6 is newer than the snapshot
		if err := w.take(&message{sequence: sequence}); err != nil {
			t.Fatal(err)
		}
	}
	remove(t, js, 3)
	if err := w.makeUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []uint64{1, 4, 5, 2}; !slices.Equal(seen, want) || w.visited != 4 {
		t.Errorf("visited %v, want %v: 2 was left out and is there, 3 is gone", seen, want)
	}
}
