package controller

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// copyJob is a copy to be made.
type copyJob struct {
	migrate.Job
	// created is when the stream was created.
	created time.Time
	// dropsAt is how many bytes the stream may hold before it drops its oldest entries, 0 where it never does.
	dropsAt int64
	// explain classifies an error of the run.
	explain func(error) error
	// handOver does what kind says once the bucket has been copied, and returns how far the copy is then.
	handOver func(context.Context, migrate.Checkpoint) (migrate.Checkpoint, error)
	kind     v1alpha1.AfterMigration
	// origin is the span of the reconcile that asks for the copy.
	origin trace.Span
}

// runJob runs a copy when it is its turn. A panic ends the copy, not the operator.
func (c *copies) runJob(ctx context.Context, run *copyRun, job copyJob) (reached migrate.Checkpoint, err error) {
	defer func() {
		if p := recover(); p != nil {
			reached, err = job.Resume, fmt.Errorf("the copy of bucket %s panicked: %v\n%s", job.Bucket, p, debug.Stack())
		}
	}()
	if !job.Resume.Complete() {
		release, err := c.takeTurn(ctx, &job)
		if err != nil {
			return job.Resume, err
		}
		c.gotTurn(run)
		defer release()
		progress := job.Progress
		job.Progress = func(reached migrate.Checkpoint) {
			if reached.Complete() {
				release()
			}
			progress(reached)
		}
	}
	reached, err = job.Run(ctx)
	if err == nil && job.handOver != nil {
		reached, err = job.tracedHandOver(ctx, reached)
	}
	return reached, job.classify(err)
}

// takeTurn waits for the turn of a first copy, and returns what ends it, which may be called more than once. A stream that drops its
// oldest entries is filled from one bucket after the other: each counts what the stream holds before it begins.
func (c *copies) takeTurn(ctx context.Context, job *copyJob) (release func(), err error) {
	waitFor := []chan struct{}{c.slots}
	if job.dropsAt > 0 {
		waitFor = []chan struct{}{c.turnsOf(job.Stream), c.slots}
	}
	var taken []chan struct{}
	release = sync.OnceFunc(func() {
		for _, turns := range taken {
			<-turns
		}
	})
	for _, turns := range waitFor {
		select {
		case turns <- struct{}{}:
			taken = append(taken, turns)
		case <-ctx.Done():
			release()
			return nil, context.Cause(ctx)
		}
	}
	return release, nil
}

func (c *copies) turnsOf(stream string) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	turns := c.turns[stream]
	if turns == nil {
		turns = make(chan struct{}, 1)
		c.turns[stream] = turns
	}
	return turns
}

// classify turns an error of the copy into what the reconcile reports.
func (job *copyJob) classify(err error) error {
	var full *migrate.NoRoomError
	var lost *migrate.RemovedError
	switch {
	case errors.Is(err, migrate.ErrNotVerified):
		return &failure.Terminal{Reason: v1alpha1.ReasonVerificationFailed, Err: err}
	case errors.As(err, &full):
		return &failure.Waiting{Reason: v1alpha1.ReasonStreamFull, After: slowRetry, Err: fmt.Errorf("bucket %s: %w%s",
			job.Bucket, full, roomFor(full.Needed))}
	case errors.As(err, &lost):
		return &failure.Waiting{Reason: v1alpha1.ReasonMigrating, After: slowRetry, Err: fmt.Errorf(
			"bucket %s: %w; they are copied again", job.Bucket, err)}
	}
	return job.explain(err)
}

// roomFor says what to do about a stream that cannot hold what is to be copied into it.
func roomFor(needed int64) string {
	return fmt.Sprintf(": raise spec.maxBytes to at least %d, or leave it out until the bucket is copied", needed)
}

// lasts says whether the error of a run is not to be tried again at the next put, because it takes reading everything to come
// to it: a verification that has failed, or entries that do not fit into the stream.
func lasts(err error) bool {
	var full *migrate.NoRoomError
	var lost *migrate.RemovedError
	return isTerminal(err) || errors.As(err, &full) || errors.As(err, &lost)
}
