package auditstore

import (
	"context"
	"hash/maphash"
	"maps"
	"slices"
)

// later knows the subjects that hold more than one message.
type later struct {
	seed maphash.Seed
	// sequences of each such subject, lowest first.
	sequences map[string][]uint64
	// suspects are messages that may be under a subject which had one before, by subject.
	suspects map[string][]uint64
	// markers are those of the messages above that are key-value deletion markers.
	markers map[uint64]bool
	// seen are the hashes of all subjects that the first look has met so far. It is nil after that look, and where there was no
	// surplus.
	seen map[uint64]struct{}
}

func newLater() later {
	return later{seed: maphash.MakeSeed(), sequences: map[string][]uint64{}, suspects: map[string][]uint64{},
		markers: map[uint64]bool{}}
}

// noter returns what a look shows every message to, which collects suspects where the stream has a surplus of messages. On the
// first look, from the start of the stream, a message is suspect when the hash of its subject was seen before; on later looks
// each one is. The server's word decides about suspects, so that a collision of hashes does no harm.
func (l *later) noter(begins, surplus bool) func(*message) {
	if !surplus {
		l.seen = nil
		return func(*message) {}
	}
	if begins {
		l.seen = map[uint64]struct{}{}
	}
	seen := l.seen
	return func(m *message) {
		if m.unreadable {
			return
		}
		l.mark(m)
		if seen != nil {
			hash := maphash.String(l.seed, m.subject)
			if _, again := seen[hash]; !again {
				seen[hash] = struct{}{}
				return
			}
		}
		l.suspects[m.subject] = append(l.suspects[m.subject], m.sequence)
	}
}

func (l *later) mark(m *message) {
	if m.isMarker() {
		l.markers[m.sequence] = true
	}
}

// hidden returns the sequences that are not entries because another message of their id is: the first one that is no marker, or
// the first one where all are. The stream's count of subjects proves that none is missing.
func (l *later) hidden(ctx context.Context, s *StreamStore, snap snapshot) (map[uint64]bool, error) {
	l.prune(snap)
	if l.surplus() != snap.surplus() {
		if err := l.ask(ctx, s, snap); err != nil {
			return nil, err
		}
	}
	if l.surplus() != snap.surplus() {
		return nil, errMoved
	}
	clear(l.suspects)
	hidden := map[uint64]bool{}
	for _, sequences := range l.sequences {
		entry := max(0, slices.IndexFunc(sequences, func(sequence uint64) bool { return !l.markers[sequence] }))
		for i, sequence := range sequences {
			if i != entry {
				hidden[sequence] = true
			}
		}
	}
	return hidden, nil
}

func (l *later) surplus() uint64 {
	var surplus uint64
	for _, sequences := range l.sequences {
		surplus += uint64(len(sequences) - 1)
	}
	return surplus
}

func (l *later) prune(snap snapshot) {
	for subject, sequences := range l.sequences {
		l.set(subject, sequences, snap)
	}
	maps.DeleteFunc(l.markers, func(sequence uint64, _ bool) bool { return !snap.has(sequence) })
}

func (l *later) set(subject string, sequences []uint64, snap snapshot) {
	sequences = slices.DeleteFunc(sequences, func(sequence uint64) bool { return !snap.has(sequence) })
	if len(sequences) < 2 {
		delete(l.sequences, subject)
		return
	}
	l.sequences[subject] = sequences
}

// ask asks the server for the first message of each suspect's subject.
func (l *later) ask(ctx context.Context, s *StreamStore, snap snapshot) error {
	queries := make([]query, 0, len(l.suspects))
	for subject := range l.suspects {
		queries = append(queries, query{Sequence: 1, Subject: subject})
	}
	firsts, err := s.fetch(ctx, queries)
	if err != nil {
		return err
	}
	for i, first := range firsts {
		subject := queries[i].Subject
		sequences := slices.Concat(l.sequences[subject], l.suspects[subject])
		if first != nil {
			sequences = append(sequences, first.sequence)
			l.mark(first)
		}
		slices.Sort(sequences)
		l.set(subject, slices.Compact(sequences), snap)
	}
	return nil
}
