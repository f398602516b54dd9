package handover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

const (
	// defaultLimit is HandOver.Limit when it is 0. A redirect takes a tenth of it on a busy machine, and nats.go tries again
	// for half a second only: what is slower is better tried again later.
	defaultLimit = 3 * time.Second
	// returnTimeout bounds the attempt to give the subjects back after a failure.
	returnTimeout = 5 * time.Second
)

// Streams reads and changes streams. Its requests bound themselves.
type Streams interface {
	Stream(ctx context.Context, name string) (*jetstream.StreamInfo, error)
	UpdateStream(ctx context.Context, cfg jetstream.StreamConfig) (*jetstream.StreamInfo, error)
	DeleteStream(ctx context.Context, name string) error
}

// HandOver hands the subjects of one bucket over. Only one method should run at a time for a bucket; two operators that
// race disturb each other, and the next pass finishes, but they lose nothing.
type HandOver struct {
	Streams Streams
	// JetStream publishes the mark. It must reach the bucket.
	JetStream jetstream.JetStream
	Bucket    string
	// Stream is the audit stream, and Subject its base subject.
	Stream, Subject string
	// Drain copies everything up to the sequence through of the bucket's backing stream. Redirect alone uses it, and Open.
	Drain func(ctx context.Context, through uint64) (migrate.Checkpoint, error)
	// Open has the audit stream take the bucket's subjects, by one update.
	Open func(ctx context.Context, reached migrate.Checkpoint) error
	// Unfollow, where it is not nil, ends the operator's own subscriptions to the bucket's subjects before the fence, and
	// returns what makes them anew once somebody takes what is put. The server counts every subscription as somebody who
	// may answer: with one left, it does not tell a writer that nobody does, and the writer waits until it gives up instead
	// of trying again.
	Unfollow func(ctx context.Context) (follow func(), err error)
	// Limit is how long writers may be kept waiting before the subjects are given back; 0 is 3 seconds.
	Limit time.Duration
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Result is what Redirect did.
type Result struct {
	// Opened is whether this call opened the stream. It is false where the stream was open before.
	Opened bool
	// Gap is how long nobody took what was put into the bucket: from before the fence was asked for to after the stream
	// was open. Where an earlier pass had set the fence (Resumed) it is the part that this call took.
	Gap     time.Duration
	Resumed bool
	// Mark is the sequence of the mark in the backing stream: the bucket took everything below it, and what is above it
	// came by a server that did not know of the fence yet, and is for the copy that goes on.
	Mark uint64
	// Checkpoint is what the drain has reached.
	Checkpoint migrate.Checkpoint
	// Relayed is how many puts of the gap were passed on to the stream.
	Relayed int

	fenced time.Time
}

// Redirect hands the bucket's subjects to the stream. What is put meanwhile is kept and passed on. It should be called once
// the first complete copy is through and the copy has caught up, so that little is left to drain while writers wait. Where
// the stream has them already, it only makes sure that the bucket is fenced.
//
// It returns a *RefusedError where the bucket cannot be handed over, before anything is changed, and jetstream.ErrStreamNotFound
// where the bucket or the stream does not exist. On any later failure it gives the subjects back, unless the stream has
// them by then, so that writers do not wait for the next pass; ErrStillFenced says that this failed too. ErrNotClean is
// among those failures.
func (h *HandOver) Redirect(ctx context.Context) (Result, error) {
	var result Result
	target, err := h.Streams.Stream(ctx, h.Stream)
	if err != nil {
		return result, err
	}
	open := Opened(target, h.Bucket)
	live, seen, err := h.observe(ctx)
	switch {
	case open && errors.Is(err, jetstream.ErrStreamNotFound):
		return result, nil // The bucket was deleted after it was redirected.
	case err != nil:
		return result, err
	case open && seen.State != Own:
		return result, nil
	}
	if err := h.ready(ctx, seen); err != nil {
		return result, err
	}
	if err := heardOf(target); err != nil && !open {
		return result, h.undo(ctx, err)
	}
	limited, cancel := h.limited(ctx)
	defer cancel()
	if open {
		// Both take what is put: what the bucket took meanwhile is for the copy that goes on.
		_, _, err := h.fence(limited)
		return result, err
	}
	follow, err := h.unfollow(limited)
	if err != nil {
		return result, h.undo(ctx, err)
	}
	defer follow()
	relay, err := openRelay(limited, h.JetStream, h.Bucket, live.State.LastSeq)
	if err != nil {
		return result, h.undo(ctx, err)
	}
	if err := h.undo(ctx, h.handOver(limited, relay, &result)); err != nil {
		if !errors.Is(err, ErrStillFenced) {
			relay.passOn(context.WithoutCancel(ctx), relay.prefix)
		}
		return result, fmt.Errorf("redirecting bucket %s to stream %s: %w", h.Bucket, h.Stream, err)
	}
	result.Opened, result.Gap = true, h.now().Sub(result.fenced)
	result.Relayed = relay.passOn(ctx, h.Subject+".")
	return result, nil
}

// silence is after how long a replica counts as not heard of. It is to answer once a second.
const silence = 3 * time.Second

// heardOf returns an error while a replica of the stream is away. It would come back with the configuration that it had, and
// store by that what the stream takes for the bucket, under the bucket's subjects if it has never heard of the transform.
func heardOf(stream *jetstream.StreamInfo) error {
	if stream.Cluster == nil {
		return nil
	}
	for _, replica := range stream.Cluster.Replicas {
		if replica.Offline || replica.Active > silence {
			return fmt.Errorf("stream %s has not heard of its replica on %s for %s: bring that server back first",
				stream.Config.Name, replica.Name, replica.Active.Round(time.Second))
		}
	}
	return nil
}

func (h *HandOver) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := h.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: more than %s", errTooSlow, limit))
}

