package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
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

	var first error
	for _, source := range s.obj.Spec.MigrateFrom {
		fact := r.ensureBucket(ctx, s, source)
		s.buckets = append(s.buckets, fact)
		if first == nil {
			first = fact.err
		}
	}
	return first
}

// ensureBucket starts the copy of one bucket where there is something to copy, and says how it stands.
func (r *Reconciler) ensureBucket(ctx context.Context, s *scope, source v1alpha1.MigrationSource) bucketFact {
	fact := bucketFact{bucket: source.Bucket, phase: v1alpha1.MigrationWaiting}
	id := copyID{resource: client.ObjectKeyFromObject(s.obj), bucket: source.Bucket}
	stored, err := migrate.DecodeCheckpoint(s.live.Config.Metadata[jsbuilder.MetadataMigrationPrefix+source.Bucket])
	if err != nil {
		fact.err = &failure.Terminal{Reason: v1alpha1.ReasonInvalidConfiguration, Err: fmt.Errorf(
			"the metadata key %s%s of stream %s was changed by somebody: %w", jsbuilder.MetadataMigrationPrefix, source.Bucket, s.live.Config.Name, err)}
		return fact
	}
	// Followed before it is looked at, so that nothing falls between the two.
	if err := r.copies.follow(id, s.nats); err != nil {
		fact.err = err
		return fact
	}
	bucket, err := s.nats.Stream(ctx, migrate.StreamName(source.Bucket))
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return missingBucket(fact, stored)
	case err != nil:
		fact.err = err
		return fact
	}
	fact.checkpoint, fact.err = r.copies.ensure(id, r.job(s, source), stored, bucket)
	fact.phase = phase(&fact.checkpoint, source.DryRun)
	return fact
}

// missingBucket: a bucket that has been copied may go; one that has not is waited for.
func missingBucket(fact bucketFact, stored migrate.Checkpoint) bucketFact {
	fact.checkpoint = stored
	if stored.Complete() {
		fact.phase = phase(&stored, false)
		return fact
	}
	fact.err = &failure.Waiting{Reason: v1alpha1.ReasonBucketNotFound, After: slowRetry, Err: fmt.Errorf(
		"bucket %s does not exist; create it, or take it out of spec.migrateFrom", fact.bucket)}
	return fact
}

func phase(c *migrate.Checkpoint, dryRun bool) v1alpha1.MigrationPhase {
	switch {
	case dryRun:
		return v1alpha1.MigrationDryRun
	case !c.Complete():
		return v1alpha1.MigrationCopying
	case c.Mismatched > 0:
		return v1alpha1.MigrationMismatched
	default:
		return v1alpha1.MigrationComplete
	}
}

// job is the copy that the resource declares for a bucket.
func (r *Reconciler) job(s *scope, source v1alpha1.MigrationSource) copyJob {
	target := checkpointTarget{nats: s.nats, stream: s.want.Name, owner: s.want.Metadata[jsbuilder.MetadataOwner], created: s.live.Created}
	job := migrate.Job{
		JetStream: s.nats.JetStream(),
		Bucket:    source.Bucket,
		Stream:    s.want.Name,
		Subject:   s.obj.Spec.Subject,
		MaxAge:    s.want.MaxAge,
		DryRun:    source.DryRun,
		Now:       r.Now,
		Save: func(ctx context.Context, c migrate.Checkpoint) error {
			return r.saveCheckpoint(ctx, target, source.Bucket, &c)
		},
	}
	return copyJob{Job: job, created: s.live.Created, explain: s.nats.Explain}
}

// checkpointTarget is the very stream that a checkpoint speaks of.
type checkpointTarget struct {
	nats    *jsclient.Client
	stream  string
	owner   string
	created time.Time
}

// saveCheckpoint stores a checkpoint in the metadata of the stream, where it shares the fate of the data, and leaves
// everything else in the configuration as it is.
func (r *Reconciler) saveCheckpoint(ctx context.Context, target checkpointTarget, bucket string, c *migrate.Checkpoint) error {
	text, err := c.Encode()
	if err != nil {
		return err
	}
	defer r.locks.lock(target.stream)()
	live, err := target.nats.Stream(ctx, target.stream)
	if err != nil {
		return err
	}
	if owner := live.Config.Metadata[jsbuilder.MetadataOwner]; owner != target.owner {
		return fmt.Errorf("stream %s is owned by %.300q now", target.stream, owner)
	}
	if !live.Created.Equal(target.created) {
		return fmt.Errorf("stream %s was deleted and made again in the middle of the copy", target.stream)
	}
	cfg := jsbuilder.Merge(live.Config, live.Config)
	cfg.Metadata[jsbuilder.MetadataMigrationPrefix+bucket] = text
	_, err = target.nats.UpdateStream(ctx, cfg)
	return err
}
