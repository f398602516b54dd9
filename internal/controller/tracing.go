package controller

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
	"github.com/osapi-io/auditstream-operator/internal/tracing"
)

// Names and keys of spans. docs/operations.md lists them.
const (
	spanReconcile = "reconcile AuditStream"
	spanResync    = "resync AuditStreams"
	spanCopy      = "copy bucket"
	spanHandOver  = "hand over bucket"

	keyName        = attribute.Key("auditstream.name")
	keyGeneration  = attribute.Key("auditstream.generation")
	keyStream      = attribute.Key("auditstream.stream")
	keyBucket      = attribute.Key("auditstream.bucket")
	keyReady       = attribute.Key("auditstream.ready")
	keyReason      = attribute.Key("auditstream.reason")
	keyResult      = attribute.Key("auditstream.result")
	keyReconcileID = attribute.Key("auditstream.reconcile_id")
	keyDryRun      = attribute.Key("auditstream.dry_run")
	keyEntries     = "auditstream.entries."
)

// Values of keyResult.
const (
	resultDone     = "done"
	resultRequeued = "requeued"
	resultFailed   = "failed"
	resultStopped  = "stopped"
)

// eventGone says that there was no resource to reconcile any more.
const eventGone = "resource gone"

// Reconcile brings one AuditStream to its declared state and reports how it stands. It is one trace, whose id is in the log
// lines.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	ctx, span := tracing.Root(ctx, r.TracerProvider, spanReconcile, trace.WithAttributes(
		semconv.K8SNamespaceName(req.Namespace), keyName.String(req.Name),
		keyReconcileID.String(string(controller.ReconcileIDFromContext(ctx)))))
	defer span.End() // also records a panic
	ctx = log.IntoContext(ctx, tracing.Logger(log.FromContext(ctx), span))
	result, err := r.reconcile(ctx, req)
	switch {
	case err != nil:
		span.SetAttributes(keyResult.String(resultFailed))
		failSpan(span, err)
	case result.RequeueAfter > 0:
		span.SetAttributes(keyResult.String(resultRequeued))
	default:
		span.SetAttributes(keyResult.String(resultDone))
	}
	return result, r.faults.tell(ctx, req.NamespacedName, err)
}

// traceGone records that there is no such resource any more.
func traceGone(ctx context.Context) { trace.SpanFromContext(ctx).AddEvent(eventGone) }

// traceResource records what is reconciled.
func traceResource(ctx context.Context, obj *v1alpha1.AuditStream) {
	trace.SpanFromContext(ctx).SetAttributes(keyGeneration.Int64(obj.Generation), keyStream.String(obj.Spec.Stream))
}

// traceOutcome records what was reported, and the fault that was, which need not fail the reconcile.
func traceOutcome(ctx context.Context, s *scope, err error) {
	span := trace.SpanFromContext(ctx)
	if ready := meta.FindStatusCondition(s.obj.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
		span.SetAttributes(keyReady.String(string(ready.Status)), keyReason.String(ready.Reason))
	}
	failSpan(span, err)
}

// runStep runs a step as a span below the reconcile's.
func runStep(ctx context.Context, name string, s *scope, do step) error {
	ctx, span := tracing.Child(ctx, name)
	defer span.End()
	err := do(ctx, s)
	failSpan(span, err)
	return err
}

// failSpan records a fault. What merely takes its time is none.
func failSpan(span trace.Span, err error) {
	if err == nil {
		return
	}
	reason := errorVerdict(err).reason
	span.SetAttributes(semconv.ErrorTypeKey.String(reason))
	if waiting, ok := errors.AsType[*failure.Waiting](err); ok &&
		(waiting.Reason == v1alpha1.ReasonHandingOver || waiting.Reason == v1alpha1.ReasonDeleting) {
		return
	}
	tracing.Fail(span, err)
}

// tracedResync is a resync as a trace.
func (r *Reconciler) tracedResync(ctx context.Context) error {
	ctx, span := tracing.Root(ctx, r.TracerProvider, spanResync)
	err := r.resync(ctx)
	tracing.End(span, err)
	return err
}

// beginCopy begins the trace of a copy's run, which goes on after the reconcile that has set it off.
func (j *copyJob) beginCopy(ctx context.Context, id copyID) (context.Context, trace.Span) {
	return tracing.Linked(ctx, j.origin, spanCopy, trace.WithAttributes(
		semconv.K8SNamespaceName(id.resource.Namespace), keyName.String(id.resource.Name),
		keyBucket.String(id.bucket), keyStream.String(j.Stream), keyDryRun.Bool(j.DryRun)))
}

// endCopy ends the trace of a copy's run.
func endCopy(span trace.Span, reached *migrate.Checkpoint, err error) {
	for result, n := range map[attribute.Key]int64{
		"total": reached.Total, "migrated": reached.Migrated, "already_present": reached.AlreadyPresent,
		"expired": reached.Expired, "invalid": reached.Invalid, "mismatched": reached.Mismatched,
	} {
		span.SetAttributes((keyEntries + result).Int64(n))
	}
	switch {
	case err == nil:
		span.SetAttributes(keyResult.String(resultDone))
	case errors.Is(err, errStopped) || errors.Is(err, context.Canceled):
		span.SetAttributes(keyResult.String(resultStopped))
	default:
		span.SetAttributes(keyResult.String(resultFailed))
		failSpan(span, err)
	}
	span.End()
}

// tracedHandOver hands over a bucket as a span below the copy's.
func (j *copyJob) tracedHandOver(ctx context.Context, reached migrate.Checkpoint) (migrate.Checkpoint, error) {
	ctx, span := tracing.Child(ctx, spanHandOver, trace.WithAttributes(keyBucket.String(j.Bucket)))
	defer span.End()
	reached, err := j.handOver(ctx, reached)
	failSpan(span, err)
	return reached, err
}
