package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Codes of the server that nats.go has no constant for.
const (
	// codeStoreFailed (10077) is what a stream that refuses new messages answers; its description tells a full stream
	// from a second message on a subject that takes one.
	codeStoreFailed jetstream.ErrorCode = 10077
	// descriptionSecondMessage is the description of the latter.
	descriptionSecondMessage = "maximum messages per subject exceeded"
)

// isConflict says whether the server refused an entry because its subject holds a message already (10071, or 10164
// while one is in flight on a replicated stream).
func isConflict(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
		return true
	case codeStoreFailed:
		return strings.Contains(api.Description, descriptionSecondMessage)
	}
	return false
}

// compare turns fateCompare into what the stream says. It may run beside others of its kind, each for another item.
func (c *copier) compare(ctx context.Context, it *item) error {
	first, marker, err := firstUnder(ctx, c.JetStream, c.Stream, c.subject(it.key))
	switch it.after = marker; {
	case err != nil:
		return err
	case first == nil && marker > 0 && c.writeOnce:
		it.fate = fateMismatched // the marker has the place of the entry
		return nil
	case first == nil:
		it.fate = fateMissing
		return nil
	}
	if c.countedBefore(first, it.sequence) {
		it.before = first
	}
	twice, err := c.copiedAgain(ctx, it, first)
	if err != nil {
		return err
	}
	own := first.header(HeaderSourceBucket) == c.Bucket && first.header(HeaderSourceSequence) == strconv.FormatUint(it.sequence, 10)
	switch {
	case twice:
		it.fate = fateDoubled
	case !bytes.Equal(first.Data, it.value):
		it.fate = fateMismatched
	case own && !c.DryRun:
		it.fate = fateCopied
	case it.before != nil && !c.DryRun:
		it.fate = fateCounted
	default:
		it.fate = fatePresent
	}
	return nil
}

// copiedAgain says whether the stream holds a further copy of the entry from this bucket. What others have written under
// the id later is theirs.
func (c *copier) copiedAgain(ctx context.Context, it *item, first *stored) (bool, error) {
	if !c.doubled {
		return false, nil
	}
	last, err := lastUnder(ctx, c.JetStream, c.Stream, c.subject(it.key))
	if err != nil || last == nil || last.Sequence == first.Sequence {
		return false, err
	}
	return c.fromThisBucket(last.header(HeaderSourceBucket), last.header(HeaderSourceTime)), nil
}

// countedBefore says whether the message is the copy of an earlier revision of the same bucket that the checkpoint
// covers already.
func (c *copier) countedBefore(first *stored, sequence uint64) bool {
	source, err := strconv.ParseUint(first.header(HeaderSourceSequence), 10, 64)
	if err != nil || source >= sequence || !c.fromThisBucket(first.header(HeaderSourceBucket), first.header(HeaderSourceTime)) {
		return false
	}
	// A copy that a killed operator has made after its last checkpoint is not counted yet.
	return source <= c.resumed || first.Sequence > c.targetLast
}

// count moves the checkpoint over an item.
func (c *copier) count(it *item) {
	if it.sequence <= c.recountTo {
		c.recount(it)
	} else {
		c.countNew(it)
	}
	c.at.LastSequence = it.sequence
	c.at.Total = c.at.Done() + int64(it.pending)
}

// recount counts again what a change in the bucket can have made wrong; the other counts stand.
func (c *copier) recount(it *item) {
	switch it.fate {
	case fateInvalid:
		c.at.addInvalid(it.key)
	case fateMismatched:
		c.at.addMismatched(it.key)
	}
}

