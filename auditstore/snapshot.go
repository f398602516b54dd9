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
		info, err = s.stream.Info(ctx, opts...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("asking for the state of stream %q: %w", s.name, s.readError(err))
	}
	return info, nil
}

// inTries asks for as long as a read may take, each time for a while only, because a stream without a leader answers nothing for
// a moment.
func (s *StreamStore) inTries(ctx context.Context, wait time.Duration, request func(context.Context) error) error {
	ctx, cancel := within(ctx, s.limits.request)
	defer cancel()
	for {
		try, cancelTry := context.WithTimeout(ctx, wait)
		err := request(try)
		cancelTry()
		if err == nil || lasting(err) || !pause(ctx, lastPause/2) {
			return err
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
