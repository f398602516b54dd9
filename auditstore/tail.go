package auditstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Record is an entry as Tail yields it.
type Record struct {
	Entry
	// Cursor is where a Tail goes on behind this entry.
	Cursor Cursor
	// Recorded is when the entry was first recorded.
	Recorded time.Time
}

// errLater is a message under an id that has an entry already.
var errLater = errors.New("a later message under the id of an entry, which it does not replace")

// Tail yields the entries that the stream takes after the cursor's place, in that order, as they come, until ctx ends or the
// loop is left. The zero Cursor is now: what is stored after the first step of the loop has begun. It waits for servers that
// are away for as long as ctx lives, and then goes on without missing or repeating anything.
//
// An error that matches ErrCorrupt reports a message that is not an entry, or a later one under the id of an entry, and the
// sequence goes on, as does the Record's Cursor. Any other error is the last that is yielded: the cause of the context's end,
// ErrInvalidCursor, ErrNotReady where the stream is gone, may not be read, or has no room for one more consumer for longer than it
// takes the server to remove those of readers that died, and ErrIncomplete where the stream was made again, or has removed what
// followed the cursor before it could be read.
func (s *StreamStore) Tail(ctx context.Context, from Cursor) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if ctx == nil {
			ctx = context.Background()
		}
		t := &tail{store: s, yield: yield}
		err := t.begin(ctx, from)
		for err == nil {
			err = t.follow(ctx)
			if ctx.Err() != nil && !errors.Is(err, errEnough) {
				err = context.Cause(ctx)
			} else if errors.Is(err, errInterrupted) {
				err = t.again(ctx, err)
			}
		}
		if !errors.Is(err, errEnough) {
			yield(Record{}, fmt.Errorf("following the audit trail: %w", err))
		}
	}
}

// errInterrupted is a read that may be taken up again.
var errInterrupted = errors.New("the read was interrupted")

// tail is one Tail.
type tail struct {
	store *StreamStore
	yield func(Record, error) bool
	at    position // of the last message that was read
	holes holes    // of the stream when it was last asked
	// crowded is since when the stream has had no room for the consumer, or zero.
	crowded time.Time
}

func (t *tail) begin(ctx context.Context, from Cursor) error {
	if err := t.store.opened(); err != nil {
		return err
	}
	var err error
	if from != "" {
		if t.at, err = from.position(tailCursor); err != nil {
			return err
		}
	}
	snap, err := t.store.observe(ctx)
	switch {
	case err != nil:
		return err
	case from == "":
		t.at = position{kind: tailCursor, created: snap.created, ref: ref{sequence: snap.last}}
		return nil
	}
	if err := t.at.of(snap.created); err != nil {
		return err
	}
	return t.reachable(snap)
}

// reachable fails where the stream no longer holds what follows the place.
func (t *tail) reachable(snap snapshot) error {
	t.holes = snap.holes
	switch {
	case !t.at.created.Equal(snap.created) || t.at.sequence > snap.last:
		return fmt.Errorf("%w: stream %q was made again, or has lost its end: begin anew", ErrIncomplete, t.store.name)
	case t.at.sequence+1 < snap.first:
		return fmt.Errorf("%w: the stream has removed the sequences %d to %d before they were read: begin anew",
			ErrIncomplete, t.at.sequence+1, snap.first-1)
	}
	return nil
}

// again waits until the stream can be asked, and makes sure that it is still the one that was read.
func (t *tail) again(ctx context.Context, cause error) error {
	switch {
	case !t.isCrowded(cause):
		t.crowded = time.Time{}
	case t.crowded.IsZero():
		t.crowded = time.Now()
	case time.Since(t.crowded) >= t.store.limits.crowded:
		return fmt.Errorf("%w: raise max_consumers of the stream, or end other readers", t.store.readError(cause))
	}
	for pause(ctx, lastPause) {
		snap, err := t.store.observe(ctx)
		switch {
		case err == nil:
			return t.reachable(snap)
		case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrPermissionViolation):
			return err
		}
	}
	return context.Cause(ctx)
}

// isCrowded says whether the stream or the account had no room for the consumer. One that an earlier try has left behind, or
// another reader that died, may still be there for a while.
func (t *tail) isCrowded(cause error) bool {
	var api *jetstream.APIError
	return errors.As(cause, &api) && api.ErrorCode == jetstream.JSErrCodeMaximumConsumersLimit
}

