package auditstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// The lengths of the pages that a scan reads: the first is short, for callers who need few entries.
const (
	firstStretch = 64
	stretch      = 1024
)

// visitor is shown a message that has a place in the trail, how many places were passed before it, and how many there are.
type visitor func(m *message, done, total int) error

// scan shows every place of the trail that can match to visit, in the query's order. It is one trail from the first to the last
// place: that of the time of the call, without what is removed meanwhile. An error of visit ends it and is returned.
func (s *StreamStore) scan(ctx context.Context, query *Query, visit visitor) error {
	if err := s.opened(); err != nil {
		return err
	}
	if err := query.check(); err != nil {
		return err
	}
	if ctx == nil {
		ctx = context.Background()
	}
	if query.Order == NewestFirst {
		return s.scanDown(ctx, query.since(), visit)
	}
	var err error
	for range listTries {
		var snap snapshot
		if snap, err = s.observe(ctx); err != nil {
			return err
		}
		c := scanner{store: s, snap: snap, since: query.since(), visit: visit}
		if err = c.up(ctx, query.Order); !errors.Is(err, errMoved) || c.done > 0 {
			return err
		}
	}
	return fmt.Errorf("%w: %w, %d times", ErrIncomplete, err, listTries)
}

// scanDown goes from page to page.
func (s *StreamStore) scanDown(ctx context.Context, since int64, visit visitor) error {
	var from place
	var first snapshot
	done := 0
	for limit := uint64(firstStretch); ; limit = stretch {
		p, err := s.steadyPage(ctx, limit, from)
		if err != nil {
			return err
		}
		if from.below == nil {
			first = p.snap
		}
		if err := first.same(p.snap); err != nil {
			return err
		}
		for _, place := range p.slots {
			if place.message != nil && place.at < since {
				return nil
			}
			if err := visit(place.read(), done, int(first.entries)); err != nil {
				return err
			}
			done++
		}
		if !p.more {
			return s.still(ctx, first)
		}
		from.below = &p.bottom
	}
}

// read is the slot's message, or one that says that nobody can read it.
func (p slot) read() *message {
	if p.message != nil {
		return p.message
	}
	return &message{sequence: p.sequence, unreadable: true}
}

// same fails where the stream was deleted and made again between two looks at it.
func (s snapshot) same(later snapshot) error {
	if s.created.Equal(later.created) {
		return nil
	}
	return fmt.Errorf("%w: the stream was deleted and made again while it was read", ErrIncomplete)
}

// still fails where the stream is no longer the snapshot's. It is asked at the end of a read of the whole trail: a stream that was made
// again meanwhile has other messages under the same sequences.
func (s *StreamStore) still(ctx context.Context, snap snapshot) error {
	info, err := s.info(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return snap.same(snapshot{holes: holes{created: info.Created}})
}

// scanner scans from the oldest place to the newest.
type scanner struct {
	store *StreamStore
	snap  snapshot
	since int64
	visit visitor
	done  int
}

// up scans by the consumer where that gives the order, and else by the order that the store keeps.
func (c *scanner) up(ctx context.Context, order Order) error {
	if order == AsStored && c.snap.surplus() == 0 {
		return c.walk(ctx, false, nil)
	}
	kept, hidden, err := c.store.ordered.state(ctx, c.store, c.snap)
	switch {
	case err != nil:
		return err
	case kept && order == OldestFirst:
		return c.byTime(ctx)
	}
	return c.walk(ctx, !kept, hidden)
}

// walk shows the messages in the order of their sequences, which may be known to be the one by time, without those that are
// hidden.
func (c *scanner) walk(ctx context.Context, byTime bool, hidden map[uint64]bool) error {
	low, err := c.begin(ctx, byTime)
	if err != nil {
		return err
	}
	c.done = int(c.snap.upTo(low))
	total := max(int(c.snap.entries), c.done)
	err = c.store.walk(ctx, c.snap, low, func(m *message) error {
		if hidden[m.sequence] || c.since != unknownTime && m.ref().at < c.since {
			return nil
		}
		c.done++
		return c.visit(m, c.done-1, total)
	})
	if err != nil {
		return err
	}
	return c.store.still(ctx, c.snap)
}

// begin is the sequence up to which everything was recorded before since.
func (c *scanner) begin(ctx context.Context, byTime bool) (uint64, error) {
	if c.since == unknownTime {
		return 0, nil
	}
	rank, err := c.store.rank(ctx, c.snap, func(m *message) bool {
		if byTime {
			return m.ref().at >= c.since
		}
		return nanoseconds(m.stored) >= c.since // it cannot have been recorded later
	})
	if err != nil || rank == 0 {
		return 0, err
	}
	return c.snap.at(rank - 1), nil
}

// byTime goes from stretch to stretch of the order by time.
func (c *scanner) byTime(ctx context.Context) error {
	for after := (ref{at: c.since}); ; {
		refs, err := c.stretch(ctx, after)
		if err != nil || len(refs) == 0 {
			return err
		}
		after = refs[len(refs)-1]
		refs = slices.DeleteFunc(refs, func(r ref) bool { return r.sequence > c.snap.last })
		messages, err := c.store.load(ctx, c.snap, refs)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if err := c.visit(m, c.done, max(int(c.snap.entries), c.done+1)); err != nil {
				return err
			}
			c.done++
		}
	}
}

func (c *scanner) stretch(ctx context.Context, after ref) (refs []ref, err error) {
	for range listTries {
		var now snapshot
		if now, err = c.store.observe(ctx); err != nil {
			return nil, err
		}
		if err := c.snap.same(now); err != nil {
			return nil, err
		}
		if refs, err = c.store.ordered.newer(ctx, c.store, now, stretch, after); !errors.Is(err, errMoved) {
			return refs, err
		}
	}
	return nil, fmt.Errorf("%w: %w, %d times", ErrIncomplete, err, listTries)
}

// load reads messages that the stream held a moment ago. What it does not hold any more is left out; what it still counts and
// cannot deliver is unreadable.
func (s *StreamStore) load(ctx context.Context, snap snapshot, refs []ref) ([]*message, error) {
	sequences := make([]uint64, len(refs))
	for i, r := range refs {
		sequences[i] = r.sequence
	}
	messages := make([]*message, 0, len(refs))
	err := s.visitEach(ctx, snap, sequences, func(m *message) error {
		messages = append(messages, m)
		return nil
	})
	return messages, err
}
