package auditstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// idle is how long a walk waits for the next message before it asks whether there is one.
	idle = 250 * time.Millisecond

	// heartbeat is how often the server says that it has nothing to deliver; two that are missing have the consumer replaced.
	heartbeat = time.Second

	// walkMessages and walkBytes bound what a walk reads ahead.
	walkMessages = 10_000
	walkBytes    = 8 << 20

	// orphaned is when the server removes the consumer of a walk whose process has died.
	orphaned = 30 * time.Second
)

// walk shows every message of the snapshot above low and up to its last one to visit, in the order of the sequences save for
// those that the consumer left out, which come last. It fails unless each was visited or has been removed from the stream. An
// error of visit ends it and is returned as it is.
func (s *StreamStore) walk(ctx context.Context, snap snapshot, low uint64, headersOnly bool, visit func(*message) error) error {
	if ctx == nil {
		ctx = context.Background()
	}
	from, total := snap.upTo(low), snap.count()
	if total-from <= uint64(s.limits.probe) {
		return s.visitEach(ctx, snap.between(low, snap.last), visit)
	}
	w := &walker{store: s, snap: snap, rank: from, visit: visit}
	err := w.consume(ctx, headersOnly)
	if errors.Is(err, errStalled) && ctx.Err() == nil {
		err = w.fetch(ctx)
	}
	switch {
	case w.enough:
		return err
	case err != nil:
		return fmt.Errorf("%w: read %d of %d messages of stream %q: %w", ErrIncomplete, w.visited, total-from, s.name, err)
	}
	return w.makeUp(ctx)
}

// errStalled is a consumer that brings nothing though there is something to bring: a cluster under load may take long to make
// one, and may lose a request to it.
var errStalled = errors.New("the consumer has stalled")

// fetch reads the rest without a consumer.
func (w *walker) fetch(ctx context.Context) error {
	for w.rank < w.snap.count() {
		sequences := make([]uint64, min(stretch, w.snap.count()-w.rank))
		for i := range sequences {
			sequences[i] = w.snap.at(w.rank + uint64(i))
		}
		if err := w.store.visitEach(ctx, sequences, w.show); err != nil {
			return err
		}
		w.rank += uint64(len(sequences))
	}
	return nil
}

// show visits the message and counts it.
func (w *walker) show(m *message) error {
	w.visited++
	err := w.visit(m)
	w.enough = err != nil
	return err
}

// visitEach reads messages one by one. One that is gone by now is no loss: it was removed while it was read. One that the stream
// still counts is visited as unreadable, at the time of the message before it.
func (s *StreamStore) visitEach(ctx context.Context, sequences []uint64, visit func(*message) error) error {
	messages, err := s.fetch(ctx, bySequence(sequences))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	var now snapshot
	if slices.Contains(messages, nil) {
		if now, err = s.observe(ctx); err != nil {
			return fmt.Errorf("%w: %w", ErrIncomplete, err)
		}
	}
	var before time.Time
	for i, m := range messages {
		switch {
		case m != nil:
			before = m.stored
		case !now.has(sequences[i]):
			continue
		default:
			m = &message{sequence: sequences[i], stored: before, unreadable: true}
		}
		if err := visit(m); err != nil {
			return err
		}
	}
	return nil
}

func bySequence(sequences []uint64) []query {
	queries := make([]query, len(sequences))
	for i, sequence := range sequences {
		queries[i].Sequence = sequence
	}
	return queries
}

// walker reads with an ordered consumer and keeps account of what the snapshot has and the consumer did not bring.
type walker struct {
	store   *StreamStore
	snap    snapshot
	rank    uint64 // how many messages of the snapshot lie below the next one that is due
	visited int
	missed  []uint64
	visit   func(*message) error
	enough  bool // whether visit has ended it
	// consumer is the name of the one that is read.
	consumer string
}

