package auditstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// listTries is how often List starts anew because the stream has changed under it. Each try takes a few milliseconds.
const listTries = 10

// errMoved is a page that was made from a state of the stream which is no longer the stream's.
var errMoved = errors.New("the stream changed while it was read")

// span is a range of sequences of one stream of which each message was written here, and not moved here.
type span struct {
	created   time.Time
	low, high uint64
	// moved is the highest sequence known to hold a message that was moved here; 0 is none.
	moved uint64
}

// List returns up to limit entries, newest first, after the offset newest ones, and the number of all entries.
//
// Corrupt messages count and keep their place: a page with two of them holds two entries fewer, and comes together with an error
// that joins a *CorruptError for each. So a page that comes with an error matching ErrCorrupt is complete but for the messages
// that the error names. With every other error there is no page: ErrInvalidRange for a negative limit or offset, ErrNotReady or
// ErrIncomplete where the page could not be read whole.
func (s *StreamStore) List(ctx context.Context, limit, offset int) ([]Entry, int, error) {
	if err := s.opened(); err != nil {
		return nil, 0, err
	}
	if limit < 0 || offset < 0 {
		return nil, 0, fmt.Errorf("%w: limit is %d and offset is %d: neither may be negative", ErrInvalidRange, limit, offset)
	}
	p, err := s.steadyPage(ctx, uint64(limit), place{offset: uint64(offset)})
	if err != nil {
		return nil, 0, fmt.Errorf("listing %d entries after %d: %w", limit, offset, err)
	}
	entries, err := s.decodeAll(p.slots)
	return entries, int(p.snap.entries), err
}

// slot is one place of a page. It has no message where the stream's leader found none.
type slot struct {
	ref
	message *message
}

// page is a part of the trail, newest first, and the state of the stream that it was read from.
type page struct {
	snap  snapshot
	slots []slot
	more  bool // whether there are older entries
	// bottom is the last place of the page, also where nothing is left there.
	bottom ref
}

// steadyPage reads a page from one state of the stream, and tries again where that is no longer the stream's.
func (s *StreamStore) steadyPage(ctx context.Context, limit uint64, from place) (page, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	for range listTries {
		p, err := s.page(ctx, limit, from)
		if err == nil && len(p.slots) > 0 {
			p.bottom = p.slots[len(p.slots)-1].ref
			err = s.settle(ctx, &p, from)
		}
		if !errors.Is(err, errMoved) {
			return p, err
		}
	}
	return page{}, fmt.Errorf("%w: %w, %d times", ErrIncomplete, errMoved, listTries)
}

