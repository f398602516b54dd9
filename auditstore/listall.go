package auditstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
)

// ListAll returns every entry that the stream held when the call began and still held when it was read, newest first.
//
// Corrupt messages are left out and reported as List does: with an error that matches ErrCorrupt and names them all. With every
// other error there are no entries: what could not be read whole is not returned in part.
//
// It holds the whole trail in memory, and reads through a consumer that is gone when it returns.
func (s *StreamStore) ListAll(ctx context.Context) ([]Entry, error) {
	if err := s.opened(); err != nil {
		return nil, err
	}
	snap, err := s.observe(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing all entries: %w", err)
	}
	all := make([]read, 0, snap.count())
	err = s.walk(ctx, snap, 0, func(m *message) error {
		entry, err := s.decode(m)
		all = append(all, read{ref: m.ref(), subject: m.subject, marker: m.isMarker(), entry: entry, err: err})
		return nil
	})
	if err == nil {
		err = s.still(ctx, snap)
	}
	if err != nil {
		return nil, fmt.Errorf("listing all entries: %w", err)
	}
	if snap.surplus() > 0 {
		all = firstOnly(all)
	}
	slices.SortFunc(all, func(a, b read) int { return compareRefs(b.ref, a.ref) })
	entries := make([]Entry, 0, len(all))
	var corrupt []error
	for _, r := range all {
		if r.err != nil {
			corrupt = append(corrupt, r.err)
			continue
		}
		entries = append(entries, r.entry)
	}
	return entries, errors.Join(corrupt...)
}

// read is a message that was looked into: an entry, or what is wrong with it.
type read struct {
	ref
	subject string
	marker  bool
	entry   Entry
	err     error
}

// firstOnly keeps the first message of each id that is no marker, or the first one where all are.
func firstOnly(all []read) []read {
	slices.SortFunc(all, func(a, b read) int {
		switch {
		case a.marker == b.marker:
			return cmp.Compare(a.sequence, b.sequence)
		case b.marker:
			return -1
		}
		return 1
	})
	seen := make(map[string]struct{}, len(all))
	return slices.DeleteFunc(all, func(r read) bool {
		if r.subject == "" {
			return false // unreadable
		}
		_, again := seen[r.subject]
		seen[r.subject] = struct{}{}
		return again
	})
}
