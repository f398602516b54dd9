package auditstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

type tailed struct {
	Record
	err error
}

// tailing is a Tail in a goroutine of its own.
type tailing struct {
	t    *testing.T
	ch   chan tailed
	stop context.CancelCauseFunc
}

// tailFrom begins a Tail, and returns once one without a cursor would not miss what is written from now on.
func tailFrom(t *testing.T, s *StreamStore, from Cursor) *tailing {
	t.Helper()
	ctx, stop := context.WithCancelCause(t.Context())
	l := &tailing{t: t, ch: make(chan tailed), stop: stop}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(l.ch)
		for record, err := range s.Tail(ctx, from) {
			select {
			case l.ch <- tailed{record, err}:
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() { stop(nil); <-done })
	return l
}

func (l *tailing) next() tailed {
	l.t.Helper()
	select {
	case one, open := <-l.ch:
		if !open {
			l.t.Fatal("the tail has ended")
		}
		return one
	case <-time.After(2 * time.Minute): // an election or two
		l.t.Fatal("nothing came")
	}
	return tailed{}
}

// want reads as many as there are words: an id, or a sequence that is reported.
func (l *tailing) want(want string) (last Record) {
	l.t.Helper()
	var got seen
	for range strings.FieldsSeq(want) {
		one := l.next()
		got.add(l.t, one.Entry, one.err)
		last = one.Record
	}
	if strings.Join(got, " ") != want {
		l.t.Fatalf("the tail yields %v, want %s", got, want)
	}
	return last
}

func latest(t *testing.T, s *StreamStore) Cursor {
	t.Helper()
	page, err := s.Page(t.Context(), "", 1)
	if err != nil {
		t.Fatal(err)
	}
	return page.Latest
}

func TestTailYieldsWhatComes(t *testing.T) {
	s, js, _ := open(t)
	mustWrite(t, s, "before")
	cursor := latest(t, s)
	l := tailFrom(t, s, cursor)
	mustWrite(t, s, "a")
	source := time.Now().Add(-time.Hour).Truncate(time.Second)
	publish(t, js, "b", body("b", "ada"), source) // by a program that does not ask
	if b := l.want("a b"); !b.Recorded.Equal(source) || b.User != "ada" {
		t.Errorf("b is %+v, want it recorded at %s", b, source)
	}
	m := newModel(t, js, 1)
	m.mark("c") // hides nothing, and is reported
	publish(t, js, "c", body("c", "ada"))
	publish(t, js, "a", body("a", "eve")) // is no entry
	publish(t, js, "d", []byte("{"))
	mustWrite(t, s, "e")
	c := l.next() // a marker is the id's only message, or not, when it is looked at
	if c.err == nil {
		t.Errorf("the marker is %+v", c)
	}
	middle := l.want("c !6")
	l.want("!7 e")
	tailFrom(t, s, cursor).want("a b !4 c !6 !7 e")
	tailFrom(t, s, middle.Cursor).want("!7 e")
	if _, err := s.Page(t.Context(), middle.Cursor, 1); !errors.Is(err, ErrInvalidCursor) {
		t.Errorf("a page from the cursor of a tail: %v", err)
	}
}

// TestTailFromNow sees what is written after its first step has begun.
func TestTailFromNow(t *testing.T) {
	s, js, _ := open(t)
	mustWrite(t, s, "before")
	l := tailFrom(t, s, "")
	eventually(t, "the tail to read", func() error {
		if consumers(t, js) == 0 {
			return errors.New("no consumer")
		}
		return nil
	})
	mustWrite(t, s, "a", "b")
	l.want("a b")
	ended := errors.New("enough of it")
	l.stop(ended)
	for one := range l.ch {
		wantIs(t, one.err, ended)
	}
	noConsumers(t, js)
}

func TestTailCanBeLeft(t *testing.T) {
	s, js, _ := open(t)
	cursor := latest(t, s)
	mustWrite(t, s, "a", "b")
	for record, err := range s.Tail(t.Context(), cursor) {
		if err != nil || record.ID != "a" {
			t.Errorf("the first is %+v, %v", record, err)
		}
		break
	}
	noConsumers(t, js)
}

// TestTailOutlivesItsServer stops the server, and the leaders of a cluster, while entries are written.
func TestTailOutlivesItsServer(t *testing.T) {
	for name, servers := range map[string]func(*testing.T) []*natstest.Server{
		"one server": func(t *testing.T) []*natstest.Server { return []*natstest.Server{natstest.Run(t)} },
		"a cluster":  func(t *testing.T) []*natstest.Server { return natstest.RunCluster(t) },
	} {
		t.Run(name, func(t *testing.T) {
			servers := servers(t)
			var urls []string
			for _, srv := range servers {
				urls = append(urls, srv.URL())
			}
			connect := func() jetstream.JetStream {
				nc, err := nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(nc.Close)
				js, err := jetstream.New(nc)
				if err != nil {
					t.Fatal(err)
				}
				return js
			}
			js := connect()
			cfg := streamConfig()
			cfg.Replicas = len(servers)
			create(t, js, cfg)
			s := openOn(t, js)
			l := tailFrom(t, openOn(t, connect()), latest(t, s))
			var want []string
			for round := range 3 * len(servers) {
				for i := range 200 {
					id := fmt.Sprintf("r%d-%d", round, i)
					want = append(want, id)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					if err := s.Write(ctx, named(id)); err != nil {
						t.Fatal(err)
					}
					cancel()
					if i == 100 {
						servers[round%len(servers)].Stop()
						servers[round%len(servers)].Restart()
					}
				}
			}
			l.want(strings.Join(want, " "))
		})
	}
}

func TestTailEndsWithWhatItCannotGoOnFrom(t *testing.T) {
	tests := map[string]struct {
		happens func(js jetstream.JetStream, stream jetstream.Stream) error
		want    error
	}{
		"the stream is gone": {func(js jetstream.JetStream, _ jetstream.Stream) error {
			return js.DeleteStream(t.Context(), testStream)
		}, ErrNotReady},
		"the stream was made again": {func(js jetstream.JetStream, _ jetstream.Stream) error {
			if err := js.DeleteStream(t.Context(), testStream); err != nil {
				return err
			}
			create(t, js, streamConfig())
			return nil
		}, ErrIncomplete},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, js, _ := open(t)
			mustWrite(t, s, "a", "b")
			l := tailFrom(t, s, position{kind: tailCursor, created: s.stream.CachedInfo().Created}.cursor())
			cursor := l.want("a b").Cursor
			if err := tt.happens(js, s.stream); err != nil {
				t.Fatal(err)
			}
			wantIs(t, l.next().err, tt.want)
			if _, open := <-l.ch; open {
				t.Error("the tail goes on")
			}
			if errors.Is(tt.want, ErrIncomplete) {
				wantIs(t, tailFrom(t, s, cursor).next().err, ErrInvalidCursor)
			}
		})
	}
}