// settle decides about places without a message. One that the stream still counts now is not a deletion that happened meanwhile:
// nobody can read it, and it stays. One that is gone leaves the page, where those below it are not to move up: below a cursor,
// and where retention has removed the oldest.
func (s *StreamStore) settle(ctx context.Context, p *page, from place) error {
	var missing []uint64
	for _, place := range p.slots {
		if place.message == nil {
			missing = append(missing, place.sequence)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	late := make([]*message, len(missing))
	now, err := s.again(ctx, missing, late)
	if err != nil {
		return err
	}
	gone := func(place slot) bool { return place.message == nil && !now.has(place.sequence) }
	first := slices.IndexFunc(p.slots, gone)
	switch {
	case !now.created.Equal(p.snap.created), slices.ContainsFunc(late, func(m *message) bool { return m != nil }):
		return errMoved
	case first < 0:
		return nil
	case from.below == nil && (p.snap.surplus() > 0 || p.snap.at(0) >= now.first ||
		slices.ContainsFunc(p.slots[first:], func(place slot) bool { return place.sequence >= now.first })):
		return errMoved
	}
	p.slots = slices.DeleteFunc(p.slots, gone)
	if p.snap.surplus() == 0 {
		p.snap.entries -= p.snap.upTo(now.first - 1)
	}
	return nil
}

func (s *StreamStore) decodeAll(page []slot) ([]Entry, error) {
	entries := make([]Entry, 0, len(page))
	var corrupt []error
	for _, place := range page {
		m := place.message
		if m == nil {
			m = &message{sequence: place.sequence, unreadable: true}
		}
		entry, err := s.decode(m)
		if err != nil {
			corrupt = append(corrupt, err)
			continue
		}
		entries = append(entries, entry)
	}
	return entries, errors.Join(corrupt...)
}

// page makes one try to read a page from one state of the stream.
func (s *StreamStore) page(ctx context.Context, limit uint64, from place) (page, error) {
	snap, err := s.observe(ctx)
	p := page{snap: snap}
	if err != nil || limit == 0 || from.below == nil && from.offset >= snap.entries {
		return p, err
	}
	if known, err := s.recent(ctx, &p, limit, from); known || err != nil {
		return p, err
	}
	refs, more, err := s.ordered.page(ctx, s, snap, limit, from)
	if err != nil {
		return p, err
	}
	messages, err := s.fetch(ctx, queriesOf(refs))
	if err != nil {
		return p, err
	}
	p.slots, p.more = slots(refs, messages), more
	return p, nil
}

// slots puts messages into their places. Where only the sequences were known of these, the messages tell the times; one that
// is unreadable has the time of the one before it.
func slots(refs []ref, messages []*message) []slot {
	page := make([]slot, len(refs))
	for i, r := range refs {
		page[i] = slot{ref: r, message: messages[i]}
		switch {
		case r.at != unknownTime:
		case messages[i] != nil:
			page[i].at, _ = messages[i].at()
		case i > 0:
			page[i].at = page[i-1].at
		}
	}
	return page
}

// unknownTime is the time of a message that was not looked at.
const unknownTime = math.MinInt64

// sequencesOnly are places of which only the sequences are known.
func sequencesOnly(sequences []uint64) []ref {
	refs := make([]ref, len(sequences))
	for i, sequence := range sequences {
		refs[i] = ref{at: unknownTime, sequence: sequence}
	}
	return refs
}

func queriesOf(refs []ref) []query {
	queries := make([]query, len(refs))
	for i, r := range refs {
		queries[i].Sequence = r.sequence
	}
	return queries
}

// recent reads a page by counting sequences from the newest one down. That is right where the page and all above it was written
// here: what lies below in the stream was stored earlier, so it is older, wherever it came from. It is not known where that
// is not so, or where finding out would mean to read much more than the page.
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
	top, low := sequences[0], sequences[len(sequences)-1]
	s.mu.Lock()
	native := s.native
	s.mu.Unlock()
	unknown := top
	if native.created.Equal(snap.created) {
		if native.moved >= low {
			return false, nil
		}
		if native.low <= top+1 && native.high > top {
			unknown = native.high
		}
	}
	if snap.count()-snap.upTo(unknown) > uint64(s.limits.probe) {
		return false, nil
	}
	above := snap.between(unknown, snap.last)
	messages, err := s.fetch(ctx, append(bySequence(sequences), bySequence(above)...))
	if err != nil {
		return false, err
	}
	found := messages[:len(sequences)]
	if newest := found[0]; from.below != nil && newest != nil && compareRefs(newest.ref(), *from.below) > 0 {
		return false, nil // the place is not where its sequence says: it was one of a message that was moved here
	}
	if moved := max(nativeOnly(found), nativeOnly(messages[len(sequences):])); moved != 0 {
		s.learn(span{created: snap.created, moved: moved})
		return false, nil
	}
	s.learn(span{created: snap.created, low: low, high: snap.last})
	p.slots, p.more = slots(sequencesOnly(sequences), found), skipped+uint64(len(sequences)) < snap.count()
	return true, nil
}

// nativeOnly returns the highest sequence that is out of the order of time or holds a message that was moved here, and 0 where
// there is none. The messages are in the order of their sequences, from low to high or from high to low.
func nativeOnly(messages []*message) uint64 {
	var highest uint64
	var previous *message
	for _, m := range messages {
		if m == nil {
			continue
		}
		_, moved := m.at()
		// The clocks of two servers differ: a new leader may stamp a message with an earlier time than the one before.
		skewed := previous != nil && (m.sequence < previous.sequence) == m.stored.After(previous.stored) &&
			!m.stored.Equal(previous.stored)
		if moved || skewed {
			highest = max(highest, m.sequence)
		}
		previous = m
	}
	return highest
}

// learn keeps what a page has shown, joined with what was known where both are about the same stream and touch.
func (s *StreamStore) learn(seen span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.native
	if !known.created.Equal(seen.created) {
		s.native = seen
		return
	}
	known.moved = max(known.moved, seen.moved)
	switch {
	case seen.high == 0:
	case seen.low <= known.high+1 && known.low <= seen.high+1 && known.high != 0:
		known.low, known.high = min(known.low, seen.low), max(known.high, seen.high)
	case seen.high > known.high:
		known.low, known.high = seen.low, seen.high
	}
	s.native = known
}
