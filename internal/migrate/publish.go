package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// errOtherWriter says that somebody else goes on storing what is to be copied.
var errOtherWriter = errors.New("another writer stores the same entries at the same time")

// copyAll publishes the items that are to be copied. Those of which the stream holds something already are compared, and
// left out of the next try.
func (c *copier) copyAll(ctx context.Context, items []*item) error {
	if c.meeting {
		// After a crash the stream holds whole stretches of what is copied again: comparing first saves refused batches.
		c.compareInstead(items)
	}
	for range publishTries {
		if err := c.compareAll(ctx, items); err != nil {
			return err
		}
		due := c.due(items)
		c.meeting = c.meeting && len(due) < len(items)
		if len(due) == 0 {
			return nil
		}
		err := c.publish(ctx, due)
		switch {
		case err == nil:
			return nil
		case !isConflict(err):
			return err
		}
		c.meeting = true
		c.compareInstead(due)
	}
	return errOtherWriter
}

// publish publishes the items in their order, and marks those that the stream has taken.
//
// A stream that loses its leader may lose a message and store the next one, so that only a batch keeps the order there. A
// stream without replicas has no leader to lose, and takes single messages faster (docs/adr/0006).
func (c *copier) publish(ctx context.Context, items []*item) error {
	if c.replicated {
		return c.publishInBatches(ctx, items)
	}
	return c.publishEach(ctx, items)
}

// publishEach publishes the items ahead of their acknowledgements. When one is refused as present, the others are stored
// all the same, and all of them have to be compared.
func (c *copier) publishEach(ctx context.Context, items []*item) error {
	for _, it := range items {
		if err := c.sameConnection(); err != nil {
			return err
		}
		msg := c.message(it)
		msg.Reply = c.acks.inbox
		if err := c.JetStream.Conn().PublishMsg(msg); err != nil {
			return fmt.Errorf("publishing entry %s: %w", it.key, err)
		}
	}
	if err := c.awaitEach(ctx, len(items)); err != nil {
		return fmt.Errorf("publishing %d entries up to %s: %w", len(items), items[len(items)-1].key, err)
	}
	for _, it := range items {
		it.fate = fateCopied
	}
	return nil
}

// awaitEach waits for n acknowledgements. A conflict is returned once all have come.
func (c *copier) awaitEach(ctx context.Context, n int) error {
	var conflict error
	patience := time.NewTimer(ackTimeout)
	defer patience.Stop()
	for range n {
		select {
		case reply := <-c.acks.replies:
			if err := c.acknowledged(reply, 1); isConflict(err) {
				conflict = err
			} else if err != nil {
				return err
			}
			patience.Reset(ackTimeout)
		case <-c.acks.disconnected:
			return nats.ErrDisconnected
		case <-patience.C:
			return fmt.Errorf("no acknowledgement came for %s: %w", ackTimeout, nats.ErrTimeout)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return conflict
}

// sameConnection fails once the connection has been lost since the run began. What was under way then may be lost, and
// publishing on would put later entries before it.
func (c *copier) sameConnection() error {
	select {
	case <-c.acks.disconnected:
		return nats.ErrDisconnected
	default:
		return nil
	}
}

// due are the items that are to be published. One that was compared and is missing is due where it was to be published.
func (c *copier) due(items []*item) []*item {
	var due []*item
	for _, it := range items {
		if it.wanted && it.fate == fateMissing {
			it.fate = fateWanted
		}
		if it.fate == fateWanted {
			due = append(due, it)
		}
	}
	return due
}

func (c *copier) compareInstead(items []*item) {
	for _, it := range items {
		if it.fate == fateWanted {
			it.fate = fateCompare
		}
	}
}
