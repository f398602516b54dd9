package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsclient"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

const (
	// backoffMin and backoffMax bound the delay after a transient error.
	backoffMin = 200 * time.Millisecond
	backoffMax = time.Minute

	// indexStream finds resources by every JetStream stream that concerns them: their own, and those behind their buckets.
	indexStream = "jetstream"

	controllerName = "auditstream"
	resourceKind   = "AuditStream"
)

// SetupWithManager registers the reconciler, and what wakes it, with a manager.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr manager.Manager) error {
	if r.Now == nil {
		r.Now = time.Now
	}
	if r.TracerProvider == nil {
		r.TracerProvider = noop.NewTracerProvider()
	}
	var err error
	if r.metrics, err = newMetrics(crmetrics.Registry, r.Now); err != nil {
		return err
	}
	r.copies = newCopies(r.enqueue, r.Now)
	r.changes, r.overwrites = newWakeups(changesAtOnce, changesEvery), newWakeups(overwritesAtOnce, overwritesEvery)
	for _, runnable := range []manager.Runnable{r.copies, manager.RunnableFunc(r.resyncLoop)} {
		if err := mgr.Add(runnable); err != nil {
			return fmt.Errorf("adding to the manager: %w", err)
		}
	}
	if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.AuditStream{}, indexStream, concernedStreams); err != nil {
		return fmt.Errorf("indexing AuditStreams by stream: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		WithLogConstructor(logConstructor(mgr.GetLogger())).
		For(&v1alpha1.AuditStream{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.AuditStream{}, r.statusOverwritten()).
		Watches(&v1alpha1.AuditStream{}, handler.EnqueueRequestsFromMapFunc(r.rivals), builder.WithPredicates(claimChanged())).
		WatchesRawSource(source.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[ctrl.Request]) error {
			r.queue.mu.Lock()
			defer r.queue.mu.Unlock()
			r.queue.q = q
			return nil
		})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.MaxConcurrentReconciles,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](backoffMin, backoffMax),
		}).
		Complete(r)
}

func concernedStreams(obj client.Object) []string {
	spec := &obj.(*v1alpha1.AuditStream).Spec
	names := make([]string, 0, 1+len(spec.MigrateFrom))
	names = append(names, spec.Stream)
	for _, m := range spec.MigrateFrom {
		names = append(names, migrate.StreamName(m.Bucket))
	}
	return names
}

// rivals are the other resources that declare a stream or a bucket of a resource that has changed or gone: it may be theirs
// now.
func (r *Reconciler) rivals(ctx context.Context, changed client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, stream := range concernedStreams(changed) {
		for _, request := range r.concerned(ctx, stream) {
			if request.NamespacedName != client.ObjectKeyFromObject(changed) {
				requests = append(requests, request)
			}
		}
	}
	return requests
}

// claimChanged passes what can change who has a stream or a bucket.
func claimChanged() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			was, is := e.ObjectOld.(*v1alpha1.AuditStream), e.ObjectNew.(*v1alpha1.AuditStream)
			return !slices.Equal(claimsOf(was), claimsOf(is))
		},
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

// statusOverwritten wakes a resource whose status somebody else has written, to put it right.
func (r *Reconciler) statusOverwritten() handler.Funcs {
	return handler.Funcs{
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			if r.ownWrites.overwritten(e.ObjectOld.(*v1alpha1.AuditStream), e.ObjectNew.(*v1alpha1.AuditStream)) {
				r.wake(client.ObjectKeyFromObject(e.ObjectNew), r.overwrites)
			}
		},
	}
}

// HandleEvent wakes the resources that an event of the default connection concerns. It is what the connection pool's
// OnEvent has to call.
func (r *Reconciler) HandleEvent(_ jsclient.Config, e jsclient.Event) {
	survive(ctrl.Log.WithName("controller"), func() { r.handleEvent(e) })
}

func (r *Reconciler) handleEvent(e jsclient.Event) {
	if e.Kind == jsclient.StreamDeleted {
		r.deletions.deleted(e.Stream, r.Now())
	}
	// An event without a stream is of the connection, and concerns all. Writes to a bucket are no answer to anything of ours.
	bounded := e.Stream != "" && e.Kind != jsclient.BucketWritten
	for _, req := range r.concerned(context.Background(), e.Stream) {
		if bounded {
			r.wake(req.NamespacedName, r.changes)
		} else {
			r.enqueue(req.NamespacedName)
		}
	}
}

// concerned lists the resources that a JetStream stream concerns; all of them when the name is empty.
func (r *Reconciler) concerned(ctx context.Context, stream string) []reconcile.Request {
	if !r.running() {
		return nil
	}
	var opts []client.ListOption
	if stream != "" {
		opts = append(opts, client.MatchingFields{indexStream: stream})
	}
	list := &v1alpha1.AuditStreamList{}
	if err := r.Client.List(ctx, list, opts...); err != nil {
		ctrl.Log.WithName("controller").Error(err, "Failed to list AuditStreams in the cache")
		return nil
	}
	requests := make([]reconcile.Request, len(list.Items))
	for i := range list.Items {
		requests[i].NamespacedName = client.ObjectKeyFromObject(&list.Items[i])
	}
	return requests
}

func (r *Reconciler) running() bool {
	r.queue.mu.RLock()
	defer r.queue.mu.RUnlock()
	return r.queue.q != nil
}

// enqueue wakes a resource. Before the controller runs there is nothing to wake: it begins with every resource.
func (r *Reconciler) enqueue(key types.NamespacedName) {
	r.queue.mu.RLock()
	defer r.queue.mu.RUnlock()
	if r.queue.q != nil {
		r.queue.q.Add(reconcile.Request{NamespacedName: key})
	}
}

// wake wakes a resource, at once or, where that has happened too often lately, a little later.
func (r *Reconciler) wake(key types.NamespacedName, by *wakeups) {
	if delay := by.delay(key, r.Now()); delay > 0 {
		r.enqueueAfter(key, delay)
	} else {
		r.enqueue(key)
	}
}

func (r *Reconciler) enqueueAfter(key types.NamespacedName, after time.Duration) {
	r.queue.mu.RLock()
	defer r.queue.mu.RUnlock()
	if r.queue.q != nil {
		r.queue.q.AddAfter(reconcile.Request{NamespacedName: key}, after)
	}
}
