package auditstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// longestPause is the longest one between two tries of an entry that the store does not take now. The first is firstPause.
const longestPause = 2 * time.Second

// streamed is a Writer that writes into a stream, which may have to be opened first.
type streamed interface {
	streamStore(ctx context.Context) (*StreamStore, error)
}

// forward ends when the room is shut and empty, or with the context.
func (b *Buffered) forward(ctx context.Context) {
	defer close(b.stopped)
	target, is := b.store.(streamed)
	if !is {
		b.oneByOne(ctx)
		return
	}
	s, err := target.streamStore(ctx)
	if err != nil {
		s = b.openFor(ctx, target)
	}
	switch {
	case s == nil:
	case !s.direct():
		b.oneByOne(ctx)
	case b.inBatches(s.stream.CachedInfo().Config):
		newBatcher(b, s).run(ctx)
	default:
		newWindow(b, s).run(ctx)
	}
}

// inBatches says whether the stream takes atomic batches, and they are worth it: without replicas they only keep the order where
// the connection is lost, at half the pace.
func (b *Buffered) inBatches(cfg jetstream.StreamConfig) bool {
	return cfg.AllowAtomicPublish && (cfg.Replicas > 1 || b.cfg.Policy == Spool)
}

// openFor tries to open the stream for as long as it takes to store the first record. It returns nil when there is none, or the
// context ends.
func (b *Buffered) openFor(ctx context.Context, target streamed) *StreamStore {
	for {
		rec, more := b.receive(ctx)
		switch {
		case !more:
			return nil
		case rec.corrupt != nil:
			b.corrupted(rec)
			continue
		}
		entry := rec.entry()
		if !b.deliver(ctx, rec, func(ctx context.Context) error { return b.store.Write(ctx, entry) }) {
			return nil
		}
		// A store that has taken an entry, or refused it for good, is open.
		if s, err := target.streamStore(ctx); err == nil {
			return s
		}
	}
}

// receive returns the next record, and false when there are no more, or the context ends.
func (b *Buffered) receive(ctx context.Context) (record, bool) {
	select {
	case <-ctx.Done():
		return record{}, false
	case rec, more := <-b.room.records():
		return rec, more
	}
}

func (b *Buffered) oneByOne(ctx context.Context) {
	for {
		rec, more := b.receive(ctx)
		switch {
		case !more:
			return
		case rec.corrupt != nil:
			b.corrupted(rec)
			continue
		}
		entry := rec.entry()
		if !b.deliver(ctx, rec, func(ctx context.Context) error { return b.store.Write(ctx, entry) }) {
			return
		}
	}
}

// deliver tries until the oldest record is stored or refused for good. It returns false when the context ends before that.
func (b *Buffered) deliver(ctx context.Context, rec record, try func(context.Context) error) bool {
	b.counts.oldest.Store(rec.accepted)
	for wait := firstPause; ctx.Err() == nil; wait = min(2*wait, longestPause) {
		err := attempt(ctx, try)
		if err == nil {
			b.written(rec)
			return true
		}
		if refusal(err) {
			if err = b.refuse(rec, err); err == nil {
				return true
			}
		}
		b.counts.fail(err)
		if !pause(ctx, wait) {
			break
		}
	}
	return false
}

func attempt(ctx context.Context, try func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, WriteTimeout)
	defer cancel()
	// A store that panics may be in trouble for a while, and the entry is not to blame: it is tried again.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the store panicked: %v", ErrNotReady, p)
		}
	}()
	return try(ctx)
}

// refusal says whether the store will never take the entry. Everything else may change, and unknown errors might.
func refusal(err error) bool {
	for _, sentinel := range []error{ErrConflict, ErrTooLarge, ErrInvalidID, ErrInvalidEntry} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// written settles the oldest record.
func (b *Buffered) written(rec record) {
	b.counts.written.Add(1)
	b.counts.failure.Store(nil)
	b.settle(rec)
}

// refuse settles the oldest record as refused. It fails where the spool cannot keep it.
func (b *Buffered) refuse(rec record, cause error) error {
	if err := b.room.refuse(rec, cause); err != nil {
		return err
	}
	b.counts.refused.Add(1)
	b.counts.failure.Store(nil)
	b.tell(rec.entry(), &WriteError{ID: rec.id, Err: cause})
	b.settle(rec)
	return nil
}

func (b *Buffered) settle(rec record) {
	b.counts.oldest.Store(0)
	b.counts.depth.Add(-1)
	b.room.settle(rec)
}

func (b *Buffered) corrupted(rec record) {
	b.counts.corrupt.Add(1)
	b.tell(Entry{}, rec.corrupt)
}

func (b *Buffered) tell(entry Entry, err error) {
	if b.cfg.OnError == nil {
		return
	}
	// A callback that panics must not stop forwarding.
	defer func() { _ = recover() }()
	b.cfg.OnError(entry, err)
}
