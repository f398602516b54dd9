package controller

import (
	"slices"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

var (
	// recorded are the spans of the operator of this suite.
	recorded      = tracetest.NewSpanRecorder()
	recordedSpans = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorded))
)

// spansOf lists the roots of one name that belong to a resource, in the order in which they ended.
func spansOf(name string, obj *v1alpha1.AuditStream) []sdktrace.ReadOnlySpan {
	return slices.DeleteFunc(recorded.Ended(), func(s sdktrace.ReadOnlySpan) bool {
		return s.Name() != name || valueOf(s, "k8s.namespace.name") != obj.Namespace || valueOf(s, "auditstream.name") != obj.Name
	})
}

func valueOf(s sdktrace.ReadOnlySpan, key attribute.Key) string {
	for _, a := range s.Attributes() {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// childrenOf lists the spans below one, by the order in which they began.
func childrenOf(parent sdktrace.ReadOnlySpan) []sdktrace.ReadOnlySpan {
	children := slices.DeleteFunc(recorded.Ended(), func(s sdktrace.ReadOnlySpan) bool {
		return s.Parent().SpanID() != parent.SpanContext().SpanID() || s.SpanContext().TraceID() != parent.SpanContext().TraceID()
	})
	slices.SortFunc(children, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	return children
}

func namesOf(spans []sdktrace.ReadOnlySpan) (names []string) {
	for _, s := range spans {
		names = append(names, s.Name())
	}
	return names
}

// reconcileWith waits for a reconcile of a resource that has reported a reason, and returns the first one.
func reconcileWith(obj *v1alpha1.AuditStream, reason string) (found sdktrace.ReadOnlySpan) {
	GinkgoHelper()
	Eventually(func() bool {
		roots := spansOf(spanReconcile, obj)
		i := slices.IndexFunc(roots, func(s sdktrace.ReadOnlySpan) bool { return valueOf(s, keyReason) == reason })
		if i >= 0 {
			found = roots[i]
		}
		return i >= 0
	}).Should(BeTrue())
	return found
}

var _ = Describe("Traces", func() {
	It("hold a reconcile, its steps and its requests to NATS", func() {
		f := newFixture()
		obj := f.auditStream("traced")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)

		root := reconcileWith(obj, v1alpha1.ReasonReady)
		Expect(root.Parent().IsValid()).To(BeFalse())
		Expect(root.Status().Code).To(Equal(codes.Unset))
		Expect(valueOf(root, keyGeneration)).To(Equal("1"))
		Expect(valueOf(root, keyStream)).To(Equal(f.stream))
		Expect(valueOf(root, keyReady)).To(Equal("True"))
		Expect(valueOf(root, keyResult)).To(Equal(resultDone))
		Expect(valueOf(root, keyReconcileID)).NotTo(BeEmpty())

		steps := childrenOf(root)
		Expect(namesOf(steps)).To(Equal([]string{"ensureFinalizer", "connect", "ensureStream", "ensureMigration", "report"}))
		requests := childrenOf(steps[2])
		Expect(namesOf(requests)).To(Equal([]string{"stream_info $JS.API.STREAM.INFO.{stream}", "stream_create $JS.API.STREAM.CREATE.{stream}"}))
		for _, s := range requests {
			Expect(s.SpanKind()).To(Equal(trace.SpanKindClient))
			Expect(s.Status().Code).To(Equal(codes.Unset), "that there is no stream yet is an answer")
			Expect(valueOf(s, "messaging.system")).To(Equal("nats"))
		}
		Expect(valueOf(requests[1], "messaging.destination.name")).To(Equal("$JS.API.STREAM.CREATE." + f.stream))
	})

	It("say why a resource is not ready", func() {
		f := newFixture()
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: f.stream, Subjects: []string{f.subject + ".>"}})
		Expect(err).NotTo(HaveOccurred())
		obj := f.auditStream("refused")
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonStreamNotOwned)

		root := reconcileWith(obj, v1alpha1.ReasonStreamNotOwned)
		Expect(root.Status()).To(Equal(sdktrace.Status{Code: codes.Error, Description: ready.Message}))
		Expect(valueOf(root, "error.type")).To(Equal(v1alpha1.ReasonStreamNotOwned))
		for _, step := range childrenOf(root) {
			want := codes.Unset
			if step.Name() == "ensureStream" {
				want = codes.Error
			}
			Expect(step.Status().Code).To(Equal(want), step.Name())
		}
	})

	It("hold the deletion of a stream", func() {
		f := newFixture()
		obj := f.auditStream("deleted", deleting)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(k8s.Delete(ctx, obj)).To(Succeed())
		Eventually(func() (requests []string) {
			for _, root := range spansOf(spanReconcile, obj) { // another pass may find the stream gone already
				for _, step := range childrenOf(root) {
					if step.Name() == "deleteStream" {
						requests = append(requests, namesOf(childrenOf(step))...)
					}
				}
			}
			return requests
		}).Should(ContainElement("stream_delete $JS.API.STREAM.DELETE.{stream}"))
	})

	It("of a copy are linked to the reconcile that set it off", func() {
		f := newFixture()
		kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: f.bucket})
		Expect(err).NotTo(HaveOccurred())
		_, err = kv.Put(ctx, "one", []byte(`{"id":"one"}`))
		Expect(err).NotTo(HaveOccurred())
		obj := f.auditStream("copied", f.migrating)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)

		var runs []sdktrace.ReadOnlySpan
		Eventually(func() []sdktrace.ReadOnlySpan { runs = spansOf(spanCopy, obj); return runs }).ShouldNot(BeEmpty())
		run := runs[0]
		Expect(valueOf(run, keyBucket)).To(Equal(f.bucket))
		Expect(valueOf(run, keyEntries+"migrated")).To(Equal("1"))
		Expect(valueOf(run, keyResult)).To(Equal(resultDone))
		Expect(run.Links()).To(HaveLen(1))
		origin := run.Links()[0].SpanContext
		Expect(origin.TraceID()).NotTo(Equal(run.SpanContext().TraceID()))
		steps := slices.DeleteFunc(recorded.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.SpanContext().SpanID() != origin.SpanID() })
		Expect(namesOf(steps)).To(Equal([]string{"ensureMigration"}))
		Expect(steps[0].Parent().TraceID()).To(Equal(origin.TraceID()))
		Expect(namesOf(childrenOf(run))).To(ContainElement("stream_update $JS.API.STREAM.UPDATE.{stream}"), "the checkpoint")
	})
})
