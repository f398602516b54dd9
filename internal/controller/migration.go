package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/handover"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/jsclient"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// ensureMigration has every bucket of spec.migrateFrom copied and followed. It never waits for a copy: those run beside
// the reconciles and wake them.
func (r *Reconciler) ensureMigration(ctx context.Context, s *scope) error {
	key := client.ObjectKeyFromObject(s.obj)
	declared := map[string]bool{}
	for _, source := range s.obj.Spec.MigrateFrom {
		declared[source.Bucket] = true
	}
	r.copies.keep(key, declared)
	if err := r.returnLeftBehind(ctx, s, declared); err != nil {
		return err
	}
	if err := r.returnStrays(ctx, s); err != nil {
		return err
	}

	var first error
	for _, source := range s.obj.Spec.MigrateFrom {
		fact := r.ensureBucket(ctx, s, source)
		s.buckets = append(s.buckets, fact)
		if first == nil || isTerminal(fact.err) && !isTerminal(first) {
			first = fact.err
		}
	}
	if first != nil || !slices.ContainsFunc(s.buckets, s.isAhead) {
		return first
	}
	return s.recount(ctx)
}

// isAhead says whether the bucket has been copied further than the status says.
func (s *scope) isAhead(b bucketFact) bool {
	return b.checkpoint.Complete() && !slices.ContainsFunc(s.obj.Status.Migration, func(m v1alpha1.BucketMigration) bool {
		return m.Bucket == b.bucket && m.Phase == b.phase && m.LastSequence == int64(b.checkpoint.LastSequence)
	})
}

// recount looks at the stream once more, since a copy may have ended after the first look: who has waited for Ready is to find in
// the status all that was copied.
func (s *scope) recount(ctx context.Context) error {
	live, err := s.nats.Stream(ctx, s.want.Name)
	if err != nil {
		return err
	}
	if live.Created.Equal(s.live.Created) { // else the next reconcile has to find out whose it is
		counted := *s.live
		counted.State = live.State
		s.live = &counted
	}
	return nil
}

// ensureBucket has a bucket that is to have its own subjects take what is put, has one copied and handed over, and says how it
// stands. Whatever is in the way of the latter must not leave the bucket's writers without anybody who takes what they put.
func (r *Reconciler) ensureBucket(ctx context.Context, s *scope, source v1alpha1.MigrationSource) bucketFact {
	if err := r.ensureReturned(ctx, s, source); err != nil {
		return bucketFact{bucket: source.Bucket, phase: v1alpha1.MigrationWaiting, maxAge: s.want.MaxAge, err: err}
	}
	fact, underWay := r.moveBucket(ctx, s, source)
	id := copyID{resource: client.ObjectKeyFromObject(s.obj), bucket: source.Bucket}
	if fact.err != nil && !underWay && !s.redirected(source.Bucket) && !r.copies.handingOver(id) {
		if err := r.returnBucket(ctx, s, source.Bucket); err != nil {
			fact.err = err
		}
	}
	return fact
}

// moveBucket starts the copy of one bucket where there is something to copy, has it handed over where that is declared, says how
// it stands, and whether a hand-over is under way.
func (r *Reconciler) moveBucket(ctx context.Context, s *scope, source v1alpha1.MigrationSource) (fact bucketFact, underWay bool) {
	fact = bucketFact{bucket: source.Bucket, phase: v1alpha1.MigrationWaiting, maxAge: s.want.MaxAge}
	id := copyID{resource: client.ObjectKeyFromObject(s.obj), bucket: source.Bucket}
	if fact.err = r.ensureSoleMover(ctx, s, source); fact.err != nil {
		return fact, false
	}
	stored, err := r.checkpoint(ctx, s, source)
	if err != nil {
		fact.err = err
		return fact, false
	}
	if !source.DryRun {
		fact.checkpoint = stored // should NATS fail now, what is known stays on show
	}
	bucket, err := r.ensureFollowed(ctx, s, id)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return s.missingBucket(fact, source, stored), false
	case err != nil:
		fact.err = err
		return fact, false
	}
	if fact.err = clockSkew(time.Duration(r.skew.Load()), s.want.MaxAge); fact.err != nil {
		return fact, false
	}
	job := r.job(s, source)
	job.origin = trace.SpanFromContext(ctx)
	pending := r.planHandOver(ctx, s, source, &job, bucket, &stored)
	fact.checkpoint, fact.err = r.copies.ensure(id, job, stored, bucket)
	fact.phase, fact.pace = s.phase(source, &fact.checkpoint), r.copies.pace(id)
	underWay = job.handOver != nil && fact.err == nil
	if fact.err == nil && fact.checkpoint.Complete() {
		fact.err = pending
	}
	return fact, underWay
}

