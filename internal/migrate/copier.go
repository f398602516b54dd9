package migrate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// Headers of a migrated entry.
const (
	// HeaderSourceBucket is the bucket that the entry came from.
	HeaderSourceBucket = "Audit-Source-Bucket"
	// HeaderSourceSequence is the sequence of the entry in the bucket's backing stream.
	HeaderSourceSequence = "Audit-Source-Sequence"
	// HeaderSourceTime is when the bucket recorded the entry, in RFC 3339 with nanoseconds. Readers order entries by it.
	HeaderSourceTime = auditstore.HeaderSourceTime

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
	fateWanted  // to be published
	fateCompare // to be compared with what the stream holds
	fateCopied
	fatePresent
	fateCounted // as fatePresent, and counted before
	fateMismatched
	fateMissing
	fateDoubled
)

// item is a message of the bucket on its way.
type item struct {
	*revision
	fate fate
	// wanted is whether the entry is to be published if the stream does not hold it.
	wanted bool
	// after is the sequence of the last marker under the id, where the stream holds nothing else.
	after uint64
	// before is the entry of the stream that an earlier revision of the key has become, when it has been counted.
	before *stored
}

// copier is the state of one Run. It is used by one goroutine, and by that of advance, which has the items under way, acks,
// envelope, batchSize and meeting until await returns.
type copier struct {
	*Job
	src        *source
	maxPayload int64
	// last is the sequence up to which the bucket has been read, pending how many messages are to be delivered after it.
	last, pending uint64
	// resumed is the sequence that the checkpoint covered when the run began, targetLast the stream's last one then.
	resumed, targetLast uint64
	// replicated is whether the stream has more than one replica; batchSize how many entries go into one batch then.
	replicated bool
	batchSize  int
	// writeOnce is whether the stream refuses a second message under an id.
	writeOnce bool
	// meeting is whether the stream has been found to hold some of the entries already.
	meeting bool
	// envelope is the message that every entry is published in.
	envelope *nats.Msg
	// acks receives the acknowledgements of single messages; storedAnswer is how the one of a stored message begins.
	acks         *acks
	storedAnswer []byte

	// at covers every message before the first of those under way.
	at Checkpoint
	// underWay are the items that are being copied while queue fills, copied tells how that ended. Nil is none.
	underWay []*item
	copied   chan error
	queue    []*item
	// queued is the size of the values in queue, in bytes, keys which keys are in it.
	queued int
	keys   map[string]bool
	// recountTo is the sequence up to which messages have been dealt with before: they are looked at again to count
	// them, and never published, because retention may have removed them since.
	recountTo uint64
	// againTo is the sequence up to which everything is copied once more, because the stream has lost some of it.
	againTo uint64

	// limit is how many bytes the stream may hold before it drops its oldest entries, 0 where it never does; held is how many
	// it held when the run began, lacking how many a dry run would add.
	limit, held, lacking int64

	// doubled is whether the comparison has to look for entries that are there more than once: the stream holds several
	// messages under some ids.
	doubled bool
	// verified is whether this run has verified the copy.
	verified            bool
	saved               uint64
	savedAt, reportedAt time.Time
}

// run reads until the bucket has been quiet for a while, or as far as the job says.
func (c *copier) run(ctx context.Context) error {
	goal := c.Through
	if goal == 0 {
		goal = c.src.info.State.LastSeq
	}
	for {
		caughtUp, wait := false, ackTimeout
		if c.pending == 0 || c.last >= goal && c.Through != 0 {
			var err error
			if caughtUp, err = c.src.exhausted(ctx, c.last, goal); err != nil {
				return err
			}
		}
		if caughtUp {
			if err := c.catchUp(ctx, goal); err != nil || c.DryRun {
				return err
			}
			if c.UntilCaughtUp || c.Through != 0 {
				return c.save(ctx)
			}
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
		c.last, c.pending = r.sequence, r.pending
	}
}

// take decides the fate of a message, and settles the queue when it is full. A key that is in the queue already was
// overwritten while it was read: its earlier revision goes first.
func (c *copier) take(ctx context.Context, r *revision) error {
	if c.keys[r.key] {
		if err := c.settle(ctx); err != nil {
			return err
		}
	}
	fate, err := c.decide(ctx, r)
	if err != nil {
		return err
	}
	c.queue = append(c.queue, &item{revision: r, fate: fate, wanted: fate == fateWanted})
	c.keys[r.key] = true
	c.queued += len(r.value)
	if len(c.queue) < window && c.queued < windowBytes {
		return nil
	}
	if err := c.advance(ctx); err != nil {
		return err
	}
	return c.tick(ctx)
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
		return fateWanted, nil
	}
}

// remaining is how long the entry is still to be kept.
func (c *copier) remaining(r *revision) time.Duration {
	if c.MaxAge == 0 {
		return math.MaxInt64
	}
	return c.MaxAge - c.Now().Sub(r.stored)
}

// message is the entry as it is published. It is the same message each time, which may be changed once a publish returns:
// nats.go has copied it by then.
func (c *copier) message(it *item) *nats.Msg {
	r := it.revision
	if c.envelope == nil {
		c.envelope = nats.NewMsg("")
		// Should the stream be gone, its subject may be another's.
		c.envelope.Header.Set(jetstream.ExpectedStreamHeader, c.Stream)
		c.envelope.Header.Set(HeaderSourceBucket, c.Bucket)
	}
	msg := c.envelope
	msg.Header.Del(headerBatchID)
	msg.Header.Del(headerBatchSequence)
	msg.Header.Del(headerBatchCommit)
	if last := strconv.FormatUint(it.after, 10); msg.Header.Get(jetstream.ExpectedLastSubjSeqHeader) != last {
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, last)
	}
	msg.Subject, msg.Reply, msg.Data = c.subject(r.key), "", r.value
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

// settle copies or compares everything that was taken, and counts it.
func (c *copier) settle(ctx context.Context) error {
	if err := c.advance(ctx); err != nil {
		return err
	}
	return c.await()
}

// advance waits for what is under way, and puts the queue under way: the server commits one batch while the next is read.
// Batches follow one another, so that none overtakes one that has failed.
func (c *copier) advance(ctx context.Context) error {
	if err := c.await(); err != nil || len(c.queue) == 0 {
		return err
	}
	items, copied := c.queue, make(chan error, 1)
	c.underWay, c.copied = items, copied
	c.queue, c.queued = make([]*item, 0, window), 0
	clear(c.keys)
	go func() {
		defer recoverInto(copied)
		copied <- c.copyAll(ctx, items)
	}()
	return nil
}

// await waits for what is under way and counts it in order. The copy ends by its context or its own time-outs.
func (c *copier) await() error {
	if c.copied == nil {
		return nil
	}
	err := <-c.copied
	items := c.underWay
	c.underWay, c.copied = nil, nil
	if err != nil {
		return fmt.Errorf("copying bucket %s: %w", c.Bucket, err)
	}
	for _, it := range items {
		c.count(it)
	}
	return nil
}

// recoverInto has a panic end the copy as an error: nobody else would catch it in a goroutine.
func recoverInto(result chan<- error) {
	if p := recover(); p != nil {
		result <- fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}

// compareAll fetches what the stream holds in place of the items that are to be compared, several at once.
func (c *copier) compareAll(ctx context.Context, items []*item) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, atOnce(items))
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

// atOnce is how many messages to fetch at once in place of the items, which are about as large.
func atOnce(items []*item) int {
	largest := windowBytes / comparisons
	for _, it := range items {
		largest = max(largest, len(it.value))
	}
	return max(1, windowBytes/largest)
}
