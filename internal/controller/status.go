package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
)

// verdict is the status, reason and message of a condition.
type verdict struct {
	status  metav1.ConditionStatus
	reason  string
	message string
}

// maxMessage is how long the message of a condition may be, in bytes. The CRD allows 32768.
const maxMessage = 4096

// shorten cuts a text that is too long, and says so.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	const dots = "..."
	return strings.ToValidUTF8(text[:limit-len(dots)], "") + dots
}

// deriveStatus turns the facts of a reconcile and its error into the resource's status. It is pure: what the facts do
// not speak of stays as it was.
func deriveStatus(s *scope, err error, now time.Time) v1alpha1.AuditStreamStatus {
	status := *s.obj.Status.DeepCopy()
	status.ObservedGeneration = s.obj.Generation
	status.StreamName, status.Subject = s.obj.Spec.Stream, s.obj.Spec.Subject
	if s.live != nil && (s.streamReady || s.lost != nil) {
		status.Stream = streamState(s.live) // also of a stream that cannot be put right: it was lost once, not at every look
	}
	status.LastLoss = s.lastLoss()
	status.Migration = migrationState(s)

	set := func(kind string, v verdict) {
		// The texts of network errors differ from one try to the next; an outage is one fact, and one write.
		if was := meta.FindStatusCondition(s.obj.Status.Conditions, kind); was != nil && was.Reason == v.reason &&
			v.reason == v1alpha1.ReasonNATSUnavailable && was.ObservedGeneration == s.obj.Generation {
			v.message = was.Message
		}
		meta.SetStatusCondition(&status.Conditions, metav1.Condition{
			Type: kind, Status: v.status, Reason: v.reason, Message: shorten(v.message, maxMessage),
			ObservedGeneration: s.obj.Generation, LastTransitionTime: metav1.NewTime(now),
		})
	}
	ready := readyVerdict(s, err)
	if !s.suspended { // else the facts below stay as they were
		set(v1alpha1.ConditionStreamReady, streamVerdict(s, err))
		if migrated, declared := migratedVerdict(s); declared {
			set(v1alpha1.ConditionMigrated, migrated)
		} else {
			meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionMigrated)
		}
	}
	set(v1alpha1.ConditionReady, ready)
	status.MigrationProgress = migrationProgress(s, &status)

	meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionStalled)
	meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionReconciling)
	if progress := progressCondition(ready, err); progress != "" {
		keepTransition(s.obj.Status.Conditions, &status.Conditions, progress)
		set(progress, verdict{metav1.ConditionTrue, ready.reason, ready.message})
	}
	return status
}

// progressCondition is the condition that goes with Ready: none, Reconciling, or Stalled.
func progressCondition(ready verdict, err error) string {
	switch {
	case ready.status == metav1.ConditionTrue, ready.reason == v1alpha1.ReasonSuspended, ready.reason == v1alpha1.ReasonDryRun:
		return ""
	case isTerminal(err), ready.reason == v1alpha1.ReasonEntryMismatch:
		return v1alpha1.ConditionStalled
	default:
		return v1alpha1.ConditionReconciling
	}
}

func isTerminal(err error) bool {
	var terminal *failure.Terminal
	return errors.As(err, &terminal)
}

// keepTransition puts back a condition that was removed only to be set again, so that its transition time stays.
func keepTransition(old []metav1.Condition, conditions *[]metav1.Condition, kind string) {
	if previous := meta.FindStatusCondition(old, kind); previous != nil {
		*conditions = append(*conditions, *previous)
	}
}

// errorVerdict is what an error says in a condition.
func errorVerdict(err error) verdict {
	v := verdict{metav1.ConditionFalse, v1alpha1.ReasonReconcileError, err.Error()}
	var terminal *failure.Terminal
	var waiting *failure.Waiting
	switch {
	case errors.As(err, &terminal):
		v.reason = terminal.Reason
	case errors.As(err, &waiting):
		v.reason = waiting.Reason
	}
	return v
}

func streamVerdict(s *scope, err error) verdict {
	if !s.streamReady {
		v := errorVerdict(err)
		if v.reason == v1alpha1.ReasonNATSUnavailable || v.reason == v1alpha1.ReasonAuthenticationFailed {
			v.status = metav1.ConditionUnknown
		}
		return v
	}
	// The loss stays on show until the resource is changed, whatever faults come in between.
	if lost := s.lastLoss(); lost != nil && lost.ObservedGeneration == s.obj.Generation {
		return verdict{metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated, lossMessage(s.obj.Spec.Stream, lost)}
	}
	return verdict{metav1.ConditionTrue, v1alpha1.ReasonStreamInSync, fmt.Sprintf("stream %s is as declared", s.obj.Spec.Stream)}
}

// lastLoss is the loss that this reconcile has found, or the last one that is known.
func (s *scope) lastLoss() *v1alpha1.StreamLoss {
	if s.lost != nil {
		return s.lost
	}
	return s.obj.Status.LastLoss
}

