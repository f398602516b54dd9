package auditstore

import (
	"context"
	"fmt"
	"sort"
)

// EntryPage is what Page returns.
type EntryPage struct {
	// Entries are the page's, newest first. There may be fewer than asked for also before the last page.
	Entries []Entry
	// Total is how many entries the trail held when the page was read.
	Total int
	// Next is where the next page begins, empty where this is the last one.
	Next Cursor
	// Latest is where a Tail begins that misses and repeats nothing: right after what the stream held when the page was read.
	Latest Cursor
}

// place is where a page begins: below the offset newest entries, or right below an entry.
type place struct {
	offset uint64
	below  *ref
}

// skipped is how many messages lie above the place where the order of sequences is the order of time.
func (p place) skipped(h holes) uint64 {
	if p.below == nil {
		return p.offset
	}
	return h.count() - h.upTo(p.below.sequence-1)
}

// skipped is how many messages lie above the place in a stream in which the order of sequences is the order of time. The place
// of a message that is gone is looked for by its time: it may have been one that was moved here, out of order.
func (s *StreamStore) skipped(ctx context.Context, snap snapshot, from place) (uint64, error) {
	if from.below == nil || snap.has(from.below.sequence) {
		return from.skipped(snap.holes), nil
	}
	below, err := s.rank(ctx, snap, func(m *message) bool { return compareRefs(m.ref(), *from.below) >= 0 })
	return snap.count() - below, err
}

// rank is how many messages lie below the first one for which reached is true, as it has to be for all after it. It asks for a
// few messages.
func (s *StreamStore) rank(ctx context.Context, snap snapshot, reached func(*message) bool) (uint64, error) {
	var failed error
	rank := sort.Search(int(snap.count()), func(rank int) bool {
		for next := uint64(rank); failed == nil && next < snap.count(); next++ { // one that is gone says nothing
			messages, err := s.fetch(ctx, bySequence([]uint64{snap.at(next)}))
			if failed = err; err == nil && messages[0] != nil {
				return reached(messages[0])
			}
		}
		return true
	})
	return uint64(rank), failed
}

// Page returns up to limit entries that are older than the cursor's place, newest first; the zero Cursor is where the newest are.
// Other than with List and an offset, entries that are written meanwhile shift nothing: going on from page to page shows each
// entry that was there when the first page was read, and is still there, exactly once. An entry with an older time that
// is moved into the stream meanwhile is on the page where it belongs, or missed where that page was read before.
//
// Corrupt messages are reported as List does. ErrInvalidCursor is returned for a cursor that was not made by Page for this
// very stream, ErrInvalidRange for a limit below 1.
func (s *StreamStore) Page(ctx context.Context, cursor Cursor, limit int) (*EntryPage, error) {
	if err := s.opened(); err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, fmt.Errorf("%w: limit is %d: give 1 or more", ErrInvalidRange, limit)
	}
	var from place
	var at position
	if cursor != "" {
		var err error
		if at, err = cursor.position(pageCursor); err != nil {
			return nil, err
		}
		from.below = &at.ref
	}
	p, err := s.steadyPage(ctx, uint64(limit), from)
	if err != nil {
		return nil, fmt.Errorf("reading a page of %d entries: %w", limit, err)
	}
	if from.below != nil {
		if err := at.of(p.snap.created); err != nil {
			return nil, err
		}
	}
	page := &EntryPage{
		Total:  int(p.snap.entries),
		Latest: position{kind: tailCursor, created: p.snap.created, ref: ref{sequence: p.snap.last}}.cursor(),
	}
	if p.more {
		page.Next = position{kind: pageCursor, created: p.snap.created, ref: p.bottom}.cursor()
	}
	page.Entries, err = s.decodeAll(p.slots)
	return page, err
}
