package auditstore

import (
	"context"
	"errors"
	"fmt"
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
	if ctx == nil {
		ctx = context.Background()
	}
	lost := map[uint64]bool{}
	for range listTries {
		page, total, err := s.page(ctx, uint64(limit), uint64(offset))
		if err == nil {
			page, err = settle(page, lost)
		}
		if errors.Is(err, errMoved) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("listing %d entries after %d: %w", limit, offset, err)
		}
		entries, err := s.decodeAll(page)
		return entries, int(total), err
	}
	return nil, 0, fmt.Errorf("%w: listing %d entries after %d: %w, %d times", ErrIncomplete, limit, offset, errMoved, listTries)
}

// slot is one place of a page. It has no message where the stream's leader found none.
type slot struct {
	sequence uint64
	message  *message
}

// settle decides about places without a message. One that the stream still counted after it was found missing is not a deletion
// that happened meanwhile: nobody can read it.
func settle(page []slot, lost map[uint64]bool) ([]slot, error) {
	moved := false
	for _, place := range page {
		if place.message == nil && !lost[place.sequence] {
			lost[place.sequence], moved = true, true
		}
	}
	if moved {
		return nil, errMoved
	}
	return page, nil
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
func (s *StreamStore) page(ctx context.Context, limit, offset uint64) ([]slot, uint64, error) {
	snap, err := s.observe(ctx)
	if err != nil {
		return nil, 0, err
	}
	if offset >= snap.entries || limit == 0 {
		return nil, snap.entries, nil
	}
	limit = min(limit, snap.entries-offset)
	page, err := s.recent(ctx, snap, limit, offset)
	if err != nil || page != nil {
		return page, snap.entries, err
	}
	sequences, err := s.ordered.page(ctx, s, snap, limit, offset)
	if err != nil {
		return nil, 0, err
	}
	messages, err := s.fetch(ctx, bySequence(sequences))
	if err != nil {
		return nil, 0, err
	}
	return slots(sequences, messages), snap.entries, nil
}

func slots(sequences []uint64, messages []*message) []slot {
	page := make([]slot, len(sequences))
	for i, sequence := range sequences {
		page[i] = slot{sequence: sequence, message: messages[i]}
	}
	return page
}

// recent reads a page by counting sequences from the newest one down. That is right where the page and all above it was written
// here: what lies below in the stream was stored earlier, so it is older, wherever it came from. It returns no page where that
// is not so, or where finding out would mean to read much more than the page.
func (s *StreamStore) recent(ctx context.Context, snap snapshot, limit, offset uint64) ([]slot, error) {
	if snap.surplus() > 0 {
		return nil, nil // later messages of an id are in between, and not entries
	}
	sequences := snap.newest(offset, limit)
	top, low := sequences[0], sequences[len(sequences)-1]
	s.mu.Lock()
	known := s.native
	s.mu.Unlock()
	unknown := top
	if known.created.Equal(snap.created) {
		if known.moved >= low {
			return nil, nil
		}
		if known.low <= top+1 && known.high > top {
			unknown = known.high
		}
	}
	if snap.count()-snap.upTo(unknown) > uint64(s.limits.probe) {
		return nil, nil
	}
	above := snap.between(unknown, snap.last)
	messages, err := s.fetch(ctx, append(bySequence(sequences), bySequence(above)...))
	if err != nil {
		return nil, err
	}
	page := messages[:len(sequences)]
	if moved := max(nativeOnly(page), nativeOnly(messages[len(sequences):])); moved != 0 {
		s.learn(span{created: snap.created, moved: moved})
		return nil, nil
	}
	s.learn(span{created: snap.created, low: low, high: snap.last})
	return slots(sequences, page), nil
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
