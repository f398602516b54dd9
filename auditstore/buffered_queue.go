package auditstore

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// queue is the room in memory, for Block and Drop.
type queue struct {
	counts  *counts
	timeout time.Duration // how long put waits for room; 0 is not at all
	// slots holds one token for each entry that was taken and not settled. So ready, of the same capacity, always has room.
	slots chan struct{}
	ready chan record

	closing chan struct{} // closed by shut
	mu      sync.RWMutex  // held for reading while a record is put, so that none is put behind shut
	closed  bool
}

func newQueue(cfg BufferedConfig, c *counts) *queue {
	q := &queue{
		counts: c, slots: make(chan struct{}, cfg.QueueSize), ready: make(chan record, cfg.QueueSize), closing: make(chan struct{}),
	}
	if cfg.Policy == Block {
		q.timeout = cfg.BlockTimeout
	}
	return q
}

func (q *queue) put(ctx context.Context, rec record) error {
	if err := q.reserve(ctx); err != nil {
		return err
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		<-q.slots
		return ErrClosed
	}
	q.counts.accept(1)
	q.ready <- rec
	return nil
}

// reserve takes a slot. Where there is one, neither the context nor the time matters.
func (q *queue) reserve(ctx context.Context) error {
	select {
	case <-q.closing:
		return ErrClosed
	default:
	}
	select {
	case q.slots <- struct{}{}:
		return nil
	default:
	}
	if q.timeout == 0 {
		q.counts.dropped.Add(1)
		return fmt.Errorf("%w: %d entries are in it", ErrDropped, cap(q.slots))
	}
	patience := time.NewTimer(q.timeout)
	defer patience.Stop()
	select {
	case q.slots <- struct{}{}:
		return nil
	case <-q.closing:
		return ErrClosed
	case <-ctx.Done():
		q.counts.dropped.Add(1)
		return fmt.Errorf("%w: %d entries are in it: %w", ErrQueueFull, cap(q.slots), ctx.Err())
	case <-patience.C:
		q.counts.dropped.Add(1)
		return fmt.Errorf("%w: %d entries are in it, and none left it for %s", ErrQueueFull, cap(q.slots), q.timeout)
	}
}

func (q *queue) records() <-chan record { return q.ready }

func (q *queue) settle(record) { <-q.slots }

// refuse keeps nothing: the callback is all there is.
func (q *queue) refuse(record, error) error { return nil }

func (q *queue) shut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.closing)
		close(q.ready)
	}
}

func (q *queue) release() error { return nil }

func (q *queue) bytes() int64 { return 0 }