// follow reads through one consumer until that breaks.
func (t *tail) follow(ctx context.Context) error {
	s, before := t.store, t.store.violation()
	setup, cancel := within(ctx, s.limits.request)
	defer cancel()
	consumer, err := s.js.OrderedConsumer(setup, s.name, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: t.at.sequence + 1,
		// A consumer that is made anew behind our back may be one of a stream that was made again.
		MaxResetAttempts: 1, InactiveThreshold: orphaned,
	})
	if err != nil {
		return s.interrupted(before, err)
	}
	defer func() { s.remove(ctx, nameOf(consumer)) }()
	readAhead := max(walkBytes, 2*int(s.js.Conn().MaxPayload()))
	messages, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(walkMessages, readAhead), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return s.interrupted(before, err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for name := nameOf(consumer); ; {
		msg, err := messages.Next(jetstream.NextMaxWait(idle))
		if broken := err != nil && (!errors.Is(err, nats.ErrTimeout) || s.denied(before)); broken || nameOf(consumer) != name {
			return s.interrupted(before, errors.Join(err, ctx.Err()))
		}
		if err != nil {
			continue
		}
		if err := t.take(ctx, msg); err != nil {
			return err
		}
	}
}

// interrupted is a read that may be taken up again, unless the server has refused the consumer.
func (s *StreamStore) interrupted(before, cause error) error {
	if s.denied(before) {
		return s.readError(cause)
	}
	return fmt.Errorf("%w: %w", errInterrupted, cause)
}

// denied says whether the server has, since before, refused to make the consumer or to read from it. Its word to the connection is
// all there is: the request itself is not answered.
func (s *StreamStore) denied(before error) bool {
	now := s.violation()
	if now == nil || now == before { //nolint:errorlint // another one, which may say the same
		return false
	}
	for _, operation := range []string{"CONSUMER.CREATE.", "CONSUMER.MSG.NEXT."} {
		if strings.Contains(now.Error(), s.api+operation+s.name+".") {
			return true
		}
	}
	return false
}

func nameOf(consumer jetstream.Consumer) string {
	if info := consumer.CachedInfo(); info != nil {
		return info.Name
	}
	return ""
}

// take yields what the message is.
func (t *tail) take(ctx context.Context, msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("reading the place of a message: %w", err)
	}
	m := &message{subject: msg.Subject(), sequence: meta.Sequence.Stream, stored: meta.Timestamp, header: msg.Headers(), data: msg.Data()}
	if err := t.passed(ctx, m.sequence); err != nil {
		return err
	}
	first, err := t.isEntry(ctx, m)
	if err != nil {
		return err
	}
	t.at.sequence = m.sequence
	record := Record{Cursor: t.at.cursor(), Recorded: time.Unix(0, m.ref().at).UTC()}
	if first {
		record.Entry, err = t.store.decode(m)
	} else {
		err = &CorruptError{Sequence: m.sequence, Subject: m.subject, Err: errLater}
	}
	if !t.yield(record, err) {
		return errEnough
	}
	return nil
}

// passed fails where the stream has removed, ahead of a reader who was slow, what lies between the last message and this one. What
// was deleted in the middle is no loss. The stream is only asked about a gap that was not known to be such.
func (t *tail) passed(ctx context.Context, sequence uint64) error {
	if sequence <= t.at.sequence+1 || t.at.sequence+1 >= t.holes.first && sequence-1 <= t.holes.last &&
		t.holes.upTo(sequence-1) == t.holes.upTo(t.at.sequence) {
		return nil
	}
	snap, err := t.store.observe(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errInterrupted, err)
	}
	return t.reachable(snap)
}

// isEntry says whether the message is what counts under its id. One that was stored on the condition that its subject holds
// nothing is; others have to be asked about. The answer also knows of headers that could not be read, which the consumer brings
// like none.
func (t *tail) isEntry(ctx context.Context, m *message) (bool, error) {
	if m.isFirst() && !m.isMarker() {
		return true, nil
	}
	first, err := firstEntry(m.subject, func(q query) (*message, error) { return t.store.ask(ctx, q) })
	if err != nil {
		return false, fmt.Errorf("%w: %w", errInterrupted, err)
	}
	if first == nil {
		return true, nil
	}
	if first.sequence == m.sequence {
		m.damage = first.damage
	}
	return first.sequence == m.sequence, nil
}
