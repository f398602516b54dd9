package controller

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsclient"
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

// What wakes reconciles runs in goroutines of its own: a panic there would end the operator.
func TestAPanicBesideTheReconcilesIsLogged(t *testing.T) {
	g := gomega.NewWithT(t)
	l := newLone(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	lists := 0
	l.ResyncInterval = time.Millisecond
	l.intercept(interceptor.Funcs{List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
		if lists++; lists == 3 {
			cancel()
		}
		panic("a defect")
	}})
	var log strings.Builder
	ctx = ctrllog.IntoContext(ctx, funcr.New(func(prefix, args string) { log.WriteString(prefix + args) }, funcr.Options{}))
	l.HandleEvent(l.Connection, jsclient.Event{Kind: jsclient.Connected})
	g.Expect(lists).To(gomega.Equal(1))
	g.Expect(l.resyncLoop(ctx)).To(gomega.Succeed())
	g.Expect(lists).To(gomega.BeNumerically(">=", 3))
	g.Expect(log.String()).To(gomega.ContainSubstring("a defect"))
}
