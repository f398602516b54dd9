package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/handover"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// handOverRetry is how soon a hand-over is tried again that has failed. Each try stops the bucket's writers for a moment.
const handOverRetry = time.Minute

// lateLooks are how long after a redirect the bucket is looked at again. It is not followed any more, and a server that took a put
// before it knew of the fence may store it after.
var lateLooks = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second}

// lookAgain is after how long the next of these looks is due; 0 is never.
func (s *scope) lookAgain(now time.Time) (after time.Duration) {
	if s.live == nil {
		return 0
	}
	for _, source := range s.obj.Spec.MigrateFrom {
		at, err := time.Parse(time.RFC3339Nano, s.live.Config.Metadata[jsbuilder.MetadataRedirectPrefix+source.Bucket])
		if err != nil {
			continue
		}
		since := max(0, now.Sub(at))
		if i := slices.IndexFunc(lateLooks, func(look time.Duration) bool { return look > since }); i >= 0 {
			after = sooner(after, lateLooks[i]-since)
		}
	}
	return after
}

// redirected says whether the stream has the bucket's subjects.
func (s *scope) redirected(bucket string) bool {
	_, found := s.live.Config.Metadata[jsbuilder.MetadataRedirectPrefix+bucket]
	return found
}

// withRedirects is the configuration that the stream is to have with the buckets that were redirected to it. One that the
// spec has returned is taken from it by ensureReturned, right before the bucket gets its subjects. Where the stream has lost them
// already it does not insist: somebody may have given the bucket its subjects back by hand, and the stream could not be
// updated any more.
func withRedirects(want jetstream.StreamConfig, spec *v1alpha1.AuditStreamSpec, live *jetstream.StreamInfo) jetstream.StreamConfig {
	redirected := slices.DeleteFunc(jsbuilder.Redirects(live.Config.Metadata), func(bucket string) bool {
		return !slices.Contains(live.Config.Subjects, jsbuilder.BucketSubjects(bucket)) &&
			slices.ContainsFunc(spec.MigrateFrom, func(m v1alpha1.MigrationSource) bool { return m.Bucket == bucket && returns(m) })
	})
	return jsbuilder.WithRedirects(jsbuilder.KeepTransform(want, live.Config), redirected)
}

// returns says whether the bucket is to have its own subjects.
func returns(source v1alpha1.MigrationSource) bool {
	redirecting := source.AfterMigration == v1alpha1.AfterMigrationRedirect || source.AfterMigration == v1alpha1.AfterMigrationDelete
	return !redirecting && !source.DryRun
}

// ensureReturned takes a bucket's subjects from the stream where spec.migrateFrom asks for Retain, and gives them back to the
// bucket. A bucket that is no longer named in spec.migrateFrom stays redirected: its writers may still be there, and what
// they put would go where nobody looks.
func (r *Reconciler) ensureReturned(ctx context.Context, s *scope, source v1alpha1.MigrationSource) error {
	if !returns(source) || !s.redirected(source.Bucket) {
		return nil
	}
	if err := r.closeRedirects(ctx, s, source.Bucket); err != nil {
		return err
	}
	return r.returnBucket(ctx, s, source.Bucket)
}

// closeRedirects takes the subjects of buckets from the stream.
func (r *Reconciler) closeRedirects(ctx context.Context, s *scope, buckets ...string) error {
	live, err := r.amend(ctx, s.target(), func(cfg *jetstream.StreamConfig) error {
		for _, bucket := range buckets {
			delete(cfg.Metadata, jsbuilder.MetadataRedirectPrefix+bucket)
		}
		setRedirects(cfg, s.obj.Spec.Subject)
		return nil
	})
	if err != nil {
		return fmt.Errorf("taking the subjects of bucket %s from stream %s: %w", strings.Join(buckets, ", "), s.want.Name, err)
	}
	s.live = live
	return nil
}

// setRedirects gives the stream the subjects that its metadata says.
func setRedirects(cfg *jetstream.StreamConfig, subject string) {
	cfg.Subjects = []string{subject + ".>"}
	*cfg = jsbuilder.WithRedirects(*cfg, jsbuilder.Redirects(cfg.Metadata))
}

