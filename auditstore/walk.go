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

	// heartbeat is how often the server tells a tail that it has nothing to deliver; two that are missing have the consumer
	// replaced. A walk, which knows that there is something, replaces it after silence.
	heartbeat = time.Second
	silence   = 2 * heartbeat

	// walkMessages and walkBytes bound what is read ahead.
	walkMessages = 4096
	walkBytes    = 8 << 20

	// orphaned is when the server removes the consumer of a walk whose process has died.
	orphaned = 30 * time.Second
)

// walk shows every message of the snapshot above low and up to its last one to visit, in the order of the sequences save for
// those that the consumer left out, which come last. It fails unless each was visited or has been removed from the stream. An
// error of visit ends it and is returned as it is.
func (s *StreamStore) walk(ctx context.Context, snap snapshot, low uint64, visit func(*message) error) error {
	return s.walker(snap, low, visit).run(ctx, false)
}

func (s *StreamStore) walker(snap snapshot, low uint64, visit func(*message) error) *walker {
	return &walker{store: s, snap: snap, rank: snap.upTo(low), visit: visit}
}

func (w *walker) run(ctx context.Context, headersOnly bool) error {
	if ctx == nil {
		ctx = context.Background()
	}
	total := w.snap.count() - w.rank
	if total <= uint64(w.store.limits.probe) {
		return w.store.visitEach(ctx, w.snap, w.next(total), w.visit)
	}
	err := w.consume(ctx, headersOnly)
	if errors.Is(err, errStalled) && ctx.Err() == nil {
		err = w.fetch(ctx)
	}
	switch {
	case w.enough:
		return err
	case err != nil:
		return fmt.Errorf("%w: read %d of %d messages of stream %q: %w", ErrIncomplete, w.visited, total, w.store.name, err)
	}
	return w.makeUp(ctx)
}

// next lists the sequences of the next n messages.
func (w *walker) next(n uint64) []uint64 {
	sequences := make([]uint64, n)
	for i := range sequences {
		sequences[i] = w.snap.at(w.rank + uint64(i))
	}
	return sequences
}

// complete is a sequence up to which everything was visited, or had been before.
func (w *walker) complete() uint64 {
	switch {
	case len(w.missed) > 0:
		return w.missed[0] - 1
	case w.rank > 0:
		return w.snap.at(w.rank - 1)
	}
	return 0
}

// errStalled is a consumer that brings nothing though there is something to bring: a cluster under load may take long to make
// one, and may lose a request to it.
var errStalled = errors.New("the consumer has stalled")

