package controller

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// note is an event that is to be told.
type note struct {
	kind   string
	reason string
	// action says what the operator was doing; empty is that it reconciled.
	action string
	text   string
	// bucket is the bucket that the event is about, if it is about one.
	bucket string
}

// bucketNotes are the events of the first copies: the start, each further tenth that was passed, and the end. They follow
// from two statuses alone, so that each is told with the patch that shows it, and none again after a restart.
func bucketNotes(before, now []v1alpha1.BucketMigration) []note {
	var notes []note
	for i := range now {
		is := &now[i]
		was := &v1alpha1.BucketMigration{}
		if j := slices.IndexFunc(before, func(b v1alpha1.BucketMigration) bool { return b.Bucket == is.Bucket }); j >= 0 {
			was = &before[j]
		}
		if n, ok := bucketNote(was, is); ok {
			notes = append(notes, n)
		}
	}
	return notes
}

func bucketNote(was, is *v1alpha1.BucketMigration) (note, bool) {
	n := note{kind: corev1.EventTypeNormal, reason: v1alpha1.ReasonMigrating, bucket: is.Bucket}
	done := is.Total - is.Remaining
	switch {
	case is.StartTime == nil:
		return n, false
	case is.CompletionTime != nil && !sameTime(was.CompletionTime, is.CompletionTime):
		n.reason, n.action = v1alpha1.ReasonMigrationComplete, "CopiedBucket"
		if is.Mismatched > 0 {
			n.kind, n.reason = corev1.EventTypeWarning, v1alpha1.ReasonEntryMismatch
		}
		n.text = fmt.Sprintf("bucket %s: of %s entries %s were copied, %s were already present, %s had expired, "+
			"%s are not entries, %s differ from the stream's", is.Bucket, thousands(is.Total), thousands(is.Migrated),
			thousands(is.AlreadyPresent), thousands(is.Expired), thousands(is.Invalid), thousands(is.Mismatched))
	case is.Phase != v1alpha1.MigrationCopying:
		return n, false
	case !sameTime(was.StartTime, is.StartTime):
		n.action = "StartCopy"
		n.text = fmt.Sprintf("bucket %s: the copy has begun; the bucket holds %s values", is.Bucket, thousands(is.Remaining+done))
	case tenth(is) > tenth(was):
		n.action = fmt.Sprintf("Copied%dPercent", 10*tenth(is))
		n.text = fmt.Sprintf("bucket %s: %s of %s entries copied", is.Bucket, thousands(done), thousands(is.Total))
	default:
		return n, false
	}
	return n, true
}

// tenth is how many tenths of the entries have been dealt with, at most nine before the end.
func tenth(b *v1alpha1.BucketMigration) int64 { return percent(b.Total-b.Remaining, b.Total) / 10 }

func sameTime(a, b *metav1.Time) bool { return a.Equal(b) }

// tells says whether the events of the buckets say already what a reason of Ready says.
func tells(notes []note, reason string) bool {
	if reason == v1alpha1.ReasonReady {
		reason = v1alpha1.ReasonMigrationComplete
	}
	return slices.ContainsFunc(notes, func(n note) bool { return n.reason == reason && n.reason != v1alpha1.ReasonEntryMismatch })
}