func lossMessage(stream string, l *v1alpha1.StreamLoss) string {
	when := "some time ago"
	if l.Time != nil {
		when = "at " + l.Time.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("stream %s was deleted out of band and made again %s: what it held is lost, which was %d entries (sequences %d to %d) "+
		"when last looked at; find out who deleted it, and restore them from a backup", stream, when, l.Entries, l.FirstSequence, l.LastSequence)
}

func readyVerdict(s *scope, err error) verdict {
	if s.suspended {
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonSuspended, "the stream is not looked after while spec.suspend is true; set it to false to resume"}
	}
	if err != nil {
		v := errorVerdict(err)
		if !s.obj.DeletionTimestamp.IsZero() {
			v.message = "waiting to delete the stream: " + v.message
			v.reason = v1alpha1.ReasonDeleting
		}
		return v
	}
	if migrated, declared := migratedVerdict(s); declared && migrated.status != metav1.ConditionTrue {
		return migrated
	}
	if stream := streamVerdict(s, nil); stream.reason == v1alpha1.ReasonStreamRecreated {
		return stream
	}
	return verdict{metav1.ConditionTrue, v1alpha1.ReasonReady, fmt.Sprintf("stream %s is as declared", s.obj.Spec.Stream)}
}

// migratedVerdict says how the migrations stand, and whether any is declared.
func migratedVerdict(s *scope) (verdict, bool) {
	switch {
	case len(s.obj.Spec.MigrateFrom) == 0:
		return verdict{}, false
	case len(s.buckets) == 0:
		return s.unseenVerdict(), true
	}
	verdicts := make([]verdict, len(s.buckets))
	for i := range s.buckets {
		verdicts[i] = s.buckets[i].verdict()
	}
	// The worst bucket gives status and reason; every bucket that is as bad is named.
	worst := slices.MinFunc(verdicts, func(a, b verdict) int { return severity(a) - severity(b) })
	var messages []string
	for _, v := range verdicts {
		if severity(v) == severity(worst) || v.reason == v1alpha1.ReasonInvalidEntries {
			messages = append(messages, v.message)
		}
	}
	worst.message = strings.Join(messages, "; ")
	return worst, true
}

// unseenVerdict is what is known of buckets that were not looked at this time, because something failed before. That others have
// been copied says nothing of one that the spec has added.
func (s *scope) unseenVerdict() verdict {
	previous := meta.FindStatusCondition(s.obj.Status.Conditions, v1alpha1.ConditionMigrated)
	if previous == nil {
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonMigrating, "the migration has not begun"}
	}
	if previous.Status == metav1.ConditionTrue && previous.ObservedGeneration != s.obj.Generation {
		if i := slices.IndexFunc(s.obj.Spec.MigrateFrom, s.notKnownAsCopied); i >= 0 {
			return verdict{metav1.ConditionFalse, v1alpha1.ReasonMigrating, fmt.Sprintf(
				"bucket %s: not looked at since it was declared", s.obj.Spec.MigrateFrom[i].Bucket)}
		}
	}
	return verdict{previous.Status, previous.Reason, previous.Message}
}

func (s *scope) notKnownAsCopied(source v1alpha1.MigrationSource) bool {
	return source.DryRun || !slices.ContainsFunc(s.obj.Status.Migration, func(b v1alpha1.BucketMigration) bool {
		return b.Bucket == source.Bucket && b.CompletionTime != nil
	})
}

// severity orders what a bucket has to say, the most urgent first.
func severity(v verdict) int {
	order := []string{v1alpha1.ReasonEntryMismatch, v1alpha1.ReasonBucketConflict, "", v1alpha1.ReasonBucketNotFound, v1alpha1.ReasonMigrating,
		v1alpha1.ReasonDryRun, v1alpha1.ReasonInvalidEntries, v1alpha1.ReasonMigrationComplete}
	if i := slices.Index(order, v.reason); i >= 0 {
		return i
	}
	return slices.Index(order, "")
}

func (b *bucketFact) verdict() verdict {
	c := &b.checkpoint
	switch {
	case b.err != nil && !c.Complete():
		return errorVerdict(b.err)
	case b.phase == v1alpha1.MigrationDryRun && !c.Complete():
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonDryRun, fmt.Sprintf("bucket %s: the dry run is under way", b.bucket)}
	case b.phase == v1alpha1.MigrationDryRun:
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonDryRun, fmt.Sprintf(
			"bucket %s: of %d entries %d would be copied, %d are already present, %d have expired, %d are invalid; nothing was copied",
			b.bucket, c.Total, c.Migrated, c.AlreadyPresent, c.Expired, c.Invalid) + b.roomNote()}
	case b.phase == v1alpha1.MigrationMismatched:
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonEntryMismatch, fmt.Sprintf(
			"bucket %s: the stream holds other bytes than the bucket under %d ids (%s); nothing was overwritten", b.bucket, c.Mismatched, strings.Join(c.MismatchedKeys, ", "))}
	case !c.Complete():
		return verdict{metav1.ConditionFalse, v1alpha1.ReasonMigrating, b.progressMessage()}
	case c.Invalid > 0:
		return verdict{metav1.ConditionTrue, v1alpha1.ReasonInvalidEntries, fmt.Sprintf(
			"%s; %d values are not entries and stay in the bucket (%s)", b.outcome(), c.Invalid, strings.Join(c.InvalidKeys, ", "))}
	default:
		return verdict{metav1.ConditionTrue, v1alpha1.ReasonMigrationComplete, b.outcome() + b.retentionNote()}
	}
}

