package auditstore

import (
	"bytes"
	"context"
	"sync"
	"time"
)

const (
	// keptMessages is how many of the newest messages are kept, and keptLargest how large a body may be to be kept, in bytes: together
	// they bound what a store holds to about two mebibytes.
	keptMessages = 512
	keptLargest  = 4096
)

// kept are the newest messages that pages have read, so that of a newest page which is asked for again and again only what is new is
// read. What a stream holds under a sequence never changes; whether it still holds it is for its leader to say, and not asked
// here. The zero value is ready for use, and it is safe for concurrent use.
type kept struct {
	mu       sync.Mutex
	created  time.Time
	messages map[uint64]*message
}

// fetchKept is fetch of messages of the snapshot by their sequences, highest first. It does not read again what is kept, save the
// newest of that: should somebody have put an older backup in the stream's place and have written on, which leaves no other
// trace, that one differs, and nothing that was kept counts.
func (s *StreamStore) fetchKept(ctx context.Context, snap snapshot, sequences []uint64) ([]*message, error) {
	found := make([]*message, len(sequences))
	missing := make([]int, 0, len(sequences))
	witness := -1
	for i, m := range s.kept.find(snap.created, sequences) {
		switch {
		case m != nil && witness >= 0:
			found[i] = m
			continue
		case m != nil:
			witness, found[i] = i, m
		}
		missing = append(missing, i)
	}
	asked := make([]uint64, len(missing))
	for i, place := range missing {
		asked[i] = sequences[place]
	}
	messages, err := s.fetch(ctx, bySequence(asked))
	if err != nil {
		return nil, err
	}
	for i, m := range messages {
		place := missing[i]
		if place == witness && m != nil && !m.same(found[place]) {
			s.kept.forget()
			return s.fetch(ctx, bySequence(sequences))
		}
		found[place] = m
	}
	s.kept.keep(snap, messages)
	return found, nil
}

// same says whether both are the same message of a stream.
func (m *message) same(other *message) bool {
	return m.sequence == other.sequence && m.stored.Equal(other.stored) && m.subject == other.subject && bytes.Equal(m.data, other.data)
}

// find returns what is kept, in the order of the sequences, nil for what is not.
func (k *kept) find(created time.Time, sequences []uint64) []*message {
	found := make([]*message, len(sequences))
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.created.Equal(created) {
		for i, sequence := range sequences {
			found[i] = k.messages[sequence]
		}
	}
	return found
}

// keep adds what was read of the newest messages of the snapshot, and drops what is no longer among them.
func (k *kept) keep(snap snapshot, messages []*message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.created.Equal(snap.created) || k.messages == nil {
		k.created, k.messages = snap.created, map[uint64]*message{}
	}
	newest := func(sequence uint64) bool { return sequence+keptMessages > snap.last }
	before := len(k.messages)
	for _, m := range messages {
		if m != nil && newest(m.sequence) && len(m.data) <= keptLargest {
			k.messages[m.sequence] = m
		}
	}
	if len(k.messages) == before {
		return
	}
	for sequence := range k.messages {
		if !newest(sequence) {
			delete(k.messages, sequence)
		}
	}
}

func (k *kept) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.messages = nil
}