// planHandOver adds to the copy of a bucket what spec.migrateFrom.afterMigration asks for, where that is still to be done,
// and returns what is to be said until it is done. A bucket that was left between the two gets its subjects back where the
// hand-over cannot go on at once.
func (r *Reconciler) planHandOver(ctx context.Context, s *scope, source v1alpha1.MigrationSource, job *copyJob,
	bucket *jetstream.StreamInfo, stored *migrate.Checkpoint,
) error {
	id := copyID{resource: client.ObjectKeyFromObject(s.obj), bucket: source.Bucket}
	seen := handover.Observe(bucket, source.Bucket, s.want.Name)
	kind, pending := s.handOverDue(source, seen, stored)
	if kind != "" {
		if failed := r.handOvers.failed(id, r.Now()); failed != nil {
			if kind = ""; pending == nil {
				pending = failed
			}
		}
	}
	fenced := seen.State == handover.Fenced
	if kind == "" {
		if fenced && !s.redirected(source.Bucket) && !r.copies.handingOver(id) {
			if err := r.returnBucket(ctx, s, source.Bucket); err != nil {
				return err // sooner than what is pending: nobody takes what is put
			}
		}
		return pending
	}
	job.UntilCaughtUp = true
	// A bucket that has lost its subjects already was verified before, and its writers are waiting.
	job.Verify = !fenced || kind == v1alpha1.AfterMigrationDelete
	job.kind, job.handOver = kind, r.handOver(ctx, s, source, job.Job, kind)
	if pending != nil { // it reads everything: not again for each late writer, should it find the same
		job.handOver = r.paced(id, job.handOver)
	}
	return &failure.Waiting{Reason: v1alpha1.ReasonHandingOver, After: handOverRetry, Err: fmt.Errorf(
		"bucket %s: its entries are in the stream; afterMigration: %s is being carried out", source.Bucket, kind)}
}

// handOverDue says what is still to be done with the bucket after its migration, or why that cannot be done. Both is what was
// found in the way and may be gone by now.
func (s *scope) handOverDue(source v1alpha1.MigrationSource, seen handover.Observation, stored *migrate.Checkpoint,
) (v1alpha1.AfterMigration, error) {
	after := source.AfterMigration
	redirect, remove := after == v1alpha1.AfterMigrationRedirect, after == v1alpha1.AfterMigrationDelete
	refuse := func(reason, format string, args ...any) (v1alpha1.AfterMigration, error) {
		return "", &failure.Terminal{Reason: reason, Err: fmt.Errorf("bucket "+source.Bucket+": "+format, args...)}
	}
	switch {
	case source.DryRun:
		return "", nil
	case seen.State == handover.FencedElsewhere && !s.redirected(source.Bucket):
		return refuse(v1alpha1.ReasonBucketConflict, "%s", seen.Reason)
	case !redirect && !remove, redirect && s.redirected(source.Bucket):
		return "", nil
	case remove && (s.obj.Spec.RetentionLock == v1alpha1.RetentionLockCompliance || jsbuilder.Locked(s.live.Config.Metadata)):
		return refuse(v1alpha1.ReasonHandOverRefused,
			"afterMigration: Delete is refused while retentionLock is Compliance; use Retain or Redirect")
	case seen.State == handover.FencedElsewhere:
		return refuse(v1alpha1.ReasonBucketConflict, "%s", seen.Reason)
	case seen.State == handover.Foreign:
		return refuse(v1alpha1.ReasonHandOverRefused, "afterMigration: %s cannot be carried out: %s; or use Retain", after, seen.Reason)
	case !stored.Complete() && seen.State == handover.Fenced:
		return "", nil // The stream was made again: the writers need a home while everything is copied again.
	case stored.Complete() && stored.Mismatched > 0:
		return "", nil // Migrated says so.
	case stored.Complete() && stored.Invalid > 0:
		return refuse(v1alpha1.ReasonInvalidEntries, "afterMigration: %s is not carried out while values are left that are not entries: "+
			"%d, among them %s; mend or remove them", after, stored.Invalid, strings.Join(stored.InvalidKeys, ", "))
	}
	if remove && stored.Expired > 0 && stored.MaxAge > 0 && (s.want.MaxAge == 0 || s.want.MaxAge > stored.MaxAge) {
		return refuse(v1alpha1.ReasonHandOverRefused, "it is not deleted, because %d of its entries had outlived the maxAge of %s that "+
			"was declared when they were looked at, so that nobody but the bucket holds them, and maxAge is longer now; use Retain or Redirect",
			stored.Expired, stored.MaxAge)
	}
	if !removed(stored) {
		return after, nil
	}
	missing := &failure.Waiting{Reason: v1alpha1.ReasonHandOverRefused, After: handOverRetry, Err: fmt.Errorf(
		"bucket %s: afterMigration: %s is not carried out, because %w", source.Bucket, after, errMissing(stored))}
	if stored.LastSequence > stored.Verified.LastSequence {
		return after, missing // somebody may have removed them from the bucket, too
	}
	return "", missing
}

