package handover

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

// codeSubjectOverlap (10065) is what a server answers that would have to give two streams the same subject.
const codeSubjectOverlap jetstream.ErrorCode = 10065

// Return gives the bucket its subjects back where it is fenced in favour of the stream, and says whether it did. Where it
// is not, or does not exist, there is nothing to do. It returns ErrOpen while the stream has, or is to have, the subjects.
func (h *HandOver) Return(ctx context.Context) (bool, error) {
	target, err := h.Streams.Stream(ctx, h.Stream)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, err
	}
	live, seen, err := h.observe(ctx)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return false, nil
	case err != nil:
		return false, err
	case seen.State != Fenced:
		return false, nil
	case target != nil && claimed(target, h.Bucket):
		return false, h.stillOpen()
	}
	if err := h.capture(ctx, live.Config, jsbuilder.BucketSubjects(h.Bucket), ""); err != nil {
		if hasCode(err, codeSubjectOverlap) && h.isOpen(ctx) {
			return false, h.stillOpen()
		}
		return false, fmt.Errorf("giving bucket %s its subjects back: %w", h.Bucket, err)
	}
	return true, nil
}

// undo gives the bucket its subjects back after a hand-over has failed with failed, also when ctx has ended. It returns nil
// where the stream has the subjects all the same: the answer of Open was lost.
func (h *HandOver) undo(ctx context.Context, failed error) error {
	if failed == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnTimeout)
	defer cancel()
	returned, err := h.Return(ctx)
	switch {
	case errors.Is(err, ErrOpen) && h.isOpen(ctx):
		return nil
	case err != nil:
		// What failed first does not matter any more, the next pass is what is needed: so its kind must not be found.
		return fmt.Errorf("%w: %v; giving it its subjects back failed too: %v", ErrStillFenced, failed, err) //nolint:errorlint // On purpose, see above.
	case returned:
		return fmt.Errorf("%w; the bucket has its subjects back", failed)
	}
	return failed
}

func (h *HandOver) isOpen(ctx context.Context) bool {
	target, err := h.Streams.Stream(ctx, h.Stream)
	return err == nil && Opened(target, h.Bucket)
}

func (h *HandOver) stillOpen() error {
	return fmt.Errorf("bucket %s cannot have its subjects back: %w: %s", h.Bucket, ErrOpen, h.Stream)
}
