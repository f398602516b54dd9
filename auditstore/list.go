package auditstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// listTries is how often List starts anew because the stream has changed under it. Each try takes a few milliseconds.
const listTries = 10

// errMoved is a page that was made from a state of the stream which is no longer the stream's.
var errMoved = errors.New("the stream changed while it was read")

// List returns up to limit entries, newest first, after the offset newest ones, and the number of all entries.
//
// Corrupt messages count and keep their place: a page with two of them holds two entries fewer, and comes together with an error
// that joins a *CorruptError for each. So a page that comes with an error matching ErrCorrupt is complete but for the messages
// that the error names. With every other error there is no page: ErrInvalidRange for a negative limit or offset, ErrNotReady or
// ErrIncomplete where the page could not be read whole, ErrInvalidConfig where New did not make the store.
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
