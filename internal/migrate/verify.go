package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrNotVerified is returned by Run when the stream does not hold what was copied into it, although it took every entry.
var ErrNotVerified = errors.New("the stream does not hold what was copied into it")

// verify reads back what the stream holds of the bucket and compares count and digest with what was copied. Entries that
// were already present are not read again: each has been compared on its own.
//
// Where they differ, every entry is compared on its own. The stream may hold more than was counted, when the operator was
// killed before a checkpoint and the bucket has lost entries since, and less, when some were removed. It must not hold an
// entry twice.
func (c *copier) verify(ctx context.Context) error {
	count, digest, info, err := c.readBack(ctx)
	if err != nil {
		return err
	}
	found := &Verification{LastSequence: c.at.LastSequence}
	removing := info.State.FirstSeq > 1 || info.State.NumDeleted > 0
	// What was present has no header to count it by: where the stream may have lost some of it, each has to be looked for.
	if count == c.at.Migrated && digest == c.at.Copied && (c.at.AlreadyPresent == 0 || !removing) {
		found.BucketEntries, found.BucketDigest = c.at.Migrated+c.at.AlreadyPresent, c.at.Digest
		// What was present is what the stream holds besides.
		found.StreamEntries, found.StreamDigest = count+c.at.AlreadyPresent, c.at.Digest
		found.StreamDigest.subtract(c.at.Copied)
		found.StreamDigest.add(digest)
	} else {
		c.doubled = info.State.Msgs > info.State.NumSubjects
		err := c.compareEach(ctx, found, removing)
		c.doubled = false
		if err != nil {
			return err
		}
	}
	found.Time = c.Now()
	c.at.Verified = found
	return nil
}

// readBack counts and digests the stream's entries that carry the bucket as their source.
func (c *copier) readBack(ctx context.Context) (count int64, digest Digest, info *jetstream.StreamInfo, err error) {
	target, err := openReader(ctx, c.JetStream, c.Stream, func(*jetstream.StreamInfo) uint64 { return 0 })
	if err != nil {
		return 0, Digest{}, nil, err
	}
	defer target.close(ctx)
	err = target.each(ctx, target.info.State.LastSeq, func(msg jetstream.Msg, _ *jetstream.MsgMetadata) error {
		key, own := strings.CutPrefix(msg.Subject(), c.subject("")) // an adopted stream may hold other subjects
		if own && c.fromThisBucket(msg.Headers().Get(HeaderSourceBucket), msg.Headers().Get(HeaderSourceTime)) {
			count++
			digest.Add(key, msg.Data())
		}
		return nil
	})
	return count, digest, target.info, err
}

// fromThisBucket says whether a message with these headers was copied from the bucket as it is now, and not from one that
// was there before under its name.
func (c *copier) fromThisBucket(bucket, recorded string) bool {
	if bucket != c.Bucket {
		return false
	}
	when, err := time.Parse(time.RFC3339Nano, recorded)
	return err == nil && !when.Before(c.at.Created)
}

// compareEach looks for every entry that the checkpoint covers in the stream. One that is missing is counted as removed where
// the stream removes messages, and is a fault elsewhere.
func (c *copier) compareEach(ctx context.Context, found *Verification, removing bool) error {
	return c.eachLive(ctx, 0, c.at.LastSequence, func(batch []*item) error { return c.requireEach(found, batch, removing) })
}

// eachLive compares what the bucket holds after one sequence, up to another, with the stream, and calls visit with every
// entry that has not outlived its time.
func (c *copier) eachLive(ctx context.Context, after, goal uint64, visit func([]*item) error) error {
	src, err := openSource(ctx, c.JetStream, c.Bucket, func(*jetstream.StreamInfo) uint64 { return after })
	if err != nil {
		return err
	}
	defer src.close(ctx)
	var batch []*item
	size := 0
	flush := func() error {
		defer func() {
			clear(batch)
			batch, size = batch[:0], 0
		}()
		if err := c.compareAll(ctx, batch); err != nil {
			return err
		}
		return visit(batch)
	}
	err = src.each(ctx, goal, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		r := src.parse(msg, meta)
		superseded, err := src.superseded(ctx, r)
		if err != nil {
			return err
		}
		if !r.marker && !superseded && checkEntry(r, c.maxPayload) == nil && c.remaining(r) > 0 {
			batch = append(batch, &item{revision: r, fate: fateCompare})
			size += len(r.value)
		}
		if len(batch) < window && size < windowBytes {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

func (c *copier) requireEach(found *Verification, batch []*item, removing bool) error {
	for _, it := range batch {
		switch it.fate {
		case fateMissing:
			if c.remaining(it.revision) <= 0 {
				continue // its time came after it was read
			}
			if !removing {
				return fmt.Errorf("%w: entry %s of bucket %s is missing", ErrNotVerified, it.key, c.Bucket)
			}
			found.Removed++
			found.BucketEntries++
			found.BucketDigest.Add(it.key, it.value)
		case fateDoubled:
			return fmt.Errorf("%w: entry %s of bucket %s is there more than once", ErrNotVerified, it.key, c.Bucket)
		case fateMismatched:
			if !c.isMismatched(it.key) {
				return fmt.Errorf("%w: entry %s of bucket %s has other bytes", ErrNotVerified, it.key, c.Bucket)
			}
		default: // the bytes were compared
			found.BucketEntries++
			found.BucketDigest.Add(it.key, it.value)
			found.StreamEntries++
			found.StreamDigest.Add(it.key, it.value)
		}
	}
	return nil
}

// isMismatched says whether the difference has been counted. Of many mismatches only the first are named, and the rest
// has to be believed.
func (c *copier) isMismatched(key string) bool {
	return c.at.Mismatched > int64(len(c.at.MismatchedKeys)) || c.at.names(key)
}
