package controller

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
	"github.com/osapi-io/auditstream-operator/internal/tracing"
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
	// dropsAt is how many bytes the stream may hold before it drops its oldest entries, 0 where it never does.
	dropsAt int64
	// handOver is what is to become of the bucket once it has been copied; empty is nothing, or nothing now.
	handOver v1alpha1.AfterMigration
}

// copyRun is a copy that runs, or how the last one ended.
type copyRun struct {
	params  copyParams
	cancel  context.CancelCauseFunc
	running bool
	reached migrate.Checkpoint
	err     error
	// stored is the checkpoint that the stream is known to hold. Dropped says that it does not, so that what the run has reached
	// is of another stream.
	stored  migrate.Checkpoint
	dropped bool
	// doubt is what the run before this one has failed of, until this one gets further.
	doubt error
	ended time.Time
	// began is when the run got its turn, done how many entries had been dealt with before, pace what follows from them.
	began time.Time
	done  int64
	pace  pace
}

// loggedTo is the last value of a bucket that was logged because it is not an entry.
type loggedTo struct {
	created  time.Time
	sequence uint64
}

// copies runs the copies of all resources beside their reconciles. It is safe for concurrent use.
type copies struct {
	wake  func(types.NamespacedName)
	now   func() time.Time
	slots chan struct{}
	// turns are those of the first copies into a stream.
	turns map[string]chan struct{}

	group   sync.WaitGroup
	mu      sync.Mutex
	ctx     context.Context
	runs    map[copyID]*copyRun
	follows map[copyID]func()
	// logged outlives the runs: a value is logged once in the life of the process and of the resource.
	logged map[copyID]loggedTo
}

func newCopies(wake func(types.NamespacedName), now func() time.Time) *copies {
	return &copies{
		wake:    wake,
		now:     now,
		slots:   make(chan struct{}, maxCopies),
		turns:   map[string]chan struct{}{},
		runs:    map[copyID]*copyRun{},
		follows: map[copyID]func(){},
		logged:  map[copyID]loggedTo{},
	}
}

// Start implements manager.Runnable: copies run while the manager leads. It returns once they have ended, so that a bucket
// in the middle of a hand-over gets its subjects back.
func (c *copies) Start(ctx context.Context) error {
	c.mu.Lock()
	c.ctx = ctx
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()   // none begins from here on
	c.mu.Unlock() //nolint:staticcheck // See above.
	c.group.Wait()
	return nil
}

// ensure begins a copy where the bucket holds what neither the stored checkpoint nor the last run covers, and returns
// how far the copy is. It returns the error of a run that has failed, once; the next call begins another.
func (c *copies) ensure(id copyID, job copyJob, stored migrate.Checkpoint, bucket *jetstream.StreamInfo) (migrate.Checkpoint, error) {
	params := copyParams{
		created: job.created, stream: job.Stream, subject: job.Subject, maxAge: job.MaxAge, dryRun: job.DryRun, dropsAt: job.dropsAt,
		handOver: job.kind,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	run, inStream := c.runs[id], stored
	if run != nil && run.dropped {
		if run.running {
			return stored, nil // its end wakes the resource
		}
		run = nil
	}
	var doubt error
	switch {
	case run != nil && run.running && run.params == params:
		return run.reached, run.doubt
	case run != nil && run.running:
		run.cancel(errStopped) // its end wakes the resource
		return otherwise(stored, run, params, bucket), nil
	case run != nil && run.params == params:
		if err := run.err; err != nil {
			if !lasts(err) {
				run.err = nil
			} else if c.now().Sub(run.ended) >= slowRetry {
				run.err, run.doubt = nil, err
			}
			return run.reached, err
		}
		if params.dryRun && run.reached.Complete() && run.reached.Created.Equal(bucket.Created) && c.now().Sub(run.ended) < slowRetry {
			return run.reached, nil // it reads everything: not again for each late writer
		}
		stored, doubt = furthest(stored, run.reached, bucket, params.dryRun), run.doubt
	case params.dryRun:
		stored = migrate.Checkpoint{}
	}
	upToDate := stored.Complete() && !stored.Recount && stored.Created.Equal(bucket.Created) && stored.LastSequence == bucket.State.LastSeq
	if upToDate && job.handOver == nil {
		return stored, nil
	}
	if c.ctx == nil || c.ctx.Err() != nil {
		return stored, errStopped
	}
	stored = beginning(stored, bucket, job.Now())
	began := c.start(id, job, params, stored)
	if began.doubt = doubt; !params.dryRun {
		began.stored = inStream
	}
	return stored, doubt
}

// wentBack says whether the stream holds less of a checkpoint than it is known to: it was restored from a backup, or somebody
// has removed the checkpoint to have everything copied again.
func (c *copies) wentBack(id copyID, stored migrate.Checkpoint) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	run := c.runs[id]
	if run == nil || run.stored.Created.IsZero() {
		return false
	}
	known := &run.stored
	return stored.LastSequence < known.LastSequence || known.Complete() && !stored.Complete() || !stored.Created.Equal(known.Created)
}

