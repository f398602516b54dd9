package auditstore

import (
	"context"
	"slices"
	"time"
)

// span is a range of sequences of one stream of which each message was written here, and not moved here, and is not older than the
// one before.
type span struct {
	created   time.Time
	low, high uint64
	latest    int64 // the time of the last one
	// moved is the highest sequence known to hold a message that was moved here, or is older than the one before; 0 is none.
	moved uint64
	// reach is the latest time known of a message that is newer than the next one; 0 is none.
	reach int64
}

func (s span) covers(sequence uint64) bool { return s.low <= sequence && sequence <= s.high }

// nativeOf is what is known of the snapshot's stream.
func (s *StreamStore) nativeOf(snap snapshot) span {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.native.created.Equal(snap.created) {
		return s.native
	}
	return span{created: snap.created}
}

// recent reads a page by counting sequences from the newest one down. That is right where the page and all above it was written
// here: what lies below in the stream was stored earlier, so it is older, wherever it came from, as the message right below the
// page shows. It is not known where that is not so, or where finding out would mean to read much more than the page.
func (s *StreamStore) recent(ctx context.Context, p *page, limit uint64, from place) (known bool, err error) {
	snap := p.snap
	if snap.surplus() > 0 {
		return false, nil // later messages of an id are in between, and not entries
	}
	skipped := from.skipped(snap.holes)
	sequences := snap.newest(skipped, limit)
	if len(sequences) == 0 {
		return false, nil
	}
	e := evidence{snap: snap, native: s.nativeOf(snap), page: sequences, below: snap.newest(skipped+uint64(len(sequences)), 1)}
	if e.native.moved >= e.low() || !e.surround(uint64(s.limits.probe)) {
		return false, nil
	}
	messages, err := s.fetchKept(ctx, snap, slices.Concat(sequences, e.below, e.above))
	if err != nil {
		return false, err
	}
	found := messages[:len(sequences)]
	if newest := found[0]; from.below != nil && newest != nil && compareRefs(newest.ref(), *from.below) > 0 {
		return false, nil // the place is not where its sequence says: it was one of a message that was moved here
	}
	seen, inOrder := e.weigh(messages)
	s.learn(seen)
	if !inOrder {
		return false, nil
	}
	p.slots, p.more = slots(sequencesOnly(sequences), found), skipped+uint64(len(sequences)) < snap.count()
	return true, nil
}

// evidence is what shows that the order of sequences is the order of time from a page upward, and right below it.
type evidence struct {
	snap   snapshot
	native span
	page   []uint64 // highest first
	below  []uint64 // the one right below the page, unless it is known to be older
	above  []uint64 // what is above the page and not known, lowest first
}

func (e *evidence) low() uint64 { return e.page[len(e.page)-1] }

// surround decides what to read besides the page. It returns false where that is more than the limit.
func (e *evidence) surround(limit uint64) bool {
	unknown := e.page[0]
	if e.native.covers(unknown) {
		unknown = e.native.high
		if len(e.below) > 0 && e.native.low <= e.below[0] {
			e.below = nil
		}
	}
	if e.snap.count()-e.snap.upTo(unknown) > limit {
		return false
	}
	e.above = e.snap.between(unknown, e.snap.last)
	return true
}

// weigh looks at what was read: the page, the one below, and those above. It returns what they show, and whether all is in order.
func (e *evidence) weigh(messages []*message) (seen span, inOrder bool) {
	found, rest := messages[:len(e.page)], messages[len(e.page):]
	below, above := rest[:len(e.below)], rest[len(e.below):]
	rising := slices.Clone(found)
	slices.Reverse(rising)
	if e.native.covers(e.page[0]) {
		rising = append(rising, &message{sequence: e.native.high, stored: time.Unix(0, e.native.latest)})
	}
	rising = slices.DeleteFunc(append(rising, above...), func(m *message) bool { return m == nil })
	if len(rising) == 0 {
		return span{created: e.snap.created}, true
	}
	seen = disorder(rising)
	seen.created = e.snap.created
	lowest, low := nanoseconds(rising[0].stored), e.low()
	for _, m := range below {
		if m == nil {
			break
		}
		at, moved := m.at()
		if at > lowest {
			seen.moved, seen.reach = max(seen.moved, low), max(seen.reach, at)
		}
		if !moved {
			low = m.sequence
		}
	}
	if seen.moved == 0 {
		seen.low, seen.high, seen.latest = low, e.snap.last, nanoseconds(rising[len(rising)-1].stored)
	}
	return seen, seen.moved == 0 && e.native.reach <= lowest
}

// disorder says what is out of the order of time, or was moved here, of messages in the order of their sequences.
func disorder(messages []*message) (seen span) {
	for i, m := range messages {
		if _, moved := m.at(); moved {
			seen.moved = m.sequence
		}
		// The clocks of two servers differ: a new leader may stamp a message with an earlier time than the one before.
		if i > 0 && m.stored.Before(messages[i-1].stored) {
			seen.moved, seen.reach = m.sequence, max(seen.reach, nanoseconds(messages[i-1].stored))
		}
	}
	return seen
}

// learn keeps what a page has shown, joined with what was known where both are about the same stream and share a message.
func (s *StreamStore) learn(seen span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.native
	if !known.created.Equal(seen.created) {
		s.native = seen
		return
	}
	known.moved, known.reach = max(known.moved, seen.moved), max(known.reach, seen.reach)
	if joins := seen.low <= known.high && known.low <= seen.high; joins && seen.high > 0 {
		known.low = min(known.low, seen.low)
	} else if seen.high > known.high {
		known.low = seen.low
	}
	if seen.high > known.high {
		known.high, known.latest = seen.high, seen.latest
	}
	s.native = known
}