func (h *HandOver) handOver(ctx context.Context, relay *relay, result *Result) (err error) {
	defer func() {
		if p := recover(); p != nil {
			// Whatever it was, the bucket must get its subjects back.
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		if err != nil {
			relay.end(ctx)
		}
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}()
	if result.fenced, result.Resumed, err = h.fence(ctx); err != nil {
		return err
	}
	mark, err := h.mark(ctx)
	if err != nil {
		return err
	}
	// A mark that is not certain to be committed will do: what comes above it is for the copy that goes on.
	result.Mark = mark.sequence
	if result.Checkpoint, err = h.Drain(ctx, mark.sequence); err != nil {
		return fmt.Errorf("copying what the bucket had taken: %w", err)
	}
	if reached := result.Checkpoint.LastSequence; reached < mark.sequence {
		return fmt.Errorf("copying what the bucket had taken ended at sequence %d, before %d", reached, mark.sequence)
	}
	if err := clean(&result.Checkpoint); err != nil {
		return err
	}
	relay.end(ctx)
	err = h.Open(ctx, result.Checkpoint)
	switch {
	case err == nil:
		return nil
	case hasCode(err, codeSubjectOverlap):
		// Somebody gave them back meanwhile, so it is no conflict that lasts, and must not be taken for one.
		return fmt.Errorf("giving the subjects to the stream, while somebody gave them back to the bucket: %v", err) //nolint:errorlint // See above.
	}
	return fmt.Errorf("giving the subjects to the stream: %w", err)
}

// clean says whether everything that the checkpoint covers is in the stream.
func clean(c *migrate.Checkpoint) error {
	if c.Complete() && c.Clean() {
		return nil
	}
	return fmt.Errorf("%w: %d values that are not entries %q, %d entries that differ %q (complete copy: %t)",
		ErrNotClean, c.Invalid, c.InvalidKeys, c.Mismatched, c.MismatchedKeys, c.Complete())
}

func (h *HandOver) observe(ctx context.Context) (*jetstream.StreamInfo, Observation, error) {
	live, err := h.Streams.Stream(ctx, migrate.StreamName(h.Bucket))
	if err != nil {
		return nil, Observation{}, err
	}
	return live, Observe(live, h.Bucket, h.Stream), nil
}

// ready says whether the bucket can be fenced, before anything is changed.
func (h *HandOver) ready(ctx context.Context, seen Observation) error {
	switch seen.State {
	case Own:
		return h.probe(ctx)
	case Fenced:
		return nil
	}
	return &RefusedError{Bucket: h.Bucket, Reason: seen.Reason}
}

// fence takes the bucket's subjects from it, and says when, and whether an earlier pass has done so. It reads the configuration
// right before it changes it: an update replaces all of it, and would undo what somebody else has changed meanwhile.
func (h *HandOver) fence(ctx context.Context) (at time.Time, already bool, err error) {
	live, seen, err := h.observe(ctx)
	switch {
	case err != nil:
		return at, false, err
	case seen.State == Fenced:
		return h.now(), true, nil
	case seen.State != Own:
		return at, false, &RefusedError{Bucket: h.Bucket, Reason: seen.Reason}
	}
	at = h.now()
	if err := h.capture(ctx, live.Config, migrate.HandOverSubject(h.Bucket), h.Stream); err != nil {
		return at, false, fmt.Errorf("taking the subjects from the bucket: %w", err)
	}
	return at, false, nil
}

// capture has the bucket's stream, which is configured as cfg, capture another subject, in favour of target where that is not
// empty.
func (h *HandOver) capture(ctx context.Context, cfg jetstream.StreamConfig, subject, target string) error {
	metadata := map[string]string{}
	maps.Copy(metadata, cfg.Metadata)
	metadata[jsbuilder.MetadataRedirectedTo] = target
	if target == "" {
		delete(metadata, jsbuilder.MetadataRedirectedTo)
	}
	cfg.Subjects, cfg.Metadata = []string{subject}, metadata
	_, err := h.Streams.UpdateStream(ctx, cfg)
	return err
}

func (h *HandOver) unfollow(ctx context.Context) (follow func(), err error) {
	if h.Unfollow == nil {
		return func() {}, nil
	}
	return h.Unfollow(ctx)
}

func (h *HandOver) now() time.Time {
	if h.Now == nil {
		return time.Now()
	}
	return h.Now()
}
