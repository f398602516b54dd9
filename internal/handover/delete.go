package handover

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// Delete deletes the bucket, once nothing can have been put into it that the verified checkpoint does not cover. Where it
// does not exist there is nothing to do.
//
// It returns a *RefusedError where the bucket cannot be fenced, ErrNotClean where the checkpoint is not of a complete copy
// with nothing left behind, ErrWrittenSince where the bucket has been written to, even if only to delete a key, or made
// again under its name. On a failure the bucket has its subjects back, or ErrStillFenced says that it has not.
//
// Of a bucket in a cluster, a server that has just become its leader and has not heard of the fence can take a put between
// the last look and the deletion. Nothing that NATS offers closes that window, which is a few milliseconds long.
func (h *HandOver) Delete(ctx context.Context, verified migrate.Checkpoint) error {
	live, seen, err := h.observe(ctx)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil
	case err != nil:
		return err
	case seen.State != Own && seen.State != Fenced:
		return &RefusedError{Bucket: h.Bucket, Reason: seen.Reason}
	}
	err = clean(&verified)
	if err == nil {
		err = h.covered(ctx, live, &verified) // looked at before the writers are disturbed, and again afterwards
	}
	if err == nil {
		err = h.ready(ctx, seen)
	}
	if err == nil {
		limited, cancel := h.limited(ctx)
		defer cancel()
		var follow func()
		if follow, err = h.unfollow(limited); err == nil {
			defer follow()
			err = h.remove(limited, &verified)
		}
	}
	if err != nil {
		return fmt.Errorf("deleting bucket %s: %w", h.Bucket, h.undoDelete(ctx, err))
	}
	return nil
}

func (h *HandOver) remove(ctx context.Context, verified *migrate.Checkpoint) error {
	if _, _, err := h.fence(ctx); err != nil {
		return err
	}
	mark, err := h.mark(ctx)
	if err != nil {
		return err
	}
	if !mark.committed {
		return fmt.Errorf("bucket %s is full and may not be purged, so what is under way to it cannot be waited for: make room in it", h.Bucket)
	}
	live, seen, err := h.observe(ctx)
	if err != nil {
		return err
	}
	if seen.State != Fenced {
		return fmt.Errorf("%w: somebody gave the bucket its subjects back", ErrWrittenSince)
	}
	if err := h.covered(ctx, live, verified); err != nil {
		return err
	}
	err = h.Streams.DeleteStream(ctx, live.Config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return err
}

// undoDelete gives the subjects back, except where the stream has them.
func (h *HandOver) undoDelete(ctx context.Context, failed error) error {
	if err := h.undo(ctx, failed); err != nil {
		return err
	}
	return failed
}

// covered says whether the stream holds everything that the bucket does: the bucket is the one that was copied, it took
// nothing after the checkpoint, and the stream is the one that it was copied into.
func (h *HandOver) covered(ctx context.Context, live *jetstream.StreamInfo, verified *migrate.Checkpoint) error {
	if !verified.Matches(live.Created, live.State.LastSeq) {
		return fmt.Errorf("%w: it was deleted and made again", ErrWrittenSince)
	}
	target, err := h.Streams.Stream(ctx, h.Stream)
	if err != nil {
		return err
	}
	stored, err := migrate.DecodeCheckpoint(target.Config.Metadata[jsbuilder.MetadataMigrationPrefix+h.Bucket])
	if err != nil {
		return err
	}
	if !stored.Complete() || !stored.Created.Equal(live.Created) {
		return fmt.Errorf("%w: stream %s does not say that it holds a complete copy of the bucket", ErrNotClean, h.Stream)
	}
	sequence, err := migrate.FirstAfter(ctx, h.JetStream, live.Config.Name, verified.LastSequence, jsbuilder.BucketSubjects(h.Bucket))
	if err == nil && sequence > 0 {
		err = fmt.Errorf("%w: sequence %d came after %d", ErrWrittenSince, sequence, verified.LastSequence)
	}
	return err
}
