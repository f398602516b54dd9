package controller

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/jsclient"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// resyncJitter spreads the resync of several operators: up to this part of the interval is added.
const resyncJitter = 0.2

// resyncLoop is the safety net under the events: it wakes every resource that is not as its status says.
func (r *Reconciler) resyncLoop(ctx context.Context) error {
	leftOut := "" // why the last one was
	timer := time.NewTimer(wait.Jitter(r.ResyncInterval, resyncJitter))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			cause := ""
			survive(log.FromContext(ctx).WithName("resync"), func() {
				if err := r.tracedResync(ctx); err != nil {
					cause = err.Error()
				}
			})
			if cause != "" && cause != leftOut {
				log.FromContext(ctx).WithName("resync").Info("Left out a resync", "cause", cause)
			}
			leftOut = cause
			timer.Reset(wait.Jitter(r.ResyncInterval, resyncJitter))
		}
	}
}

// resync asks NATS for all streams in pages, not one by one, and wakes the resources that are stale.
func (r *Reconciler) resync(ctx context.Context) error {
	list := &v1alpha1.AuditStreamList{}
	if err := r.Client.List(ctx, list); err != nil || len(list.Items) == 0 {
		return err
	}
	nats, err := r.Pool.Get(r.Connection)
	if err != nil {
		return err
	}
	concerned := map[string]bool{}
	for i := range list.Items {
		for _, name := range concernedStreams(&list.Items[i]) {
			concerned[name] = true
		}
	}
	streams, fenced := map[string]*jetstream.StreamInfo{}, map[string][]string{}
	for info, err := range nats.Streams(ctx) {
		if unreported := (*jsclient.StreamUnreportedError)(nil); errors.As(err, &unreported) {
			continue // it is looked at alone, as one that is missing
		}
		if err != nil && errorVerdict(err).reason == v1alpha1.ReasonPermissionDenied {
			break // each is looked at alone
		}
		if err != nil {
			return err
		}
		if concerned[info.Config.Name] {
			streams[info.Config.Name] = info
		}
		if bucket, stream, found := fencedFor(info); found {
			fenced[stream] = append(fenced[stream], bucket)
		}
	}
	for i := range list.Items {
		obj := &list.Items[i]
		key, live := client.ObjectKeyFromObject(obj), streams[obj.Spec.Stream]
		strays := straysOf(obj, live, fenced[obj.Spec.Stream])
		if len(strays) > 0 {
			r.strays.note(key, strays)
		}
		if r.lookAt(ctx, obj, live) || r.stale(ctx, obj, streams) || len(strays) > 0 {
			r.enqueue(key)
		}
	}
	return nil
}

// lookAt shows in metrics what the resource's own stream is like, and says whether it has to be looked at again soon.
func (r *Reconciler) lookAt(ctx context.Context, obj *v1alpha1.AuditStream, live *jetstream.StreamInfo) bool {
	want, err := r.desired(ctx, obj)
	if err != nil || live == nil || live.Config.Metadata[jsbuilder.MetadataOwner] != want.Metadata[jsbuilder.MetadataOwner] {
		return false
	}
	r.metrics.looked(client.ObjectKeyFromObject(obj), live, r.Now())
	return behind(live) > 0 && !obj.Spec.Suspend
}

// stale says whether a reconcile would find something to do or to report.
func (r *Reconciler) stale(ctx context.Context, obj *v1alpha1.AuditStream, streams map[string]*jetstream.StreamInfo) bool {
	live := streams[obj.Spec.Stream]
	switch {
	case obj.DeletionTimestamp.IsZero() && controllerutil.ContainsFinalizer(obj, Finalizer) != deletesStream(obj):
		return true // somebody has taken it off, and the stream would stay behind
	case obj.Spec.Suspend && obj.DeletionTimestamp.IsZero():
		return false
	case live == nil, !meta.IsStatusConditionTrue(obj.Status.Conditions, v1alpha1.ConditionReady):
		return true
	case !equality.Semantic.DeepEqual(obj.Status.Stream, streamState(live)):
		return true
	}
	want, err := r.desired(ctx, obj)
	if err != nil || len(jsbuilder.Compare(withRedirects(want, &obj.Spec, live), live.Config)) > 0 {
		return true
	}
	for i := range obj.Status.Migration {
		m := &obj.Status.Migration[i]
		bucket := streams[migrate.StreamName(m.Bucket)]
		if bucket != nil && int64(bucket.State.LastSeq) != m.LastSequence {
			return true
		}
	}
	return false
}
