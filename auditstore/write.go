package auditstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream's error codes that decide about a write. nats.go has constants for only some of them.
const (
	codeAccountResources  jetstream.ErrorCode = 10002
	codeStorageResources  jetstream.ErrorCode = 10047
	codeMessageTooLarge   jetstream.ErrorCode = 10054
	codeOtherStream       jetstream.ErrorCode = 10060
	codeWrongLast         jetstream.ErrorCode = 10071
	codeStoreFailed       jetstream.ErrorCode = 10077
	codeHeaderTooLarge    jetstream.ErrorCode = 10097
	codeSealed            jetstream.ErrorCode = 10109
	codeWrongLastInFlight jetstream.ErrorCode = 10164
)

// The pauses between two tries of a write: the first is short because a leader is often back at once.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

// errConflicting is what a try ends with when the stream already holds a message under the id.
var errConflicting = errors.New("the stream holds a message under this id")

// Write stores the entry and returns nil only once the stream has acknowledged it. An empty ID is filled with NewID, a zero
// Timestamp with the current time.
//
// It tries again, about once a second, until the context's deadline, or for WriteTimeout where there is none. Writing the same
// entry again is safe: it is stored once. So a caller that wants to repeat a failed write should set ID and Timestamp itself.
//
// The error is a *WriteError that wraps ErrInvalidID, ErrInvalidEntry, ErrConflict, ErrTooLarge, ErrStreamFull or ErrNotReady, or
// ErrInvalidConfig where New did not make the store. After ErrNotReady the entry may have been stored all the same; after all
// others it was not.
func (s *StreamStore) Write(ctx context.Context, entry Entry) error {
	if entry.ID == "" {
		entry.ID = NewID()
	}
	if entry.Timestamp.IsZero() {
		entry.Timestamp = time.Now().UTC()
	}
	if err := s.write(ctx, entry); err != nil {
		return &WriteError{ID: entry.ID, Err: err}
	}
	return nil
}

func (s *StreamStore) write(ctx context.Context, entry Entry) error {
	if err := s.opened(); err != nil {
		return err
	}
	if err := checkID(entry.ID); err != nil {
		return err
	}
	data, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidEntry, err)
	}
	if ctx == nil {
		ctx = context.Background()
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, WriteTimeout)
		defer cancel()
	}
	return s.publishUntil(ctx, s.prefix+entry.ID, data)
}

// publishUntil tries until the stream has answered for good or the context ends.
func (s *StreamStore) publishUntil(ctx context.Context, subject string, data []byte) error {
	cause := context.Cause(ctx)
	unknown := false // whether an earlier try may have been stored
	for wait := firstPause; ctx.Err() == nil; wait = min(2*wait, lastPause) {
		err := s.publish(ctx, subject, data)
		switch {
		case errors.Is(err, errConflicting):
			err = s.compare(ctx, subject, data)
		case errors.Is(err, ErrStreamFull) && unknown:
			if stored := s.compare(ctx, subject, data); !errors.Is(stored, errConflicting) {
				err = stored
			}
		}
		if err == nil || final(err) {
			return err
		}
		unknown = true
		// The end of the context says less than what the last try has met.
		if ctx.Err() == nil || cause == nil {
			cause = err
		}
		if !pause(ctx, wait) {
			break
		}
	}
	return fmt.Errorf("%w: no acknowledgement in time (%w); the last try: %w", ErrNotReady, ctx.Err(), s.explain(cause))
}

func final(err error) bool {
	for _, sentinel := range []error{ErrConflict, ErrTooLarge, ErrStreamFull, ErrNotReady} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// publish makes one short try. It returns a sentinel where another try cannot help, errConflicting where the id is taken, and
// anything else where another try may.
func (s *StreamStore) publish(ctx context.Context, subject string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, s.limits.try)
	defer cancel()
	msg := nats.NewMsg(subject)
	msg.Data = data
	// Sequence 0 as the last one of the subject: the stream takes the message only where it has none under the id.
	msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	msg.Header.Set(jetstream.ExpectedStreamHeader, s.name)
	ack, err := s.publisher.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	if err == nil && ack != nil {
		s.acknowledged(ack.Sequence)
	}
	return classifyPublish(err)
}

func classifyPublish(err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	case !errors.As(err, &api):
		return err
	}
	switch api.ErrorCode {
	case codeWrongLast, codeWrongLastInFlight:
		return fmt.Errorf("%w: %w", errConflicting, err)
	case codeStoreFailed:
		return classifyStoreFailed(api, err)
	case codeMessageTooLarge, codeHeaderTooLarge:
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case codeAccountResources, codeStorageResources:
		return fmt.Errorf("%w: %w", ErrStreamFull, err)
	case codeOtherStream, codeSealed:
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return err
}

// classifyStoreFailed looks at the description, which is not done with any other code: the server answers 10077 for every
// error of its store, and only the text tells a full stream from an id that is taken on a stream which takes one message per
// subject.
func classifyStoreFailed(api *jetstream.APIError, err error) error {
	switch {
	case strings.Contains(api.Description, "maximum messages per subject"):
		return fmt.Errorf("%w: %w", errConflicting, err)
	case strings.Contains(api.Description, "maximum bytes"), strings.Contains(api.Description, "maximum messages"):
		return fmt.Errorf("%w: %w", ErrStreamFull, err)
	case strings.Contains(api.Description, "too large"), strings.Contains(api.Description, "to large"):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return err
}

// compare decides a conflict by the entry that is stored: the same bytes mean that an earlier try, or an earlier call,
// was stored though its acknowledgement was lost. It asks the leader, because a replica may lag behind what was just refused.
func (s *StreamStore) compare(ctx context.Context, subject string, data []byte) error {
	stored, err := firstEntry(subject, func(q query) (*message, error) { return s.try(ctx, q, s.askLeader) })
	switch {
	case err != nil:
		return err
	case stored == nil:
		// The message that was in the way is still in flight, or has just been removed by retention.
		return errConflicting
	case stored.damage != nil:
		return fmt.Errorf("%w: sequence %d holds a corrupt message: %w", ErrConflict, stored.sequence, stored.damage)
	case bytes.Equal(stored.data, data):
		return nil
	case stored.isMarker():
		return fmt.Errorf("%w: sequence %d holds %w", ErrConflict, stored.sequence, errMarker)
	}
	return fmt.Errorf("%w: sequence %d holds other content", ErrConflict, stored.sequence)
}
