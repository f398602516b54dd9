package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

// Finalizer holds back a resource with deletionPolicy: Delete until its stream is deleted. Resources with Retain have
// none, so that they go without the operator and without NATS.
const Finalizer = "audit.osapi.io/delete-stream"

// conflictRetry is how soon to look again at a resource that somebody has changed before the operator has. That is no fault, and
// not worth a report.
const conflictRetry = backoffMin

// ensureFinalizer sets the finalizer where deletion has something to do, and removes it where it has not.
func (r *Reconciler) ensureFinalizer(ctx context.Context, s *scope) error {
	if controllerutil.ContainsFinalizer(s.obj, Finalizer) == deletesStream(s.obj) {
		return nil
	}
	base := s.obj.DeepCopy()
	if deletesStream(s.obj) {
		controllerutil.AddFinalizer(s.obj, Finalizer)
	} else {
		controllerutil.RemoveFinalizer(s.obj, Finalizer)
	}
	return r.patchFinalizers(ctx, s, base)
}

// deletesStream says whether the stream goes with the resource. The API refuses Delete under a retention lock; should
// both be set all the same, the lock wins.
func deletesStream(obj *v1alpha1.AuditStream) bool {
	return obj.Spec.DeletionPolicy == v1alpha1.DeletionPolicyDelete && obj.Spec.RetentionLock != v1alpha1.RetentionLockCompliance
}

// reconcileDelete ends the copies of a resource that is being deleted, and deletes its stream where that is declared.
func (r *Reconciler) reconcileDelete(ctx context.Context, s *scope) (ctrl.Result, error) {
	r.copies.stopAll(client.ObjectKeyFromObject(s.obj))
	if !controllerutil.ContainsFinalizer(s.obj, Finalizer) {
		return ctrl.Result{}, nil
	}
	if deletesStream(s.obj) {
		if err := runStep(ctx, "deleteStream", s, r.deleteStream); err != nil {
			return r.finish(ctx, s, err)
		}
	}
	base := s.obj.DeepCopy()
	controllerutil.RemoveFinalizer(s.obj, Finalizer)
	err := r.patchFinalizers(ctx, s, base)
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: conflictRetry}, nil
	}
	return ctrl.Result{}, client.IgnoreNotFound(err)
}

// deleteStream deletes the stream if the resource owns it and still asks for that.
func (r *Reconciler) deleteStream(ctx context.Context, s *scope) error {
	if err := r.connect(ctx, s); err != nil {
		return err
	}
	// Name and owner will do: a spec of which no stream can be made must not keep the resource for ever.
	owner, err := r.owner(ctx, s.obj)
	if err != nil {
		return err
	}
	name := s.obj.Spec.Stream
	s.want = jetstream.StreamConfig{Name: name, Metadata: map[string]string{jsbuilder.MetadataOwner: owner}}
	if err := r.releaseBuckets(ctx, s, owner); err != nil {
		return err
	}
	defer r.locks.lock(name)()
	live, err := s.nats.Stream(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil
	case err != nil:
		return err
	case !s.owns(live, owner):
		log.FromContext(ctx).Info("Kept a stream that the resource does not own", "stream", name)
		return nil
	case s.locked(live):
		return lockedDeletion(name)
	}
	if stands, err := r.deletionStands(ctx, s); err != nil || !stands {
		return err
	}
	err = s.nats.DeleteStream(ctx, name)
	r.deletions.deleted(name, r.Now()) // or may be, whatever the answer
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("deleting stream %s: %w", name, err)
	}
	log.FromContext(ctx).Info("Deleted the stream", "stream", name, "entries", live.State.Msgs)
	return nil
}

// deletionStands asks the API server whether the stream is still to go with the resource: the cache may not know yet that
// somebody has changed their mind, and there is no way back.
func (r *Reconciler) deletionStands(ctx context.Context, s *scope) (bool, error) {
	now := &v1alpha1.AuditStream{}
	err := r.APIReader.Get(ctx, client.ObjectKeyFromObject(s.obj), now)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return false, fmt.Errorf("making sure that stream %s is to be deleted: %w", s.want.Name, err)
	case err == nil && now.UID == s.obj.UID:
		s.obj = now
		if deletesStream(now) && controllerutil.ContainsFinalizer(now, Finalizer) {
			return true, nil
		}
	}
	log.FromContext(ctx).Info("Kept a stream that is no longer to be deleted", "stream", s.want.Name)
	return false, nil
}

// releaseBuckets gives redirected buckets their subjects back before the stream goes, so that their writers have a home.
func (r *Reconciler) releaseBuckets(ctx context.Context, s *scope, owner string) error {
	if r.copies.running(client.ObjectKeyFromObject(s.obj)) {
		return &failure.Waiting{Reason: v1alpha1.ReasonDeleting, After: time.Second, Err: errors.New("the copy of a bucket is being ended")}
	}
	live, err := s.nats.Stream(ctx, s.want.Name)
	gone := errors.Is(err, jetstream.ErrStreamNotFound)
	if err != nil && !gone || !gone && !s.owns(live, owner) {
		return err
	}
	if !gone && s.locked(live) {
		return lockedDeletion(s.want.Name)
	}
	s.live = live
	var buckets []string
	for _, source := range s.obj.Spec.MigrateFrom {
		buckets = append(buckets, source.Bucket)
	}
	if !gone {
		if redirected := jsbuilder.Redirects(live.Config.Metadata); len(redirected) > 0 {
			buckets = append(buckets, redirected...)
			if err := r.closeRedirects(ctx, s, redirected...); err != nil {
				return err
			}
		}
	}
	for _, bucket := range buckets {
		if err := r.returnBucket(ctx, s, bucket); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) patchFinalizers(ctx context.Context, s *scope, base *v1alpha1.AuditStream) error {
	// A list is replaced as a whole by a merge patch, so it has to be the list that was read.
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, s.obj, patch); err != nil {
		return fmt.Errorf("updating the finalizers: %w", err)
	}
	r.ownWrites.note(s.obj)
	return nil
}