// drop has what the last run has reached count no longer, and ends it where it is under way.
func (c *copies) drop(id copyID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	run := c.runs[id]
	switch {
	case run == nil:
	case run.running:
		run.dropped = true
		run.cancel(errStopped)
	default:
		delete(c.runs, id)
	}
}

// otherwise is how far a copy is while a run with other parameters is being ended. What that has reached counts only where it
// went into the same stream.
func otherwise(stored migrate.Checkpoint, run *copyRun, params copyParams, bucket *jetstream.StreamInfo) migrate.Checkpoint {
	same := run.params
	same.maxAge, same.dropsAt, same.handOver = params.maxAge, params.dropsAt, params.handOver
	switch {
	case params.dryRun:
		return migrate.Checkpoint{}
	case same == params:
		return furthest(stored, run.reached, bucket, false)
	default:
		return stored
	}
}

// beginning is what a run goes on from: a checkpoint of the bucket as it is now, if only to say when the run began. One
// that speaks of another bucket of the name would claim that this one has been copied. Of two copies the one that began later
// counts, so that this one has begun after the stored one whatever the clock says.
func beginning(stored migrate.Checkpoint, bucket *jetstream.StreamInfo, now time.Time) migrate.Checkpoint {
	if stored.Created.Equal(bucket.Created) {
		return stored
	}
	return migrate.Checkpoint{
		Created: bucket.Created, StartTime: stored.After(now),
		Counts: migrate.Counts{Total: int64(bucket.State.Msgs)}, // the copy finds out which of them are live
	}
}

// pace is how fast the first copy of a bucket gets on; zero when none runs.
func (c *copies) pace(id copyID) pace {
	c.mu.Lock()
	defer c.mu.Unlock()
	if run := c.runs[id]; run != nil && run.running && !run.reached.Complete() {
		return run.pace
	}
	return pace{}
}

// gotTurn notes when a run has really begun.
func (c *copies) gotTurn(run *copyRun) {
	c.mu.Lock()
	defer c.mu.Unlock()
	run.began = c.now()
}

// firstSeen says whether a value that is not an entry has not been logged yet. A run tells them in the order of their
// sequences.
func (c *copies) firstSeen(id copyID, created time.Time, sequence uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.logged[id]
	if last.created.Equal(created) && sequence <= last.sequence {
		return false
	}
	c.logged[id] = loggedTo{created: created, sequence: sequence}
	return true
}

// furthest chooses between the checkpoint in the stream and what the last run of this process has reached.
func furthest(stored, reached migrate.Checkpoint, bucket *jetstream.StreamInfo, dryRun bool) migrate.Checkpoint {
	further := reached.LastSequence >= stored.LastSequence && reached.Matches(bucket.Created, bucket.State.LastSeq) &&
		(reached.Complete() || !stored.Complete())
	if dryRun || further {
		return reached
	}
	return stored
}