// checkpoint is the one that lives with the data. It outranks what this process remembers.
func (r *Reconciler) checkpoint(ctx context.Context, s *scope, source v1alpha1.MigrationSource) (migrate.Checkpoint, error) {
	id := copyID{resource: client.ObjectKeyFromObject(s.obj), bucket: source.Bucket}
	stored, err := s.checkpoint(source.Bucket)
	if err != nil || source.DryRun || !r.copies.wentBack(id, stored) {
		return stored, err
	}
	// Once more: the copy may have stored one since the stream was looked at.
	live, err := s.nats.Stream(ctx, s.want.Name)
	if err != nil {
		return stored, err
	}
	s.live = live
	if stored, err = s.checkpoint(source.Bucket); err == nil && r.copies.wentBack(id, stored) {
		r.copies.drop(id)
	}
	return stored, err
}

func (s *scope) checkpoint(bucket string) (migrate.Checkpoint, error) {
	stored, err := migrate.DecodeCheckpoint(s.live.Config.Metadata[jsbuilder.MetadataMigrationPrefix+bucket])
	if err != nil {
		return stored, &failure.Terminal{Reason: v1alpha1.ReasonInvalidConfiguration, Err: fmt.Errorf(
			"the metadata key %s%s of stream %s was changed by somebody: %w", jsbuilder.MetadataMigrationPrefix, bucket, s.live.Config.Name, err)}
	}
	if !stored.Under(s.obj.Spec.Subject) {
		return migrate.Checkpoint{}, nil // of an AuditStream that the stream was adopted from
	}
	return stored, nil
}

// ensureFollowed looks at the bucket and has writes to it wake the resource. One that takes none is not followed: what is
// put into a redirected bucket goes into the stream, and the writers to one that was left fenced have to be told that nobody
// takes what they put (see handover.HandOver.Unfollow).
func (r *Reconciler) ensureFollowed(ctx context.Context, s *scope, id copyID) (*jetstream.StreamInfo, error) {
	bucket, err := r.timed(func() (*jetstream.StreamInfo, error) { return s.nats.Stream(ctx, migrate.StreamName(id.bucket)) })
	switch {
	case err != nil && !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, err
	case s.redirected(id.bucket), err == nil && handover.Observe(bucket, id.bucket, s.want.Name).TakesNothing():
		r.copies.unfollow(id)
		return bucket, err
	}
	if fresh, followErr := r.copies.follow(id, s.nats); followErr != nil {
		return nil, followErr
	} else if !fresh {
		return bucket, err
	}
	// Once more, so that nothing falls between the look and the following.
	return s.nats.Stream(ctx, migrate.StreamName(id.bucket))
}

// missingBucket: a bucket that has been copied may go; one that has not is waited for.
func (s *scope) missingBucket(fact bucketFact, source v1alpha1.MigrationSource, stored migrate.Checkpoint) bucketFact {
	fact.checkpoint = stored
	if stored.Complete() {
		if fact.phase = s.phase(source, &stored); source.AfterMigration == v1alpha1.AfterMigrationDelete {
			fact.phase = v1alpha1.MigrationDeleted
		}
		return fact
	}
	fact.err = &failure.Waiting{Reason: v1alpha1.ReasonBucketNotFound, After: slowRetry, Err: fmt.Errorf(
		"bucket %s does not exist; create it, or take it out of spec.migrateFrom", fact.bucket)}
	return fact
}

