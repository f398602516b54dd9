package migrate

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// window is how many entries are dealt with at once: the most that a server takes in a batch.
	window = 1000
	// windowBytes bounds the same in bytes, and what is read ahead: entries may be as large as a message.
	windowBytes = 8 << 20
	// publishTries is how often a batch is tried that meets what another writer has stored meanwhile.
	publishTries = 3
	// saveInterval is how often the checkpoint is stored while the copy runs. What was copied since the last one is
	// found again, and compared, after a crash.
	saveInterval = 5 * time.Second
	// progressInterval is how often progress is reported.
	progressInterval = 2 * time.Second
	// defaultLinger is Job.Linger when it is 0.
	defaultLinger = 5 * time.Second
	// ackTimeout bounds the wait for one acknowledgement.
	ackTimeout = 5 * time.Second
)

// Job is one run of the copy of a bucket into a stream.
type Job struct {
	// JetStream must reach the bucket and the stream.
	JetStream jetstream.JetStream
	Bucket    string
	Stream    string
	// Subject is the base subject: an entry is stored under <Subject>.<key>.
	Subject string
	// MaxAge is how long an entry is kept, counted from when the bucket recorded it; 0 is for ever.
	MaxAge time.Duration
	// DryRun counts what would be copied, and writes neither entries nor checkpoints.
	DryRun bool
	// Resume is the checkpoint to go on from. One that speaks of another bucket is ignored.
	Resume Checkpoint
	// Through, where it is not 0, has Run end once it has dealt with everything up to this sequence of the bucket's backing
	// stream, which must be one that the stream has reached.
	Through uint64
	// UntilCaughtUp has Run end when it has caught up for the first time, without waiting for late writers.
	UntilCaughtUp bool
	// Verify has Run read back and compare what the stream holds also where the first copy was complete before.
	Verify bool

	// Save stores the checkpoint with the data. It is called from the goroutine of Run, every few seconds, at the first
	// complete copy, and at the end.
	Save func(context.Context, Checkpoint) error
	// Progress is told how far the copy is, every few seconds and at the first complete copy. It must not block.
	Progress func(Checkpoint)
	// Invalid is told each value that is not an entry, once in a run. It must not block.
	Invalid func(key string, sequence uint64, reason error)
	// Linger is how long a caught-up copy waits for late writers before it ends; 0 is 5 seconds.
	Linger time.Duration
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Run copies every live entry of the bucket that the checkpoint does not cover, follows late writers until the bucket
// has been quiet for a few seconds, and returns how far it came. The checkpoint is good also when Run fails: the next
// run goes on from it. Only one Run for a bucket and stream should be under way at a time; a second one is wasteful but
// harms nothing.
//
// Before the first complete copy counts as complete, Run reads back what the stream holds and compares it. A dry run, and
// one with Through, does not.
//
// It returns jetstream.ErrStreamNotFound when the bucket or the stream does not exist, ErrNotVerified when the stream does
// not hold what it took, a *NoRoomError or *RemovedError where a first copy does not fit into the stream, and the cause of
// ctx when it was cancelled.
func (j *Job) Run(ctx context.Context) (Checkpoint, error) {
	c, err := j.open(ctx)
	if err != nil {
		return j.Resume, err
	}
	defer c.close(ctx)
	if err := c.ensureRoom(ctx); err != nil {
		return c.finish(ctx, err)
	}
	return c.finish(ctx, c.run(ctx))
}

// open begins to read the bucket. The caller has to close the copier.
func (j *Job) open(ctx context.Context) (*copier, error) {
	if j.Now == nil {
		j.Now = time.Now
	}
	if j.Linger == 0 {
		j.Linger = defaultLinger
	}
	nc := j.JetStream.Conn()
	c := &copier{
		Job: j, maxPayload: nc.MaxPayload(), batchSize: window, keys: map[string]bool{},
		storedAnswer: fmt.Appendf(nil, `{"stream":%q,`, j.Stream),
	}
	if err := c.observeTarget(ctx); err != nil {
		return nil, err
	}
	var err error
	if c.acks, err = openAcks(nc, window); err != nil {
		return nil, err
	}
	if c.src, err = openSource(ctx, j.JetStream, j.Bucket, c.begin); err != nil {
		c.acks.close()
		return nil, err
	}
	c.last, c.pending = c.at.LastSequence, c.src.pending
	return c, nil
}

func (c *copier) close(ctx context.Context) {
	c.src.close(ctx)
	c.acks.close()
}

// finish ends a run that has ended with err.
func (c *copier) finish(ctx context.Context, err error) (Checkpoint, error) {
	// What is under way when the read fails may still succeed, and must not go on beside the next run.
	if awaitErr := c.await(); err == nil {
		err = awaitErr
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return c.reached(), err
}

// Drain is a copy that has caught up with its bucket and is ready to copy the rest without delay. It is used by one
// goroutine at a time.
type Drain struct{ c *copier }

// OpenDrain copies what Run does until it has caught up. The caller has to close the Drain, before ctx ends.
func (j *Job) OpenDrain(ctx context.Context) (*Drain, error) {
	job := *j
	job.UntilCaughtUp = true
	c, err := job.open(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := c.finish(ctx, c.run(ctx)); err != nil {
		c.close(ctx)
		return nil, err
	}
	return &Drain{c}, nil
}

// Reached is how far the copy is.
func (d *Drain) Reached() Checkpoint { return d.c.reached() }

// Through copies up to and including a sequence of the bucket's backing stream, which must be one that the stream has
// reached. It saves nothing. After an error, or when ctx has ended, the Drain can only be closed.
func (d *Drain) Through(ctx context.Context, sequence uint64) (Checkpoint, error) {
	defer context.AfterFunc(ctx, d.c.src.cursor.Stop)()
	d.c.Through, d.c.Save = sequence, nil
	return d.c.finish(ctx, d.c.run(ctx))
}

// Close ends the read.
func (d *Drain) Close(ctx context.Context) { d.c.close(ctx) }

// observeTarget notes how the stream is before the run adds to it.
func (c *copier) observeTarget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := c.JetStream.Stream(ctx, c.Stream)
	if err != nil {
		return fmt.Errorf("opening stream %s: %w", c.Stream, err)
	}
	info := stream.CachedInfo()
	c.targetLast, c.replicated = info.State.LastSeq, info.Config.Replicas > 1
	c.writeOnce = info.Config.DiscardNewPerSubject && info.Config.MaxMsgsPerSubject == 1
	if c.held = int64(info.State.Bytes); info.Config.Discard == jetstream.DiscardOld {
		c.limit = max(0, info.Config.MaxBytes)
	}
	return nil
}

// begin decides where to start in the bucket as it is now, and returns the sequence after which to read.
func (c *copier) begin(info *jetstream.StreamInfo) uint64 {
	now := c.Now()
	c.savedAt, c.reportedAt = now, now
	c.at = c.Resume
	if c.DryRun || !c.at.Matches(info.Created, info.State.LastSeq) || !c.at.Under(c.Subject) {
		c.at = Checkpoint{Created: info.Created, StartTime: c.Resume.After(now)}
		c.Resume = c.at
	}
	c.saved = c.at.LastSequence
	if c.at.Lost() {
		// What has been lost is not known, so that all is looked at again as if it had never been.
		c.againTo = c.at.LastSequence
		c.at = Checkpoint{Created: c.at.Created, StartTime: c.at.StartTime}
	}
	c.at.Subject, c.resumed = c.Subject, c.at.LastSequence
	c.at.noteMaxAge(c.MaxAge)
	recount := c.at.NeedsRecount() && (info.State.LastSeq > c.at.LastSequence || c.at.Recount)
	if c.at.Recount = false; recount {
		// Some of the keys that were counted are not named, so that a change of theirs cannot be told: read all again.
		c.recountTo = c.at.LastSequence
		c.at.LastSequence = 0
		c.at.Invalid, c.at.InvalidKeys = 0, nil
		c.at.Mismatched, c.at.MismatchedKeys = 0, nil
	}
	return c.at.LastSequence
}