// outcome says where the entries of a bucket are that was copied: what was removed from the stream after that does not make the
// copy incomplete.
func (b *bucketFact) outcome() string {
	if v := b.checkpoint.Verified; v != nil && v.Removed > 0 {
		return fmt.Sprintf("bucket %s: every entry was copied, and %d of the %d that the bucket holds are no longer in the stream",
			b.bucket, v.Removed, v.BucketEntries)
	}
	return fmt.Sprintf("bucket %s: every entry is in the stream", b.bucket)
}

// roomNote says that a dry run has found the stream too small.
func (b *bucketFact) roomNote() string {
	if b.checkpoint.Needed == 0 {
		return ""
	}
	return "; the stream would drop its oldest entries for them" + roomFor(b.checkpoint.Needed)
}

// retentionNote says that a maxAge which was declared after the move does not prolong the life of what was moved: each
// entry carries its own.
func (b *bucketFact) retentionNote() string {
	moved := b.checkpoint.MaxAge
	if moved == 0 || b.maxAge != 0 && b.maxAge <= moved || b.checkpoint.Migrated == 0 {
		return ""
	}
	return fmt.Sprintf("; entries that were moved before maxAge was raised expire by the %s that they were moved with", moved)
}

// streamState is what the stream holds, in the precision that the API keeps.
func streamState(live *jetstream.StreamInfo) *v1alpha1.StreamState {
	state := live.State
	created := metav1.NewMicroTime(live.Created.Truncate(time.Microsecond))
	result := &v1alpha1.StreamState{
		CreationTime:  &created,
		Entries:       int64(state.Msgs),
		Bytes:         int64(state.Bytes),
		FirstSequence: int64(state.FirstSeq),
		LastSequence:  int64(state.LastSeq),
	}
	if state.Msgs > 0 {
		result.FirstTime, result.LastTime = seconds(state.FirstTime), seconds(state.LastTime)
	}
	return result
}

// migrationState is how far each declared bucket is; one that was not looked at this time stays as it was.
func migrationState(s *scope) []v1alpha1.BucketMigration {
	var result []v1alpha1.BucketMigration
	for i, source := range s.obj.Spec.MigrateFrom {
		switch {
		case i < len(s.buckets):
			result = append(result, s.buckets[i].state())
		default:
			previous := slices.IndexFunc(s.obj.Status.Migration, func(b v1alpha1.BucketMigration) bool { return b.Bucket == source.Bucket })
			if previous >= 0 {
				known := s.obj.Status.Migration[previous]
				known.EntriesPerSecond, known.EstimatedCompletionTime = 0, nil
				result = append(result, known)
			}
		}
	}
	return result
}

func (b *bucketFact) state() v1alpha1.BucketMigration {
	c := &b.checkpoint
	result := v1alpha1.BucketMigration{
		Bucket: b.bucket, Phase: b.phase,
		Total: c.Total, Remaining: remaining(c), Migrated: c.Migrated, AlreadyPresent: c.AlreadyPresent, Expired: c.Expired,
		Invalid: c.Invalid, InvalidKeys: c.InvalidKeys, Mismatched: c.Mismatched, MismatchedKeys: c.MismatchedKeys,
		LastSequence: int64(c.LastSequence),
	}
	if !c.Digest.IsZero() {
		result.Digest = c.Digest.String()
	}
	// A dry run is made again when the operator starts; its times would change the status each time.
	if b.phase != v1alpha1.MigrationDryRun {
		result.StartTime, result.CompletionTime = seconds(c.StartTime), seconds(c.CompletionTime)
	}
	if b.phase == v1alpha1.MigrationCopying {
		result.EntriesPerSecond, result.EstimatedCompletionTime = b.pace.perSecond, seconds(b.pace.end)
	}
	if v := c.Verified; v != nil {
		result.Verification = &v1alpha1.Verification{
			Time: seconds(v.Time), LastSequence: int64(v.LastSequence),
			BucketEntries: v.BucketEntries, BucketDigest: v.BucketDigest.String(),
			StreamEntries: v.StreamEntries, StreamDigest: v.StreamDigest.String(), Removed: v.Removed,
		}
	}
	return result
}

func seconds(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &metav1.Time{Time: t.Truncate(time.Second)}
}