// removed says whether the last verification found entries gone from the stream.
func removed(c *migrate.Checkpoint) bool { return c.Verified != nil && c.Verified.Removed > 0 }

// errMissing says what the last verification found gone from the stream, and what to do about it.
func errMissing(c *migrate.Checkpoint) error {
	return fmt.Errorf("%d of its entries are no longer in the stream; have them copied again (docs/migration.md), delete them from "+
		"the bucket, or use Retain", c.Verified.Removed)
}

// handOvers remembers the hand-overs that have failed. The zero value is ready for use, and it is safe for concurrent use.
type handOvers struct {
	mu   sync.Mutex
	last map[copyID]failedHandOver
}

type failedHandOver struct {
	when time.Time
	err  error
}

func (h *handOvers) note(id copyID, when time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		delete(h.last, id)
		return
	}
	if h.last == nil {
		h.last = map[copyID]failedHandOver{}
	}
	h.last[id] = failedHandOver{when: when, err: err}
}

// forget drops what is remembered of a resource.
func (h *handOvers) forget(resource types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.last, func(id copyID, _ failedHandOver) bool { return id.resource == resource })
}

// failed returns the error of a hand-over that is not to be tried again yet.
func (h *handOvers) failed(id copyID, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	last, found := h.last[id]
	left := handOverRetry - now.Sub(last.when)
	if !found || left <= 0 {
		return nil
	}
	return &failure.Waiting{Reason: v1alpha1.ReasonHandingOver, After: left, Err: fmt.Errorf(
		"bucket %s: %w; it is tried again", id.bucket, last.err)}
}

// handOver returns what is to be done with the bucket once it has been copied. What it finds in the way, the next reconcile
// finds too, in the checkpoint, and says so.
func (r *Reconciler) handOver(ctx context.Context, s *scope, source v1alpha1.MigrationSource, job migrate.Job, kind v1alpha1.AfterMigration,
) func(context.Context, migrate.Checkpoint) (migrate.Checkpoint, error) {
	id := copyID{resource: client.ObjectKeyFromObject(s.obj), bucket: source.Bucket}
	target, obj := s.target(), s.obj.DeepCopy()
	logger := log.FromContext(ctx).WithValues("bucket", source.Bucket, "stream", target.stream, "afterMigration", kind)
	return func(ctx context.Context, reached migrate.Checkpoint) (migrate.Checkpoint, error) {
		if !reached.Clean() || removed(&reached) {
			return reached, nil
		}
		run, reason := r.redirect, v1alpha1.ReasonBucketRedirected
		if kind == v1alpha1.AfterMigrationDelete {
			run, reason = r.deleteBucket, v1alpha1.ReasonBucketDeleted
		}
		text, err := run(ctx, target, job, &reached)
		if err != nil && ctx.Err() != nil {
			return reached, context.Cause(ctx)
		}
		r.handOvers.note(id, r.Now(), err)
		if err != nil || text == "" {
			return reached, err
		}
		logger.Info("Handed over the bucket", "result", text)
		r.event(obj, note{kind: corev1.EventTypeNormal, reason: reason, text: text, bucket: source.Bucket})
		return reached, nil
	}
}

