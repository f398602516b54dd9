package controller

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

const (
	// patchInterval is how long a status patch is followed by none that shows mere progress, and eventInterval how much
	// longer for each event that went with it. All writes together stay under one a second that way.
	patchInterval = 2 * time.Second
	eventInterval = time.Second

	// maxEstimate is how far ahead an estimate makes sense.
	maxEstimate = 365 * 24 * time.Hour
)

// pace is how fast a first copy gets on, as it was when the copy last told.
type pace struct {
	perSecond int64
	// left is how long the rest takes at this rate, and end when it is through; zero when there is no telling.
	left time.Duration
	end  time.Time
}

// paceOf is the pace of a run that began with done entries behind it.
func paceOf(c *migrate.Checkpoint, done int64, began, now time.Time) pace {
	elapsed, dealt := now.Sub(began).Seconds(), c.Done()-done
	if began.IsZero() || elapsed <= 0 || dealt <= 0 {
		return pace{}
	}
	rate := float64(dealt) / elapsed
	p := pace{perSecond: int64(rate + 0.5)}
	if seconds := float64(remaining(c)) / rate; seconds > 0 && seconds < maxEstimate.Seconds() {
		p.left = time.Duration(seconds * float64(time.Second))
		p.end = now.Add(p.left)
	}
	return p
}

// remaining is the number of entries that are still to be dealt with.
func remaining(c *migrate.Checkpoint) int64 { return max(0, c.Total-c.Done()) }

// progressMessage says how far a first copy is.
func (b *bucketFact) progressMessage() string {
	c := &b.checkpoint
	switch {
	case c.Total == 0:
		return fmt.Sprintf("bucket %s: entries are being copied, see status.migration", b.bucket)
	case remaining(c) == 0:
		return fmt.Sprintf("bucket %s: all %s entries are dealt with; what the stream holds is being compared with them",
			b.bucket, thousands(c.Total))
	}
	text := fmt.Sprintf("bucket %s: %s of %s entries copied", b.bucket, thousands(c.Done()), thousands(c.Total))
	if b.pace.perSecond > 0 {
		text += fmt.Sprintf(", %s a second", thousands(b.pace.perSecond))
	}
	if b.pace.left > 0 {
		text += fmt.Sprintf(", about %s left", max(time.Second, b.pace.left.Round(time.Second)))
	}
	return text
}

// thousands renders a number that is not negative as 1,234,567.
func thousands(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// migrationProgress is what kubectl get prints in place of the Migrated condition.
func migrationProgress(s *scope, status *v1alpha1.AuditStreamStatus) string {
	migrated := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionMigrated)
	if migrated == nil {
		return ""
	}
	if meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionMigrated) || s.suspended || !copying(s, status) {
		return string(migrated.Status)
	}
	var done, total int64
	for i := range status.Migration {
		if b := &status.Migration[i]; b.Phase != v1alpha1.MigrationDryRun {
			done, total = done+b.Total-b.Remaining, total+b.Total
		}
	}
	return strconv.FormatInt(percent(done, total), 10) + "%"
}

// copying says whether a first copy runs, as far as is known: one that waits for NATS does, one that has failed for good
// does not.
func copying(s *scope, status *v1alpha1.AuditStreamStatus) bool {
	if len(s.buckets) > 0 {
		return slices.ContainsFunc(s.buckets, func(b bucketFact) bool { return b.phase == v1alpha1.MigrationCopying && !isTerminal(b.err) })
	}
	return slices.ContainsFunc(status.Migration, func(b v1alpha1.BucketMigration) bool { return b.Phase == v1alpha1.MigrationCopying })
}

// percent is how much of the total is done, in whole percents that were reached; what is not complete has at most 99.
func percent(done, total int64) int64 {
	if total <= 0 {
		return 0
	}
	return max(0, min(99, int64(float64(done)/float64(total)*100)))
}

// patchPace bounds how often the progress of a resource is written. It is safe for concurrent use.
type patchPace struct {
	mu   sync.Mutex
	next map[types.NamespacedName]time.Time
}

// hold is how long mere progress has still to wait.
func (p *patchPace) hold(key types.NamespacedName, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, p.next[key].Sub(now))
}

// wrote records a status patch and the events that went with it.
func (p *patchPace) wrote(key types.NamespacedName, now time.Time, events int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = map[types.NamespacedName]time.Time{}
	}
	if next := now.Add(patchInterval + time.Duration(events)*eventInterval); next.After(p.next[key]) {
		p.next[key] = next
	}
}

func (p *patchPace) forget(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.next, key)
}

// urgent says whether a status tells more than progress: another status or reason of a condition, a generation that was
// looked at, or another stream.
func urgent(before, now *v1alpha1.AuditStreamStatus) bool {
	if before.ObservedGeneration != now.ObservedGeneration || len(before.Conditions) != len(now.Conditions) {
		return true
	}
	for i := range now.Conditions {
		is := &now.Conditions[i]
		was := meta.FindStatusCondition(before.Conditions, is.Type)
		if was == nil || was.Status != is.Status || was.Reason != is.Reason || was.ObservedGeneration != is.ObservedGeneration {
			return true
		}
	}
	return !streamCreated(before).Equal(streamCreated(now))
}

func streamCreated(status *v1alpha1.AuditStreamStatus) time.Time {
	if status.Stream == nil || status.Stream.CreationTime == nil {
		return time.Time{}
	}
	return status.Stream.CreationTime.Time
}
