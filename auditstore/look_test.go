package auditstore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestDeepPagesOfManyCalls: a page that first needs to know the order of the stream keeps what it has found out when its
// context ends, so that repeated calls get there, whatever the order is.
func TestDeepPagesOfManyCalls(t *testing.T) {
	const total = 60_000
	for name, disturb := range map[string]func(js jetstream.JetStream){
		"in order":         func(jetstream.JetStream) {},
		"moved at the end": func(js jetstream.JetStream) { publish(t, js, "old", body("old", "ada"), time.Now().Add(-time.Hour)) },
		"an id twice":      func(js jetstream.JetStream) { publish(t, js, "e7", body("e7", "eve")) },
	} {
		t.Run(name, func(t *testing.T) {
			s, js, _ := open(t)
			fill(t, js, total)
			disturb(js)
			s.limits.probe = 100
			want, _ := list(t, openOn(t, js), 3, total/2)
			kept := false
			var got []Entry
			eventually(t, "a deep page", func() (err error) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				got, _, err = s.List(&countdown{Context: ctx, left: total / 3, cancel: cancel}, 3, total/2)
				kept = kept || err != nil && s.ordered.upTo > 0
				return err
			})
			if idsOf(got) != want || !kept {
				t.Errorf("List is %q, want %q; anything was kept of a try that failed: %v", idsOf(got), want, kept)
			}
		})
	}
}

// TestLooksThatBreakOffAgreeWithAModel ends looks anywhere, in streams of every kind.
func TestLooksThatBreakOffAgreeWithAModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s, js, _ := open(t)
			s.limits.probe = 0
			m := newModel(t, js, 300+seed)
			m.noSource, m.noDouble = seed%2 == 1, seed%4 >= 2
			for range 12 {
				for range 3 {
					m.change()
				}
				breakOff(t, s, m.random.IntN(20))
				breakOff(t, s, m.random.IntN(20))
				m.checkPages(s)
				m.check(s)
			}
		})
	}
}

// breakOff begins a look, and ends it after so many messages.
func breakOff(t *testing.T, s *StreamStore, after int) {
	t.Helper()
	snap, err := s.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := s.ordered.acquire(&countdown{Context: ctx, left: after, cancel: cancel}, s, snap); err == nil {
		s.ordered.release()
	} else if ctx.Err() == nil && !errors.Is(err, errMoved) {
		t.Fatal(err)
	}
}

// countdown ends when it has been asked often enough whether it has, as reading does before each message.
type countdown struct {
	context.Context
	left   int
	cancel func()
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		c.cancel()
	}
	return c.Context.Err()
}
