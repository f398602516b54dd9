package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/jsclient"
)

// +kubebuilder:rbac:groups=audit.osapi.io,resources=auditstreams,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=audit.osapi.io,resources=auditstreams/status,verbs=patch
// +kubebuilder:rbac:groups="";events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",resources=namespaces,resourceNames=kube-system,verbs=get

// clusterNamespace is the namespace whose UID stands for the cluster, as is the custom.
const clusterNamespace = "kube-system"

// Reconciler reconciles AuditStreams. Its exported fields are set before SetupWithManager and not changed after.
type Reconciler struct {
	// Client reads from the cache, and writes status and finalizers.
	Client client.Client
	// APIReader reads from the API server: what has to be true now and is read seldom.
	APIReader client.Reader
	Recorder  events.EventRecorder
	// Pool holds the NATS connections. Its events have to be passed to HandleEvent.
	Pool *jsclient.Pool
	// Connection is the default connection.
	Connection jsclient.Config
	// Now is the clock.
	Now func() time.Time
	// ResyncInterval is how often all streams are looked at without an event.
	ResyncInterval time.Duration
	// MaxConcurrentReconciles is how many resources are reconciled at once.
	MaxConcurrentReconciles int
	// TracerProvider records what reconciles do; nil records nothing.
	TracerProvider trace.TracerProvider

	metrics *metrics
	copies  *copies
	locks   keyedLocks
	queue   queue

	handOvers handOvers
	strays    strays
	deletions deletions
	ownWrites ownWrites
	patches   patchPace
	faults    faults
	futile    futile
	// changes and overwrites bound how often changes of a stream, and of the status by somebody else, wake a resource.
	changes, overwrites *wakeups
	// skew is how far the operator's clock is ahead of the NATS server's, in nanoseconds.
	skew atomic.Int64

	clusterUIDMu sync.Mutex
	clusterUID   types.UID
}

// queue is the controller's work queue, once it runs.
type queue struct {
	mu sync.RWMutex
	q  workqueue.TypedRateLimitingInterface[ctrl.Request]
}

// step brings the world a step closer to what is declared and records what it finds in the scope. Steps run in order;
// an error ends the reconcile. A step never touches conditions.
type step func(ctx context.Context, s *scope) error

func (r *Reconciler) reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	obj := &v1alpha1.AuditStream{}
	if err := r.Client.Get(ctx, req.NamespacedName, obj); err != nil {
		if client.IgnoreNotFound(err) == nil {
			traceGone(ctx)
			r.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	obj = r.ownWrites.newest(obj)
	traceResource(ctx, obj)
	if !obj.DeletionTimestamp.IsZero() {
		return r.reconcileDelete(ctx, &scope{obj: obj})
	}
	s := &scope{obj: obj}
	err := r.runSteps(ctx, s)
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: conflictRetry}, nil
	}
	return r.finish(ctx, s, err)
}

func (r *Reconciler) runSteps(ctx context.Context, s *scope) error {
	if err := runStep(ctx, "ensureFinalizer", s, r.ensureFinalizer); err != nil {
		return err
	}
	if s.obj.Spec.Suspend {
		s.suspended = true
		r.copies.stopAll(client.ObjectKeyFromObject(s.obj))
		return nil
	}
	for _, next := range []struct {
		name string
		run  step
	}{
		{"connect", r.connect}, {"ensureStream", r.ensureStream}, {"ensureMigration", r.ensureMigration},
	} {
		if err := runStep(ctx, next.name, s, next.run); err != nil {
			return cmp.Or(s.refused, err)
		}
	}
	return cmp.Or(s.refused, r.unheard(s))
}

// unheard says that NATS forbids the operator to hear of changes. The stream is looked after all the same, but only each time that
// this is tried again.
func (r *Reconciler) unheard(s *scope) error {
	buckets := make([]string, len(s.obj.Spec.MigrateFrom))
	for i, source := range s.obj.Spec.MigrateFrom {
		buckets[i] = source.Bucket
	}
	err := s.nats.SubscriptionErr(buckets...)
	if err != nil && s.lost != nil {
		// The loss comes first: of what Ready says there is one event.
		r.enqueueAfter(client.ObjectKeyFromObject(s.obj), slowRetry)
		return nil
	}
	return err
}

// connect gets the resource's NATS connection and says what is wrong with it. It waits for the first try to connect only:
// an operator that starts must not call every resource unready for a moment.
func (r *Reconciler) connect(ctx context.Context, s *scope) error {
	nats, err := r.Pool.Get(r.Connection)
	if err != nil {
		return err
	}
	select {
	case <-nats.Settled():
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := nats.Err(); err != nil {
		return err
	}
	if err := nats.CheckServer(); err != nil {
		return err
	}
	s.nats = nats
	return nil
}

// finish reports the facts and the error, and decides when to look again.
func (r *Reconciler) finish(ctx context.Context, s *scope, err error) (ctrl.Result, error) {
	var held time.Duration
	reportErr := runStep(ctx, "report", s, func(ctx context.Context, s *scope) (failed error) {
		held, failed = r.report(ctx, s, err)
		return failed
	})
	traceOutcome(ctx, s, err)
	if reportErr != nil {
		return ctrl.Result{}, reportErr
	}
	after, transient := again(s, err)
	if transient != nil {
		// It is tried again with a growing delay, which may be longer than the progress has to wait.
		if held > 0 {
			r.enqueueAfter(client.ObjectKeyFromObject(s.obj), held)
		}
		return ctrl.Result{}, transient
	}
	if s.live != nil && behind(s.live) > 0 {
		after = sooner(after, slowRetry) // nothing tells when a replica has caught up
	}
	after = sooner(after, s.lookAgain(r.Now()))
	return ctrl.Result{RequeueAfter: sooner(held, after)}, nil
}

// again decides when to look again: one bucket's fault that only a change of the resource can mend does not keep another's
// from being tried again.
func again(s *scope, err error) (after time.Duration, transient error) {
	errs := make([]error, 1, 1+len(s.buckets))
	errs[0] = err
	for i := range s.buckets {
		errs = append(errs, s.buckets[i].err)
	}
	for _, err := range errs {
		var waiting *failure.Waiting
		switch {
		case err == nil || isTerminal(err):
		case errors.As(err, &waiting):
			after = sooner(after, waiting.After)
		case transient == nil:
			transient = err
		}
	}
	return after, transient
}

// sooner is the smaller of two delays, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// forget drops what the process remembers of a resource that is gone.
func (r *Reconciler) forget(key types.NamespacedName) {
	r.copies.forget(key)
	r.ownWrites.forget(key)
	r.handOvers.forget(key)
	r.strays.forget(key)
	r.patches.forget(key)
	r.faults.forget(key)
	r.changes.forget(key)
	r.overwrites.forget(key)
	r.metrics.forget(key)
}

// cluster is the UID that names this cluster in ownership claims.
func (r *Reconciler) cluster(ctx context.Context) (types.UID, error) {
	r.clusterUIDMu.Lock()
	defer r.clusterUIDMu.Unlock()
	if r.clusterUID == "" {
		namespace := &corev1.Namespace{}
		if err := r.APIReader.Get(ctx, types.NamespacedName{Name: clusterNamespace}, namespace); err != nil {
			return "", fmt.Errorf("reading namespace %s, whose UID names the cluster in ownership claims: %w", clusterNamespace, err)
		}
		r.clusterUID = namespace.UID
	}
	return r.clusterUID, nil
}