func (w *walker) consume(ctx context.Context, headersOnly bool) error {
	s := w.store
	setup, cancel := within(ctx, s.limits.request)
	defer cancel()
	consumer, err := s.js.OrderedConsumer(setup, s.name, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: w.snap.at(w.rank),
		HeadersOnly: headersOnly, InactiveThreshold: orphaned,
	})
	if err != nil {
		return s.readError(err)
	}
	defer s.remove(ctx, consumer)
	w.consumer = nameOf(consumer)
	// A limit below the largest message would end the read at it.
	readAhead := max(walkBytes, 2*int(s.js.Conn().MaxPayload()))
	// A request for messages that was lost, as may happen to the first one in a cluster, shows by a missing heartbeat.
	messages, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(walkMessages, readAhead), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return s.readError(err)
	}
	defer messages.Stop()
	// Next makes its consumer anew for as long as it takes and looks at no context: stopping it from outside ends that.
	defer context.AfterFunc(ctx, messages.Stop)()
	stalled := time.AfterFunc(s.limits.request, messages.Stop)
	defer stalled.Stop()
	for w.rank < w.snap.count() {
		msg, err := messages.Next(jetstream.NextMaxWait(idle))
		if errors.Is(err, nats.ErrTimeout) {
			if done, err := w.nothingLeft(ctx); done || err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return w.broken(ctx, err)
		}
		stalled.Stop() // a visit may take its time
		if err := w.take(ctx, msg); err != nil {
			return err
		}
		stalled.Reset(s.limits.request)
	}
	return nil
}

// makeUp visits what the consumer has left out, as far as the stream still has it.
func (w *walker) makeUp(ctx context.Context) error {
	if len(w.missed) == 0 {
		return nil
	}
	now, err := w.store.observe(ctx)
	if err != nil {
		return fmt.Errorf("%w: %d messages were left out: %w", ErrIncomplete, len(w.missed), err)
	}
	left := slices.DeleteFunc(w.missed, func(sequence uint64) bool { return !now.has(sequence) })
	return w.store.visitEach(ctx, left, w.show)
}

func (w *walker) broken(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, jetstream.ErrMsgIteratorClosed):
		err = fmt.Errorf("%w: no message came for %s: %w", errStalled, w.store.limits.request, err)
	}
	return w.store.readError(err)
}

// take visits the message and notes those that should have come before it.
func (w *walker) take(ctx context.Context, msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("reading the place of a message: %w", err)
	}
	if meta.Consumer != w.consumer {
		// The consumer was made anew, perhaps on a stream that was, too.
		now, err := w.store.observe(ctx)
		if err == nil {
			err = w.snap.same(now)
		}
		if err != nil {
			return err
		}
		w.consumer = meta.Consumer
	}
	sequence := meta.Sequence.Stream
	for w.rank < w.snap.count() && w.snap.at(w.rank) < sequence {
		w.missed = append(w.missed, w.snap.at(w.rank))
		w.rank++
	}
	if w.rank == w.snap.count() {
		return nil // newer than the snapshot
	}
	w.rank++
	return w.show(&message{subject: msg.Subject(), sequence: sequence, stored: meta.Timestamp, header: msg.Headers(), data: msg.Data()})
}

// nothingLeft asks whether the messages that are still due have been removed.
func (w *walker) nothingLeft(ctx context.Context) (bool, error) {
	now, err := w.store.observe(ctx)
	if err != nil {
		return false, err
	}
	for rank := w.rank; rank < w.snap.count(); rank++ {
		if now.has(w.snap.at(rank)) {
			return false, nil
		}
	}
	return true, nil
}

// remove deletes the consumer also when the context has ended. Should that fail, the server does it after orphaned.
func (s *StreamStore) remove(ctx context.Context, consumer jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.try)
	defer cancel()
	if info := consumer.CachedInfo(); info != nil {
		_ = s.js.DeleteConsumer(ctx, s.name, info.Name)
	}
}