func (c *copier) countNew(it *item) {
	if it.sequence > c.src.info.State.LastSeq && c.at.NeedsRecount() {
		c.at.Recount = true // it may take the place of one that is not named
	}
	// A later revision takes the place of one that was not an entry, or differed.
	c.at.dropInvalid(it.key)
	differed := c.at.dropMismatched(it.key)
	switch it.fate {
	case fateCopied, fateMissing: // missing is what a dry run would copy
		c.at.addMigrated(it.key, it.value)
		if it.fate == fateMissing && c.limit > 0 {
			c.lacking += c.storedSize(it)
		}
	case fatePresent:
		c.at.AlreadyPresent++
		c.at.Digest.Add(it.key, it.value)
	case fateCounted:
		if differed {
			c.at.addMigrated(it.key, it.value)
		}
	case fateExpired:
		c.at.Expired++
	case fateInvalid:
		c.at.addInvalid(it.key)
	case fateMismatched:
		if it.before != nil && !differed {
			c.at.removeMigrated(it.key, it.before.Data)
		}
		c.at.addMismatched(it.key)
	}
}

func (c *Counts) dropInvalid(key string) bool {
	return dropNamed(&c.InvalidKeys, &c.Invalid, key)
}

func (c *Counts) dropMismatched(key string) bool {
	return dropNamed(&c.MismatchedKeys, &c.Mismatched, key)
}

func dropNamed(keys *[]string, count *int64, key string) bool {
	i := slices.Index(*keys, named(key))
	if i < 0 {
		return false
	}
	*keys = slices.Delete(slices.Clone(*keys), i, i+1)
	*count--
	return true
}

// catchUp settles everything that was read, which is all up to goal, and marks the first complete copy.
func (c *copier) catchUp(ctx context.Context, goal uint64) error {
	if err := c.settle(ctx); err != nil {
		return err
	}
	// Sequences that were deleted from the bucket's end are never delivered.
	c.at.LastSequence = max(c.at.LastSequence, goal)
	c.at.Total = c.at.Done()
	if c.Through != 0 {
		return nil
	}
	if c.at.Complete() && (c.verified || !c.Verify) {
		return c.tick(ctx)
	}
	return c.complete(ctx)
}

// complete verifies the copy and stores that it is through.
func (c *copier) complete(ctx context.Context) error {
	if !c.DryRun {
		c.report()
		if err := c.verify(ctx); err != nil {
			return fmt.Errorf("verifying the copy of bucket %s: %w", c.Bucket, err)
		}
		c.verified = true
		if c.at.Lost() {
			return errors.Join(&RemovedError{Entries: c.at.Verified.Removed}, c.save(ctx))
		}
	}
	c.at.Needed = c.needed(c.lacking)
	before := c.at.CompletionTime
	if before.IsZero() {
		c.at.CompletionTime = c.Now()
	}
	if err := c.save(ctx); err != nil {
		c.at.CompletionTime = before
		return err
	}
	c.report()
	return nil
}

// tick saves and reports when it is time to.
func (c *copier) tick(ctx context.Context) error {
	now := c.Now()
	if now.Sub(c.reportedAt) >= progressInterval {
		c.report()
	}
	if now.Sub(c.savedAt) < saveInterval {
		return nil
	}
	return c.save(ctx)
}

// save stores the checkpoint, unless nothing has changed since or it does not cover what the last one did.
func (c *copier) save(ctx context.Context) error {
	unchanged := c.at.LastSequence == c.saved && c.Resume.Complete() && c.at.Verified == c.Resume.Verified && c.at.Recount == c.Resume.Recount
	if c.DryRun || c.Save == nil || unchanged || c.at.LastSequence < max(c.recountTo, c.againTo) {
		return nil
	}
	if err := c.Save(ctx, c.at); err != nil {
		return fmt.Errorf("saving the checkpoint of bucket %s: %w", c.Bucket, err)
	}
	c.saved, c.savedAt, c.Resume = c.at.LastSequence, c.Now(), c.at
	return nil
}

func (c *copier) report() {
	c.reportedAt = c.Now()
	if c.Progress != nil {
		c.Progress(c.reached())
	}
}

// reached is the checkpoint to go on from. In the middle of a recount, or of a copy that is made again, that is still the one
// before it.
func (c *copier) reached() Checkpoint {
	if c.at.LastSequence < max(c.recountTo, c.againTo) {
		return c.Resume
	}
	return c.at
}