// start begins a run. The caller holds the lock.
func (c *copies) start(id copyID, job copyJob, params copyParams, resume migrate.Checkpoint) *copyRun {
	ctx, cancel := context.WithCancelCause(c.ctx)
	ctx, span := job.beginCopy(ctx, id)
	logger := tracing.Logger(log.FromContext(c.ctx), span).WithName("migration").WithValues(
		resourceKind, id.resource, "namespace", id.resource.Namespace, "name", id.resource.Name, "bucket", id.bucket, "stream", job.Stream)
	run := &copyRun{params: params, cancel: cancel, running: true, reached: resume, done: resume.Done()}
	if params.dryRun {
		run.done = 0 // it always begins at the beginning
	}
	c.runs[id] = run
	job.Resume = resume
	job.Progress = func(reached migrate.Checkpoint) {
		c.mu.Lock()
		run.reached, run.pace, run.doubt = reached, paceOf(&reached, run.done, run.began, c.now()), nil
		c.mu.Unlock()
		c.wake(id.resource)
	}
	if save := job.Save; save != nil {
		job.Save = func(ctx context.Context, reached migrate.Checkpoint) error {
			if err := save(ctx, reached); err != nil {
				return err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			run.stored = reached
			return nil
		}
	}
	job.Invalid = func(key string, sequence uint64, reason error) {
		if !c.firstSeen(id, resume.Created, sequence) {
			return
		}
		logger.Info("Left a value in the bucket that is not an entry", "key", key, "sequence", sequence, "cause", reason.Error())
	}
	c.group.Go(func() {
		defer cancel(nil)
		reached, err := c.runJob(ctx, run, job)
		endCopy(span, &reached, err)
		if errors.Is(err, errStopped) || c.ctx.Err() != nil {
			err = nil
		}
		if err == nil && reached.LastSequence > resume.LastSequence {
			logger.Info("Copied the bucket", "lastSequence", reached.LastSequence, "total", reached.Total, "migrated", reached.Migrated,
				"alreadyPresent", reached.AlreadyPresent, "expired", reached.Expired, "invalid", reached.Invalid, "mismatched", reached.Mismatched)
		}
		c.mu.Lock()
		run.running, run.reached, run.err, run.ended, run.doubt = false, reached, err, c.now(), nil
		c.mu.Unlock()
		c.wake(id.resource)
	})
	return run
}

// stop ends what a resource does with a bucket.
func (c *copies) stop(id copyID) {
	c.end(func(other copyID) bool { return other == id })
}

// handingOver says whether a run that hands over the bucket is under way.
func (c *copies) handingOver(id copyID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	run := c.runs[id]
	return run != nil && run.running && run.params.handOver != ""
}

// running says whether any copy for the resource is under way.
func (c *copies) running(resource types.NamespacedName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, run := range c.runs {
		if id.resource == resource && run.running {
			return true
		}
	}
	return false
}

// keep ends what a resource does with buckets that it no longer declares.
func (c *copies) keep(resource types.NamespacedName, declared map[string]bool) {
	c.end(func(id copyID) bool { return id.resource == resource && !declared[id.bucket] })
}

// stopAll ends what a resource does with any bucket.
func (c *copies) stopAll(resource types.NamespacedName) { c.keep(resource, nil) }

// forget drops what is remembered of a resource that is gone.
func (c *copies) forget(resource types.NamespacedName) {
	c.stopAll(resource)
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.logged, func(id copyID, _ loggedTo) bool { return id.resource == resource })
}

// end ends what is done with the chosen buckets. A run that is under way is forgotten only once it has ended.
func (c *copies) end(chosen func(copyID) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, stop := range c.follows {
		if chosen(id) {
			stop()
			delete(c.follows, id)
		}
	}
	for id, run := range c.runs {
		if !chosen(id) {
			continue
		}
		run.cancel(errStopped)
		if !run.running {
			delete(c.runs, id)
		}
	}
}
