package migrate

import (
	"context"
	"fmt"
)

const (
	// storedOverhead is what a server counts of a stream's MaxBytes for a message besides its subject, headers and body: that
	// of file storage, which takes more than memory.
	storedOverhead = 34
	// batchedOverhead is the size of the headers of an atomic batch.
	batchedOverhead = 100
	// plainOverhead is the size of all headers of a copied entry, without the names of stream and bucket, and what the server adds.
	plainOverhead = 400
)

// NoRoomError is returned by Run before it copies anything, where the stream drops its oldest entries at MaxBytes and would
// drop some for the copy.
type NoRoomError struct {
	// Needed is what MaxBytes has to be at least.
	Needed, MaxBytes int64
}

// Error implements error.
func (e *NoRoomError) Error() string {
	return fmt.Sprintf("the stream may hold %d bytes and would drop its oldest entries while it is filled, which takes %d", e.MaxBytes, e.Needed)
}

// RemovedError is returned by Run where the stream has lost entries before the first copy was through. Nothing but the bucket
// holds them: the next run copies them again.
type RemovedError struct{ Entries int64 }

// Error implements error.
func (e *RemovedError) Error() string {
	return fmt.Sprintf("%d entries were removed from the stream while it was filled", e.Entries)
}

// ensureRoom refuses to begin a first copy for which the stream would drop entries: the oldest of those that were copied, or
// what others have written. Late writers are followed all the same, as it is with what is written to the stream itself.
func (c *copier) ensureRoom(ctx context.Context) error {
	if c.limit == 0 || c.DryRun || c.at.Complete() || c.pending == 0 {
		return nil
	}
	each := int64(plainOverhead + len(c.Bucket) + len(c.Stream) + len(c.Subject))
	if c.needed(int64(c.src.info.State.Bytes)+int64(c.pending)*each) == 0 {
		return nil
	}
	// The stream may hold some of them, as after a crash.
	var missing int64
	err := c.eachLive(ctx, c.at.LastSequence, c.src.info.State.LastSeq, func(batch []*item) error {
		for _, it := range batch {
			if it.fate == fateMissing {
				missing += c.storedSize(it)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("finding out how much of bucket %s is missing in the stream: %w", c.Bucket, err)
	}
	if needed := c.needed(missing); needed > 0 {
		return &NoRoomError{Needed: needed, MaxBytes: c.limit}
	}
	return nil
}

// needed is how many bytes the stream would have to be allowed to hold so that as many more fit into it, 0 where it is.
func (c *copier) needed(more int64) int64 {
	if c.limit == 0 || more == 0 || c.held+more <= c.limit {
		return 0
	}
	return c.held + more
}

// storedSize is how many bytes a server counts for the entry once it is in the stream.
func (c *copier) storedSize(it *item) int64 {
	size := int64(c.message(it).Size()) + storedOverhead
	if c.replicated {
		size += batchedOverhead
	}
	return size
}