// paced has a hand-over wait that finds entries gone from the stream.
func (r *Reconciler) paced(id copyID, handOver func(context.Context, migrate.Checkpoint) (migrate.Checkpoint, error),
) func(context.Context, migrate.Checkpoint) (migrate.Checkpoint, error) {
	return func(ctx context.Context, reached migrate.Checkpoint) (migrate.Checkpoint, error) {
		if removed(&reached) {
			r.handOvers.note(id, r.Now(), errMissing(&reached))
		}
		return handOver(ctx, reached)
	}
}

// redirect hands the bucket's subjects to the stream. It returns no text where it found that done.
func (r *Reconciler) redirect(ctx context.Context, target target, job migrate.Job, reached *migrate.Checkpoint) (string, error) {
	// The writers went on while the copy was verified: what they wrote is copied before they are stopped.
	job.Verify, job.Resume = false, *reached
	drain, err := job.OpenDrain(ctx)
	if err != nil {
		return "", err
	}
	defer drain.Close(ctx)
	if *reached = drain.Reached(); !reached.Clean() {
		return "", handover.ErrNotClean
	}
	h := r.handOverOf(target, job.Bucket)
	h.Subject, h.Drain = job.Subject, drain.Through
	h.Open = func(ctx context.Context, c migrate.Checkpoint) error {
		_, err := r.amend(ctx, target, func(cfg *jetstream.StreamConfig) error {
			cfg.Metadata[jsbuilder.MetadataRedirectPrefix+job.Bucket] = r.Now().UTC().Format(time.RFC3339Nano)
			setRedirects(cfg, job.Subject)
			return setCheckpoint(cfg, job.Bucket, &c)
		})
		return err
	}
	result, err := h.Redirect(ctx)
	if err != nil {
		return "", err
	}
	if !result.Opened {
		return "", nil
	}
	*reached = result.Checkpoint
	return fmt.Sprintf("what is put into bucket %s lands in stream %s now; nobody took it for %s, and %d puts of that time were passed on",
		job.Bucket, target.stream, result.Gap.Round(time.Microsecond), result.Relayed), nil
}

// deleteBucket deletes a bucket that was verified and has not been written to since.
func (r *Reconciler) deleteBucket(ctx context.Context, target target, job migrate.Job, verified *migrate.Checkpoint) (string, error) {
	if err := r.handOverOf(target, job.Bucket).Delete(ctx, *verified); err != nil {
		return "", err
	}
	return fmt.Sprintf("deleted bucket %s; stream %s holds all its %d entries",
		job.Bucket, target.stream, verified.Verified.StreamEntries), nil
}

// returnBucket gives a bucket its subjects back that neither it nor the stream has.
func (r *Reconciler) returnBucket(ctx context.Context, s *scope, bucket string) error {
	returned, err := r.handOverOf(target{nats: s.nats, stream: s.want.Name}, bucket).Return(ctx)
	if err != nil || !returned {
		return err
	}
	log.FromContext(ctx).Info("Returned the subjects of a bucket", "bucket", bucket, "stream", s.want.Name)
	r.event(s.obj, note{kind: corev1.EventTypeNormal, reason: v1alpha1.ReasonBucketReturned, bucket: bucket,
		text: fmt.Sprintf("what is put into bucket %s is stored in the bucket again", bucket)})
	return nil
}

// returnLeftBehind gives buckets their subjects back that an operator has fenced and died, and that were taken out of
// spec.migrateFrom before it came back.
func (r *Reconciler) returnLeftBehind(ctx context.Context, s *scope, declared map[string]bool) error {
	for bucket := range jsbuilder.Migrations(s.live.Config.Metadata) {
		id := copyID{resource: client.ObjectKeyFromObject(s.obj), bucket: bucket}
		if declared[bucket] || s.redirected(bucket) || r.copies.handingOver(id) {
			continue
		}
		if err := ignorePermissionDenied(r.returnBucket(ctx, s, bucket)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) handOverOf(target target, bucket string) *handover.HandOver {
	return &handover.HandOver{
		Streams: target.nats, JetStream: target.nats.JetStream(), Bucket: bucket, Stream: target.stream, Now: r.Now,
		Unfollow: func(ctx context.Context) (func(), error) { return target.nats.PauseBucket(ctx, bucket) },
	}
}
