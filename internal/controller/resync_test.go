package controller

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// A spec from which no stream can be built is for the reconcile to report, also where the stream has had buckets.
func TestASpecThatCannotBeBuiltIsStale(t *testing.T) {
	live := &jetstream.StreamInfo{Created: startTime, Config: jetstream.StreamConfig{
		Name: "S", Subjects: []string{"s.>"},
		SubjectTransform: &jetstream.SubjectTransformConfig{Source: "$KV.*.>", Destination: "s.>"},
	}}
	obj := &v1alpha1.AuditStream{
		Spec: v1alpha1.AuditStreamSpec{Stream: "S", Subject: "no subject"},
		Status: v1alpha1.AuditStreamStatus{
			Stream:     streamState(live),
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}},
		},
	}
	r := &Reconciler{clusterUID: "cluster"}
	gomega.NewWithT(t).Expect(r.stale(t.Context(), obj, map[string]*jetstream.StreamInfo{"S": live})).To(gomega.BeTrue())
}

// A finalizer that somebody has taken off is put back: without it the stream would stay behind.
func TestAResourceWithoutItsFinalizerIsStale(t *testing.T) {
	g := gomega.NewWithT(t)
	l := newLone(t)
	obj := l.apply(deleting)
	stream, err := l.js.Stream(t.Context(), "AUDIT")
	g.Expect(err).NotTo(gomega.HaveOccurred())
	streams := map[string]*jetstream.StreamInfo{"AUDIT": stream.CachedInfo()}
	g.Expect(l.stale(t.Context(), obj, streams)).To(gomega.BeFalse())
	obj.Finalizers = nil
	g.Expect(l.stale(t.Context(), obj, streams)).To(gomega.BeTrue())
	obj.Spec.Suspend = true
	g.Expect(l.stale(t.Context(), obj, streams)).To(gomega.BeTrue())
}
