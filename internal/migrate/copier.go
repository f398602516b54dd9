package migrate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of a migrated entry.
const (
	// HeaderSourceBucket is the bucket that the entry came from.
	HeaderSourceBucket = "Audit-Source-Bucket"
	// HeaderSourceSequence is the sequence of the entry in the bucket's backing stream.
	HeaderSourceSequence = "Audit-Source-Sequence"
	// HeaderSourceTime is when the bucket recorded the entry, in RFC 3339 with nanoseconds.
	HeaderSourceTime = "Audit-Source-Time"

	// headerAllowance is room for the headers above and those of the publish, in bytes.
	headerAllowance = 1024
	// comparisons is how many messages are fetched from the stream at once to compare them.
	comparisons = 64
)

// fate is what becomes of a message of the bucket.
type fate int

const (
	fateSkipped fate = iota // not live: a marker or a superseded revision
	fateExpired
	fateInvalid
	fatePublished // waiting for its acknowledgement
	fateCompare   // to be compared with what the stream holds
	fateCopied
	fatePresent
	fateCounted // as fatePresent, and counted before
	fateMismatched
	fateMissing
)

// item is a message of the bucket on its way.
type item struct {
	*revision
	fate fate
	ack  jetstream.PubAckFuture
	// before is the entry of the stream that an earlier revision of the key has become, when it has been counted.
	before *stored
}

// copier is the state of one Run. It is used by one goroutine.
type copier struct {
	*Job
	src        *source
	publisher  jetstream.JetStream
	maxPayload int64
	// resumed is the sequence that the checkpoint covered when the run began, targetLast the stream's last one then.
	resumed, targetLast uint64
	// reconnects is the connection's count of them when the run began.
	reconnects uint64

	// at covers every message before the first of queue.
	at    Checkpoint
	queue []*item
	// queued is the size of the values in queue, in bytes.
	queued int
	// recountTo is the sequence up to which messages have been dealt with before: they are looked at again to count
	// them, and never published, because retention may have removed them since.
	recountTo uint64

	saved               uint64
	savedAt, reportedAt time.Time
}

// run reads until the bucket has been quiet for a while.
func (c *copier) run(ctx context.Context) error {
	caughtUp := c.src.pending == 0
	for {
		if caughtUp {
			if err := c.catchUp(ctx); err != nil {
				return err
			}
			if c.DryRun {
				return nil
			}
		}
		wait := ackTimeout
		if caughtUp {
			wait = c.Linger
		}
		r, err := c.src.next(ctx, wait)
		switch {
		case errors.Is(err, errQuiet) && caughtUp:
			return c.save(ctx)
		case err != nil:
			return err
		}
		if err := c.take(ctx, r); err != nil {
			return err
		}
		caughtUp = r.pending == 0
	}
}

// take decides the fate of a message, begins to copy it where it is to be copied, and keeps the queue in its bounds.
func (c *copier) take(ctx context.Context, r *revision) error {
	it := &item{revision: r}
	var err error
	if it.fate, err = c.decide(ctx, r); err != nil {
		return err
	}
	if it.fate == fatePublished {
		if err := c.sameConnection(); err != nil {
			return err
		}
		if it.ack, err = c.publisher.PublishMsgAsync(c.message(r)); err != nil {
			return fmt.Errorf("publishing entry %s: %w", r.key, err)
		}
	}
	c.queue = append(c.queue, it)
	c.queued += len(it.value)
	if len(c.queue) < window && c.queued < windowBytes {
		return nil
	}
	if err := c.settle(ctx, (len(c.queue)+1)/2); err != nil {
		return err
	}
	return c.tick(ctx)
}

// sameConnection fails once the connection has been lost since the run began. What was under way then may be lost, and
// publishing on would put later entries before it.
func (c *copier) sameConnection() error {
	nc := c.publisher.Conn()
	if nc.IsConnected() && nc.Stats().Reconnects == c.reconnects {
		return nil
	}
	return fmt.Errorf("copying bucket %s: %w", c.Bucket, nats.ErrDisconnected)
}

func (c *copier) decide(ctx context.Context, r *revision) (fate, error) {
	if r.marker {
		return fateSkipped, nil
	}
	if superseded, err := c.src.superseded(ctx, r); superseded || err != nil {
		return fateSkipped, err
	}
	if err := checkEntry(r, c.maxPayload); err != nil {
		if c.Invalid != nil && r.sequence > c.recountTo {
			c.Invalid(r.key, r.sequence, err)
		}
		return fateInvalid, nil
	}
	switch {
	case r.sequence <= c.recountTo && c.Resume.Mismatched == 0:
		return fateSkipped, nil
	case r.sequence <= c.recountTo:
		return fateCompare, nil
	case c.remaining(r) <= 0:
		return fateExpired, nil
	case c.DryRun:
		return fateCompare, nil
	default:
		return fatePublished, nil
	}
}

// remaining is how long the entry is still to be kept.
func (c *copier) remaining(r *revision) time.Duration {
	if c.MaxAge == 0 {
		return math.MaxInt64
	}
	return c.MaxAge - c.Now().Sub(r.stored)
}

// message is the entry as it is published.
func (c *copier) message(r *revision) *nats.Msg {
	msg := nats.NewMsg(c.subject(r.key))
	msg.Data = r.value
	msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	// Should the stream be gone, its subject may be another's.
	msg.Header.Set(jetstream.ExpectedStreamHeader, c.Stream)
	msg.Header.Set(HeaderSourceBucket, c.Bucket)
	msg.Header.Set(HeaderSourceSequence, strconv.FormatUint(r.sequence, 10))
	msg.Header.Set(HeaderSourceTime, r.stored.UTC().Format(time.RFC3339Nano))
	if c.MaxAge > 0 {
		// Whole seconds are what NATS takes (ADR-43); rounding up keeps an entry rather too long than too short.
		seconds := int64(math.Ceil(c.remaining(r).Seconds()))
		msg.Header.Set(jetstream.MsgTTLHeader, strconv.FormatInt(max(seconds, 1), 10))
	}
	return msg
}

func (c *copier) subject(key string) string { return c.Subject + "." + key }

// settle waits for the first n items of the queue and counts them, in order.
func (c *copier) settle(ctx context.Context, n int) error {
	head := c.queue[:n]
	for _, it := range head {
		if it.fate != fatePublished {
			continue
		}
		conflict, err := awaitAck(ctx, it.ack)
		switch {
		case err != nil:
			return fmt.Errorf("publishing entry %s of bucket %s: %w", it.key, c.Bucket, err)
		case conflict:
			it.fate = fateCompare
		default:
			it.fate = fateCopied
		}
	}
	if err := c.compareAll(ctx, head); err != nil {
		return err
	}
	for _, it := range head {
		c.count(it)
		c.queued -= len(it.value)
	}
	c.queue = slices.Delete(c.queue, 0, n)
	return nil
}

// awaitAck waits until the server has taken or refused the entry, and says whether it refused it because the subject
// holds a message already.
func awaitAck(ctx context.Context, ack jetstream.PubAckFuture) (conflict bool, err error) {
	select {
	case <-ack.Ok():
		return false, nil
	case err := <-ack.Err():
		if isConflict(err) {
			return true, nil
		}
		return false, err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// compareAll fetches what the stream holds in place of the items that are to be compared, several at once.
func (c *copier) compareAll(ctx context.Context, items []*item) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, comparisons)
	var group sync.WaitGroup
	for _, it := range items {
		if it.fate != fateCompare {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if err := c.compare(ctx, it); err != nil {
				cancel(err)
			}
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
