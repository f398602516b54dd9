package auditstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Get returns the entry with the id.
//
// It returns ErrInvalidID for an id that cannot be one, ErrNotFound only where the stream itself says that it holds no such
// entry, a *CorruptError where the message under the id is not an entry, and ErrNotReady where no answer came in time. An id
// that holds nothing but key-value deletion markers is a *CorruptError too: somebody deleted it, which "not found" would hide. Where
// New did not make the store it is ErrInvalidConfig.
func (s *StreamStore) Get(ctx context.Context, id string) (*Entry, error) {
	if err := s.opened(); err != nil {
		return nil, err
	}
	if err := checkID(id); err != nil {
		return nil, err
	}
	ctx, cancel := within(ctx, s.limits.request)
	defer cancel()
	m, err := firstEntry(s.prefix+id, func(q query) (*message, error) { return s.ask(ctx, q) })
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading audit entry %q: %w", id, err)
	case m == nil:
		return nil, fmt.Errorf("%w: %q", ErrNotFound, id)
	}
	entry, err := s.decode(m)
	if err != nil {
		return nil, err
	}
	return &entry, nil
}

// firstEntry returns the subject's first message that is not a marker, its first marker where it holds nothing else, and nil
// where it holds nothing.
func firstEntry(subject string, ask func(query) (*message, error)) (*message, error) {
	// A server finds the last message at once, and the first one perhaps only after reading a part of the stream from its disk.
	// Nearly always it is the same one.
	if last, err := ask(query{LastOf: subject}); err != nil || last == nil || last.isFirst() {
		return last, err
	}
	var marker *message
	for q := (query{Sequence: 1, Subject: subject}); ; {
		m, err := ask(q)
		if err != nil {
			return nil, err
		}
		if m == nil {
			return marker, nil
		}
		if !m.isMarker() {
			return m, nil
		}
		if marker == nil {
			marker = m
		}
		q.Sequence = m.sequence + 1
	}
}

// ask returns the message, and nil where the stream's leader says there is none. Any replica may answer that it has it; only
// the leader, that nobody has, once it knows all that this store has seen.
func (s *StreamStore) ask(ctx context.Context, q query) (*message, error) {
	for {
		m, err := s.try(ctx, q, s.askReplica)
		if m != nil {
			return m, nil
		}
		if _, err := s.info(ctx); err != nil {
			return nil, err
		}
		m, leaderErr := s.try(ctx, q, s.askLeader)
		if leaderErr == nil {
			return m, nil
		}
		err = errors.Join(err, leaderErr)
		if errors.Is(err, jetstream.ErrStreamNotFound) || !pause(ctx, lastPause/2) {
			return nil, s.readError(err)
		}
	}
}

func (s *StreamStore) try(ctx context.Context, q query, ask func(context.Context, query) (*message, error)) (*message, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.try)
	defer cancel()
	return ask(ctx, q)
}
