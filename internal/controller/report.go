package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

const (
	// eventAction is what the operator was doing, as the events API asks for.
	eventAction = "Reconcile"
	// maxEventNote is the API server's limit on an event's note, in bytes.
	maxEventNote = 1024
)

// report writes the status with one patch, and only when it differs, and then tells what changed by events, metrics and
// the log. Mere progress has to wait while the last patch is young: report returns how long.
func (r *Reconciler) report(ctx context.Context, s *scope, err error) (held time.Duration, _ error) {
	base, key, now := s.obj.DeepCopy(), client.ObjectKeyFromObject(s.obj), r.Now()
	s.obj.Status = deriveStatus(s, err, now)
	r.metrics.observe(s, now)
	changed := !equality.Semantic.DeepEqual(base.Status, s.obj.Status)
	if changed && !urgent(&base.Status, &s.obj.Status) {
		held = r.patches.hold(key, now)
	}
	switch {
	case held > 0:
		s.obj.Status = *base.Status.DeepCopy() // what went on besides is told all the same
	case changed:
		if err := r.Client.Status().Patch(ctx, s.obj, client.MergeFrom(base)); err != nil {
			r.tellDone(ctx, s, base) // the next reconcile finds nothing left of it
			return 0, client.IgnoreNotFound(err)
		}
		r.ownWrites.note(s.obj)
	}
	r.ownWrites.noteStatus(s.obj)
	if events := r.tell(ctx, s, base); changed && held == 0 {
		r.patches.wrote(key, now, events)
	}
	return held, nil
}

// tell says what changed, and returns how many events that took.
func (r *Reconciler) tell(ctx context.Context, s *scope, before *v1alpha1.AuditStream) (events int) {
	events = r.tellDone(ctx, s, before)
	if s.lost != nil {
		r.metrics.lost(client.ObjectKeyFromObject(s.obj))
	}
	notes := bucketNotes(before.Status.Migration, s.obj.Status.Migration)
	notes = append(notes, r.conditionNotes(ctx, s, before, notes)...)
	for _, n := range notes {
		r.event(s.obj, n)
	}
	return events + len(notes)
}

// tellDone says what was done to the stream, which is so whatever becomes of the status, and returns how many events that took.
func (r *Reconciler) tellDone(ctx context.Context, s *scope, before *v1alpha1.AuditStream) (events int) {
	if s.created {
		log.FromContext(ctx).Info("Created the stream", "stream", s.obj.Spec.Stream)
	}
	if len(s.healed) == 0 {
		return 0
	}
	notes := r.healedNotes(ctx, s, before)
	for _, n := range notes {
		r.event(s.obj, n)
	}
	return len(notes)
}

// conditionNotes logs what changed and returns the events that go with it. told are those of the buckets.
func (r *Reconciler) conditionNotes(ctx context.Context, s *scope, before *v1alpha1.AuditStream, told []note) (notes []note) {
	logger := log.FromContext(ctx)
	// A second loss differs from the first only by its message.
	if ready, changed := transition(before, s.obj, v1alpha1.ConditionReady); changed || s.lost != nil {
		// What is none of the reasons that a reader can act on is logged as an error, by faults.
		if ready.Reason != v1alpha1.ReasonReconcileError {
			logger.Info("Changed readiness", "ready", ready.Status, "reason", ready.Reason, "message", ready.Message)
		}
		if s.lost != nil || !tells(told, ready.Reason) {
			notes = append(notes, note{kind: s.eventType(ready), reason: ready.Reason, text: ready.Message})
		}
	}
	// Ready does not show values that are not entries.
	if migrated, changed := transition(before, s.obj, v1alpha1.ConditionMigrated); changed && migrated.Reason == v1alpha1.ReasonInvalidEntries {
		notes = append(notes, note{kind: corev1.EventTypeWarning, reason: migrated.Reason, text: migrated.Message})
	}
	return notes
}

// transition returns the condition as it is now, and whether its status or reason was another before.
func transition(before, now *v1alpha1.AuditStream, kind string) (*metav1.Condition, bool) {
	was := meta.FindStatusCondition(before.Status.Conditions, kind)
	is := meta.FindStatusCondition(now.Status.Conditions, kind)
	return is, is != nil && (was == nil || was.Status != is.Status || was.Reason != is.Reason)
}

// healedNotes tells apart what somebody did to the stream from what a change of the resource asked for.
func (r *Reconciler) healedNotes(ctx context.Context, s *scope, before *v1alpha1.AuditStream) []note {
	what := describe(s.healed)
	logger := log.FromContext(ctx).WithValues("stream", s.obj.Spec.Stream, "differences", what)
	switch {
	case s.adopted:
		logger.Info("Adopted the stream")
		return []note{{kind: corev1.EventTypeNormal, reason: v1alpha1.ReasonStreamAdopted,
			text: fmt.Sprintf("took over stream %s and set %s", s.obj.Spec.Stream, what)}}
	case before.Status.ObservedGeneration == s.obj.Generation && s.claimedBefore(before):
		logger.Info("Healed drift")
		r.metrics.healed(client.ObjectKeyFromObject(s.obj), s.healed)
		return []note{{kind: corev1.EventTypeWarning, reason: v1alpha1.ReasonDriftHealed,
			text: fmt.Sprintf("stream %s was changed out of band; put right: %s", s.obj.Spec.Stream, what)}}
	default:
		logger.Info("Updated the stream")
	}
	return nil
}

func (s *scope) claimedBefore(before *v1alpha1.AuditStream) bool {
	return before.Status.Stream != nil && s.lost == nil
}

// eventType: what a person should look at is a warning.
func (s *scope) eventType(ready *metav1.Condition) string {
	switch ready.Reason {
	case v1alpha1.ReasonStreamDeleted:
		if !s.claimed() {
			return corev1.EventTypeNormal
		}
	case v1alpha1.ReasonReady, v1alpha1.ReasonMigrating, v1alpha1.ReasonSuspended, v1alpha1.ReasonDryRun, v1alpha1.ReasonDeleting:
		return corev1.EventTypeNormal
	}
	return corev1.EventTypeWarning
}

func (r *Reconciler) event(obj *v1alpha1.AuditStream, n note) {
	action := eventAction
	if n.action != "" {
		action = n.action
	}
	// Events that are alike in all but the text are counted as one, which keeps the first one's text.
	var related runtime.Object
	if n.bucket != "" {
		related = &corev1.ObjectReference{Kind: "KeyValue", Name: n.bucket}
	}
	r.Recorder.Eventf(obj, related, n.kind, n.reason, action, "%s", shorten(n.text, maxEventNote))
}