func (s *scope) phase(source v1alpha1.MigrationSource, c *migrate.Checkpoint) v1alpha1.MigrationPhase {
	switch {
	case source.DryRun:
		return v1alpha1.MigrationDryRun
	case !c.Complete():
		return v1alpha1.MigrationCopying
	case c.Mismatched > 0:
		return v1alpha1.MigrationMismatched
	case s.redirected(source.Bucket):
		return v1alpha1.MigrationRedirected
	default:
		return v1alpha1.MigrationComplete
	}
}

// job is the copy that the resource declares for a bucket.
func (r *Reconciler) job(s *scope, source v1alpha1.MigrationSource) copyJob {
	target := s.target()
	job := migrate.Job{
		JetStream: s.nats.JetStream(),
		Bucket:    source.Bucket,
		Stream:    s.want.Name,
		Subject:   s.obj.Spec.Subject,
		MaxAge:    s.want.MaxAge,
		DryRun:    source.DryRun,
		Now:       r.serverNow,
		Save: func(ctx context.Context, c migrate.Checkpoint) error {
			_, err := r.amend(ctx, target, func(cfg *jetstream.StreamConfig) error { return setCheckpoint(cfg, source.Bucket, &c) })
			return err
		},
	}
	return copyJob{Job: job, created: s.live.Created, dropsAt: dropsAt(&s.want), explain: s.nats.Explain}
}

// dropsAt is how many bytes a stream may hold before it drops its oldest messages, 0 where it never does.
func dropsAt(cfg *jetstream.StreamConfig) int64 {
	if cfg.Discard != jetstream.DiscardOld {
		return 0
	}
	return max(0, cfg.MaxBytes)
}

// target is the very stream that a copy goes into.
type target struct {
	nats    *jsclient.Client
	stream  string
	owner   string
	created time.Time
}

func (s *scope) target() target {
	return target{nats: s.nats, stream: s.want.Name, owner: s.want.Metadata[jsbuilder.MetadataOwner], created: s.live.Created}
}

// errOvertaken says that another operator has come further with a copy.
var errOvertaken = errors.New("another operator has come further with the copy")

// setCheckpoint puts a checkpoint into the metadata of the stream, where it shares the fate of the data.
func setCheckpoint(cfg *jetstream.StreamConfig, bucket string, c *migrate.Checkpoint) error {
	key := jsbuilder.MetadataMigrationPrefix + bucket
	// What cannot be read is somebody's mistake, and says nothing, as does one of entries under another base subject.
	if stored, err := migrate.DecodeCheckpoint(cfg.Metadata[key]); err == nil && stored.Under(c.Subject) && !c.Supersedes(&stored) {
		return errOvertaken
	}
	text, err := c.Encode()
	if err != nil {
		return err
	}
	cfg.Metadata[key] = text
	return nil
}

// amend changes something in the configuration of the stream and leaves everything else as it is.
func (r *Reconciler) amend(ctx context.Context, target target, change func(*jetstream.StreamConfig) error) (*jetstream.StreamInfo, error) {
	defer r.locks.lock(target.stream)()
	live, err := target.nats.Stream(ctx, target.stream)
	if err != nil {
		return nil, err
	}
	if owner := live.Config.Metadata[jsbuilder.MetadataOwner]; owner != target.owner {
		return nil, fmt.Errorf("stream %s is owned by %.300q now", target.stream, owner)
	}
	if !live.Created.Equal(target.created) {
		return nil, fmt.Errorf("stream %s was deleted and made again in the middle of the copy", target.stream)
	}
	cfg := jsbuilder.Merge(live.Config, live.Config)
	if err := change(&cfg); err != nil {
		return nil, err
	}
	return target.nats.UpdateStream(ctx, cfg)
}
