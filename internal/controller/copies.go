package controller

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/jsclient"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// maxCopies is how many first copies run at once; further ones wait for their turn. It bounds memory. Following the
// writers of a bucket that has been copied takes no turn, since it may go on for ever.
const maxCopies = 4

// errStopped is the cause of a copy's end when the operator itself has ended it.
var errStopped = errors.New("the copy was stopped")

// copyID names the copy of a bucket for a resource.
type copyID struct {
	resource types.NamespacedName
	bucket   string
}

// copyParams are what a running copy depends on. When they change, it is ended and another one begun.
type copyParams struct {
	// created is when the stream was created: one that was made again holds none of what had been copied.
	created time.Time
	stream  string
	subject string
	maxAge  time.Duration
	dryRun  bool
}

// copyJob is a copy to be made.
type copyJob struct {
	migrate.Job
	// created is when the stream was created.
	created time.Time
	// explain classifies an error of the run.
	explain func(error) error
}

// copyRun is a copy that runs, or how the last one ended.
type copyRun struct {
	params  copyParams
	cancel  context.CancelCauseFunc
	running bool
	reached migrate.Checkpoint
	err     error
}

// copies runs the copies of all resources beside their reconciles. It is safe for concurrent use.
type copies struct {
	wake  func(types.NamespacedName)
	slots chan struct{}

	mu      sync.Mutex
	ctx     context.Context
	runs    map[copyID]*copyRun
	follows map[copyID]func()
}

func newCopies(wake func(types.NamespacedName)) *copies {
	return &copies{
		wake:    wake,
		slots:   make(chan struct{}, maxCopies),
		runs:    map[copyID]*copyRun{},
		follows: map[copyID]func(){},
	}
}

// Start implements manager.Runnable: copies run while the manager leads.
func (c *copies) Start(ctx context.Context) error {
	c.mu.Lock()
	c.ctx = ctx
	c.mu.Unlock()
	<-ctx.Done()
	return nil
}

// ensure begins a copy where the bucket holds what neither the stored checkpoint nor the last run covers, and returns
// how far the copy is. It returns the error of a run that has failed, once; the next call begins another.
func (c *copies) ensure(id copyID, job copyJob, stored migrate.Checkpoint, bucket *jetstream.StreamInfo) (migrate.Checkpoint, error) {
	params := copyParams{created: job.created, stream: job.Stream, subject: job.Subject, maxAge: job.MaxAge, dryRun: job.DryRun}
	c.mu.Lock()
	defer c.mu.Unlock()
	run := c.runs[id]
	switch {
	case run != nil && run.running && run.params == params:
		return run.reached, nil
	case run != nil && run.running:
		run.cancel(errStopped) // its end wakes the resource
		return run.reached, nil
	case run != nil && run.params == params:
		if err := run.err; err != nil {
			run.err = nil
			return run.reached, err
		}
		stored = furthest(stored, run.reached, bucket, params.dryRun)
	case params.dryRun:
		stored = migrate.Checkpoint{}
	}
	if stored.Complete() && stored.Matches(bucket.Created, bucket.State.LastSeq) && stored.LastSequence == bucket.State.LastSeq {
		return stored, nil
	}
	if c.ctx == nil || c.ctx.Err() != nil {
		return stored, errStopped
	}
	c.start(id, job, params, stored)
	return stored, nil
}

// furthest chooses between the checkpoint in the stream and what the last run of this process has reached.
func furthest(stored, reached migrate.Checkpoint, bucket *jetstream.StreamInfo, dryRun bool) migrate.Checkpoint {
	further := reached.LastSequence >= stored.LastSequence && reached.Matches(bucket.Created, bucket.State.LastSeq)
	if dryRun || further {
		return reached
	}
	return stored
}

// start begins a run. The caller holds the lock.
func (c *copies) start(id copyID, job copyJob, params copyParams, resume migrate.Checkpoint) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	logger := log.FromContext(c.ctx).WithName("migration").WithValues(
		"AuditStream", id.resource, "bucket", id.bucket, "stream", job.Stream)
	run := &copyRun{params: params, cancel: cancel, running: true, reached: resume}
	c.runs[id] = run
	job.Resume = resume
	job.Progress = func(reached migrate.Checkpoint) {
		c.mu.Lock()
		run.reached = reached
		c.mu.Unlock()
		c.wake(id.resource)
	}
	job.Invalid = func(key string, sequence uint64, reason error) {
		logger.Info("Left a value in the bucket that is not an entry", "key", key, "sequence", sequence, "reason", reason.Error())
	}
	go func() {
		defer cancel(nil)
		reached, err := c.runJob(ctx, job)
		if errors.Is(err, errStopped) || c.ctx.Err() != nil {
			err = nil
		}
		if err == nil && reached.LastSequence > resume.LastSequence {
			logger.Info("Copied the bucket", "lastSequence", reached.LastSequence, "total", reached.Total, "migrated", reached.Migrated,
				"alreadyPresent", reached.AlreadyPresent, "expired", reached.Expired, "invalid", reached.Invalid, "mismatched", reached.Mismatched)
		}
		c.mu.Lock()
		run.running, run.reached, run.err = false, reached, err
		c.mu.Unlock()
		c.wake(id.resource)
	}()
}

// runJob runs a copy when it is its turn. A panic ends the copy, not the operator.
func (c *copies) runJob(ctx context.Context, job copyJob) (reached migrate.Checkpoint, err error) {
	defer func() {
		if p := recover(); p != nil {
			reached, err = job.Resume, fmt.Errorf("the copy of bucket %s panicked: %v\n%s", job.Bucket, p, debug.Stack())
		}
	}()
	if !job.Resume.Complete() {
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return job.Resume, context.Cause(ctx)
		}
		release := sync.OnceFunc(func() { <-c.slots })
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
	if errors.Is(err, migrate.ErrNotVerified) {
		return reached, &failure.Terminal{Reason: v1alpha1.ReasonVerificationFailed, Err: err}
	}
	return reached, job.explain(err)
}

// follow has writes to the bucket wake the resource. Following a bucket that is followed does nothing.
func (c *copies) follow(id copyID, nats *jsclient.Client) error {
	c.mu.Lock()
	followed := c.follows[id] != nil
	c.mu.Unlock()
	if followed {
		return nil
	}
	// It asks the server, which may take a while. Reconciles of one resource never overlap.
	stop, err := nats.FollowBucket(id.bucket)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follows[id] = stop
	return nil
}

// keep ends the copies of the buckets that a resource no longer declares.
func (c *copies) keep(resource types.NamespacedName, declared map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, stop := range c.follows {
		if id.resource == resource && !declared[id.bucket] {
			stop()
			delete(c.follows, id)
		}
	}
	for id, run := range c.runs {
		if id.resource == resource && !declared[id.bucket] {
			run.cancel(errStopped)
			if !run.running {
				delete(c.runs, id)
			}
		}
	}
}

// stopAll ends all copies of a resource.
func (c *copies) stopAll(resource types.NamespacedName) { c.keep(resource, nil) }
