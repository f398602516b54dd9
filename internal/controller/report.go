package controller

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
// the log.
func (r *Reconciler) report(ctx context.Context, s *scope, err error) error {
	base := s.obj.DeepCopy()
	s.obj.Status = deriveStatus(s, err, r.Now())
	if !equality.Semantic.DeepEqual(base.Status, s.obj.Status) {
		if err := r.Client.Status().Patch(ctx, s.obj, client.MergeFrom(base)); err != nil {
			return client.IgnoreNotFound(err)
		}
		r.ownWrites.note(s.obj)
	}
	r.metrics.observe(s.obj)
	r.tell(ctx, s, base)
	return nil
}

func (r *Reconciler) tell(ctx context.Context, s *scope, before *v1alpha1.AuditStream) {
	logger := log.FromContext(ctx)
	if s.created {
		logger.Info("Created the stream", "stream", s.obj.Spec.Stream)
	}
	if len(s.healed) > 0 {
		r.tellHealed(ctx, s, before)
	}
	// A second loss differs from the first only by its message.
	if ready, changed := transition(before, s.obj, v1alpha1.ConditionReady); changed || s.lost != nil {
		logger.Info("Became "+ready.Reason, "ready", ready.Status, "message", ready.Message)
		r.event(s.obj, eventType(ready), ready.Reason, ready.Message)
	}
	// Ready does not show values that are not entries.
	if migrated, changed := transition(before, s.obj, v1alpha1.ConditionMigrated); changed && migrated.Reason == v1alpha1.ReasonInvalidEntries {
		r.event(s.obj, corev1.EventTypeWarning, migrated.Reason, migrated.Message)
	}
}

// transition returns the condition as it is now, and whether its status or reason was another before.
func transition(before, now *v1alpha1.AuditStream, kind string) (*metav1.Condition, bool) {
	was := meta.FindStatusCondition(before.Status.Conditions, kind)
	is := meta.FindStatusCondition(now.Status.Conditions, kind)
	return is, is != nil && (was == nil || was.Status != is.Status || was.Reason != is.Reason)
}

// tellHealed tells apart what somebody did to the stream from what a change of the resource asked for.
func (r *Reconciler) tellHealed(ctx context.Context, s *scope, before *v1alpha1.AuditStream) {
	what := describe(s.healed)
	logger := log.FromContext(ctx).WithValues("stream", s.obj.Spec.Stream, "differences", what)
	switch {
	case s.adopted:
		logger.Info("Adopted the stream")
		r.event(s.obj, corev1.EventTypeNormal, v1alpha1.ReasonStreamAdopted, fmt.Sprintf("took over stream %s and set %s", s.obj.Spec.Stream, what))
	case before.Status.ObservedGeneration == s.obj.Generation && s.claimedBefore(before):
		logger.Info("Healed drift")
		r.metrics.healed(s.healed)
		r.event(s.obj, corev1.EventTypeWarning, v1alpha1.ReasonDriftHealed, fmt.Sprintf("stream %s was changed out of band; put right: %s", s.obj.Spec.Stream, what))
	default:
		logger.Info("Updated the stream")
	}
}

func (s *scope) claimedBefore(before *v1alpha1.AuditStream) bool {
	return before.Status.Stream != nil && s.lost == nil
}

// eventType: what a person should look at is a warning.
func eventType(ready *metav1.Condition) string {
	switch ready.Reason {
	case v1alpha1.ReasonReady, v1alpha1.ReasonMigrating, v1alpha1.ReasonSuspended, v1alpha1.ReasonDryRun, v1alpha1.ReasonDeleting:
		return corev1.EventTypeNormal
	}
	return corev1.EventTypeWarning
}

func (r *Reconciler) event(obj *v1alpha1.AuditStream, kind, reason, note string) {
	if len(note) > maxEventNote {
		note = strings.ToValidUTF8(note[:maxEventNote-3], "") + "..."
	}
	r.Recorder.Eventf(obj, nil, kind, reason, eventAction, "%s", note)
}