// TestTailBehindRetention does not pass over what was removed before it came to it.
func TestTailBehindRetention(t *testing.T) {
	s, js, _ := open(t)
	mustWrite(t, s, "a")
	cursor := latest(t, s)
	mustWrite(t, s, "b", "c", "d")
	if err := s.stream.Purge(t.Context(), jetstream.WithPurgeSequence(4)); err != nil {
		t.Fatal(err)
	}
	err := tailFrom(t, s, cursor).next().err
	wantIs(t, err, ErrIncomplete)
	if !strings.Contains(err.Error(), "2 to 3") {
		t.Errorf("%v does not say what is missing", err)
	}
	for _, bad := range []Cursor{"x", "AAAA"} {
		wantIs(t, tailFrom(t, s, bad).next().err, ErrInvalidCursor)
	}
	page, err := s.Page(t.Context(), "", 1)
	if err != nil || !slices.Equal([]string{idsOf(page.Entries)}, []string{"d"}) {
		t.Fatalf("page %+v, %v", page, err)
	}
	publish(t, js, "e", body("e", "ada"))
	tailFrom(t, s, page.Latest).want("e")
}

// TestTailIsOvertakenByRetention: what retention removes ahead of a reader who is slow is not passed over in silence. What was
// deleted in the middle is no loss, and asking about it costs one look at the stream's state for all that is known by then.
func TestTailIsOvertakenByRetention(t *testing.T) {
	_, js, srv := open(t)
	const total = 3 * walkMessages
	fill(t, js, total)
	g := newGateway(t, srv)
	s := patient(openOn(t, g.js))
	remove(t, js, 3, 5, 6, 9)
	cursor := position{kind: tailCursor, created: s.stream.CachedInfo().Created}.cursor()
	var looks atomic.Int64
	g.set(func(operation string, _ *nats.Msg) bool {
		if strings.HasPrefix(operation, "STREAM.INFO.") {
			looks.Add(1)
		}
		return false
	})
	var last uint64
	var ended error
	for record, err := range s.Tail(t.Context(), cursor) {
		if err != nil {
			ended = err
			break
		}
		at, _ := record.Cursor.position(tailCursor)
		if last = at.sequence; last == total {
			break
		}
		if last == 20 {
			if n := looks.Load(); n > 3 {
				t.Errorf("the stream was asked %d times for its state", n)
			}
			if err := s.stream.Purge(t.Context(), jetstream.WithPurgeSequence(total-100)); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantIs(t, ended, ErrIncomplete)
	if missing := fmt.Sprintf("the sequences %d to %d", last+1, total-101); !strings.Contains(fmt.Sprint(ended), missing) {
		t.Errorf("after %d, the error does not say that %s are missing: %v", last, missing, ended)
	}
}