// fetch reads the rest without a consumer.
func (w *walker) fetch(ctx context.Context) error {
	for w.rank < w.snap.count() {
		sequences := w.next(min(stretch, w.snap.count()-w.rank))
		if err := w.store.visitEach(ctx, w.snap, sequences, w.show); err != nil {
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

// visitEach reads messages of the snapshot one by one. One that is gone by now is no loss: it was removed while it was read. One
// that the stream still counts is visited as unreadable, at the time of the message before it.
func (s *StreamStore) visitEach(ctx context.Context, snap snapshot, sequences []uint64, visit func(*message) error) error {
	messages, err := s.fetch(ctx, bySequence(sequences))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	var now snapshot
	if slices.Contains(messages, nil) {
		if now, err = s.again(ctx, sequences, messages); err == nil {
			err = snap.same(now)
		}
		if err != nil {
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

// again asks once more for what was not found though the stream counts it: a leader that is behind knows less than the stream.
// What is still not found then, and in the state that it returns, nobody can read.
func (s *StreamStore) again(ctx context.Context, sequences []uint64, messages []*message) (snapshot, error) {
	now, err := s.observe(ctx)
	if err != nil {
		return now, err
	}
	var places []int
	var counted []uint64
	for i, m := range messages {
		if m == nil && now.has(sequences[i]) {
			places, counted = append(places, i), append(counted, sequences[i])
		}
	}
	if len(counted) == 0 {
		return now, nil
	}
	found, err := s.fetch(ctx, bySequence(counted))
	if err != nil {
		return now, err
	}
	for i, m := range found {
		messages[places[i]] = m
	}
	if !slices.Contains(found, nil) {
		return now, nil
	}
	return s.observe(ctx)
}

func bySequence(sequences []uint64) []query {
	queries := make([]query, len(sequences))
	for i, sequence := range sequences {
		queries[i].Sequence = sequence
	}
	return queries
}

// walker reads through a consumer and keeps account of what the snapshot has and the consumer did not bring.
type walker struct {
	store   *StreamStore
	snap    snapshot
	rank    uint64 // how many messages of the snapshot lie below the next one that is due
	visited int
	missed  []uint64
	visit   func(*message) error
	enough  bool // whether visit has ended it
	// quiet is how long no message has come.
	quiet time.Duration
}

// consume reads through one consumer, and through the next one where that breaks.
func (w *walker) consume(ctx context.Context, headersOnly bool) error {
	for first := true; ; first = false {
		if !first {
			if _, err := w.look(ctx); err != nil {
				return err
			}
		}
		before := w.rank
		err := w.follow(ctx, headersOnly)
		if !errors.Is(err, errBroken) || w.enough {
			return err
		}
		if w.rank == before {
			w.quiet += lastPause
		}
		switch {
		case w.quiet >= w.store.limits.request:
			return w.store.readError(fmt.Errorf("%w: no message came for %s: %w", errStalled, w.quiet, err))
		case !pause(ctx, lastPause):
			return w.store.readError(ctx.Err())
		}
	}
}

// follow reads through one consumer. It ends with errBroken where another one may go on.
func (w *walker) follow(ctx context.Context, headersOnly bool) error {
	p, err := w.store.pull(ctx, w.snap.at(w.rank), headersOnly)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errStalled, err)
	}
	defer p.close(ctx)
	silent := time.Duration(0)
	var m message
	for w.rank < w.snap.count() {
		err := p.read(ctx, &m)
		switch {
		case err == nil:
			w.quiet, silent = 0, 0
			if err := w.take(&m); err != nil {
				return err
			}
		case errors.Is(err, nats.ErrTimeout):
			w.quiet, silent = w.quiet+idle, silent+idle
			if done, err := w.nothingLeft(ctx); done || err != nil {
				return err
			}
			if silent >= silence || w.quiet >= w.store.limits.request {
				return fmt.Errorf("%w: it brings nothing", errBroken)
			}
		case errors.Is(err, errBroken):
			return err
		default:
			return w.store.readError(err)
		}
	}
	return nil
}

// makeUp visits what the consumer has left out, as far as the stream still has it.
func (w *walker) makeUp(ctx context.Context) error {
	if len(w.missed) == 0 {
		return nil
	}
	now, err := w.look(ctx)
	if err != nil {
		return fmt.Errorf("%w: %d messages were left out: %w", ErrIncomplete, len(w.missed), err)
	}
	w.missed = slices.DeleteFunc(w.missed, func(sequence uint64) bool { return !now.has(sequence) })
	return w.store.visitEach(ctx, w.snap, w.missed, w.show)
}

// look is the state of the stream now. It fails where the stream was made again.
func (w *walker) look(ctx context.Context) (snapshot, error) {
	now, err := w.store.observe(ctx)
	if err == nil {
		err = w.snap.same(now)
	}
	return now, err
}

// take visits the message and notes those that should have come before it. What the snapshot does not have is passed over: it is
// newer, or had been removed by then, which a consumer on a replica that lags may not know.
func (w *walker) take(m *message) error {
	for ; w.rank < w.snap.count(); w.rank++ {
		due := w.snap.at(w.rank)
		if due == m.sequence {
			w.rank++
			return w.show(m)
		}
		if due > m.sequence {
			return nil
		}
		w.missed = append(w.missed, due)
	}
	return nil
}

// nothingLeft asks whether the messages that are still due have been removed.
func (w *walker) nothingLeft(ctx context.Context) (bool, error) {
	now, err := w.look(ctx)
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
func (s *StreamStore) remove(ctx context.Context, consumer string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.try)
	defer cancel()
	_ = s.js.DeleteConsumer(ctx, s.name, consumer)
}
