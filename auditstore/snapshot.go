package auditstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// snapshot is the state of the stream at one moment, in the words of its leader.
type snapshot struct {
	holes
	// entries is how many subjects there are, and so how many entries.
	entries uint64
}

// surplus is how many messages are under a subject that has an earlier one.
func (s snapshot) surplus() uint64 { return s.count() - s.entries }

// observe asks for the stream's state. The list of deleted sequences, which is long in a stream with many holes, is only asked
// for when it has changed.
func (s *StreamStore) observe(ctx context.Context) (snapshot, error) {
	info, err := s.info(ctx)
	if err != nil {
		return snapshot{}, err
	}
	s.mu.Lock()
	known := s.holes
	s.mu.Unlock()
	next := known.moved(info.Created, firstOf(info.State), info.State.LastSeq)
	if next.count() != info.State.Msgs {
		if info, err = s.info(ctx, jetstream.WithDeletedDetails(true)); err != nil {
			return snapshot{}, err
		}
		next = holes{created: info.Created, first: firstOf(info.State), last: info.State.LastSeq, deleted: info.State.Deleted}
		if next.count() != info.State.Msgs {
			return snapshot{}, fmt.Errorf("%w: stream %q says that it holds %d messages, but lists %d: try again",
				ErrNotReady, s.name, info.State.Msgs, next.count())
		}
	}
	s.mu.Lock()
	s.holes = next
	s.mu.Unlock()
	return snapshot{holes: next, entries: info.State.NumSubjects}, nil
}

// firstOf is one more than the last sequence in an empty stream, where a server may say 0.
func firstOf(state jetstream.StreamState) uint64 {
	if state.Msgs == 0 {
		return state.LastSeq + 1
	}
	return state.FirstSeq
}

func (s *StreamStore) info(ctx context.Context, opts ...jetstream.StreamInfoOpt) (info *jetstream.StreamInfo, err error) {
	// The list of deleted sequences of a large stream may take longer than a try: it has the whole time.
	wait := s.limits.try
	if len(opts) > 0 {
		wait = s.limits.request
	}
	err = s.inTries(ctx, wait, func(ctx context.Context) error {
		seen := s.end()
		now, err := s.stream.Info(ctx, opts...)
		if err != nil {
			return err
		}
		info = now
		return s.reaches(seen, info)
	})
	if errors.Is(err, errBehind) && s.isLost(ctx) {
		s.begin(info)
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the state of stream %q: %w", s.name, s.readError(err))
	}
	return info, nil
}

// mark is the end of the stream as far as this store has seen it.
type mark struct {
	created time.Time
	last    uint64
}

// errBehind is a stream that ends before where it ended.
var errBehind = errors.New("its last sequence went back")

// reaches fails where the stream ends before what was seen in it, or acknowledged by it, before it was asked. For a moment that is
// so when a replica has been elected that still applies what it has, or when its predecessor has not heard of it.
func (s *StreamStore) reaches(seen mark, info *jetstream.StreamInfo) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen.created.Equal(info.Created) && info.State.LastSeq < seen.last {
		if s.behind.IsZero() {
			s.behind = time.Now()
		}
		return fmt.Errorf("%w from %d to %d: its leader is behind, or it has lost messages", errBehind, seen.last, info.State.LastSeq)
	}
	s.behind = time.Time{}
	if s.seen.created.Equal(info.Created) {
		s.seen.last = max(s.seen.last, info.State.LastSeq)
	} else {
		s.seen = mark{created: info.Created, last: info.State.LastSeq}
	}
	return nil
}

// isLost says whether the stream has been behind for as long as a leader is waited for, in one read or in several that had less
// time, and no other read has found it otherwise.
func (s *StreamStore) isLost(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.behind.IsZero() && (ctx.Err() == nil || time.Since(s.behind) >= s.limits.request)
}

func (s *StreamStore) end() mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// begin takes the end of the stream as it is: it is new to the store, or a read has said that an end is lost.
func (s *StreamStore) begin(info *jetstream.StreamInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.behind = mark{created: info.Created, last: info.State.LastSeq}, time.Time{}
}

// acknowledged notes what the stream has stored.
func (s *StreamStore) acknowledged(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.last = max(s.seen.last, sequence)
}

// inTries asks for as long as a read may take, each time for a while only, because a stream without a leader answers nothing for
// a moment.
func (s *StreamStore) inTries(ctx context.Context, wait time.Duration, request func(context.Context) error) error {
	ctx, cancel := within(ctx, s.limits.request)
	defer cancel()
	var cause error
	for {
		try, cancelTry := context.WithTimeout(ctx, wait)
		err := request(try)
		cancelTry()
		if err == nil || lasting(err) {
			return err
		}
		// The end of the context alone would say less than what an earlier try has met.
		if ctx.Err() == nil || cause == nil {
			cause = err
		}
		if !pause(ctx, lastPause/2) {
			if end := ctx.Err(); !errors.Is(cause, end) {
				return fmt.Errorf("%w (%w)", cause, end)
			}
			return cause
		}
	}
}

// lasting says whether another try would meet the same.
func lasting(err error) bool {
	for _, sentinel := range []error{
		jetstream.ErrStreamNotFound, jetstream.ErrJetStreamNotEnabled, jetstream.ErrJetStreamNotEnabledForAccount,
		jetstream.ErrInvalidStreamName, nats.ErrConnectionClosed,
	} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}
