package controller

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsclient"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// lone is a reconciler without a manager, whose reconciles the test makes one by one, against a real nats-server and an API
// server in which the test can make faults.
type lone struct {
	*Reconciler
	t      *testing.T
	api    client.WithWatch
	js     jetstream.JetStream
	events *events.FakeRecorder
}

func newLone(t *testing.T, options ...natstest.Option) *lone {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	api := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.AuditStream{}).
		WithObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: clusterNamespace, UID: "cluster"}}).
		WithIndex(&v1alpha1.AuditStream{}, indexStream, concernedStreams).Build()
	server := natstest.Run(t, options...)
	l := &lone{t: t, api: api, js: server.JetStream(), events: events.NewFakeRecorder(100)}
	l.Reconciler = &Reconciler{
		Client: api, APIReader: api, Recorder: l.events, Connection: jsclient.Config{URL: server.URL()}, Now: time.Now,
		ResyncInterval: time.Hour, TracerProvider: noop.NewTracerProvider(),
	}
	l.Pool = jsclient.NewPool(jsclient.PoolOptions{OnEvent: l.HandleEvent})
	t.Cleanup(l.Pool.Close)
	var err error
	if l.metrics, err = newMetrics(prometheus.NewRegistry(), l.Now); err != nil {
		t.Fatal(err)
	}
	l.copies = newCopies(l.enqueue, l.Now)
	l.changes, l.overwrites = newWakeups(changesAtOnce, changesEvery), newWakeups(overwritesAtOnce, overwritesEvery)
	l.queue.q = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[ctrl.Request]())
	t.Cleanup(l.queue.q.ShutDown)
	return l
}

// intercept makes faults in what the reconciler asks of the API server.
func (l *lone) intercept(funcs interceptor.Funcs) {
	l.Client = interceptor.NewClient(l.api, funcs)
}

// stopClock has no time go by for the reconciler. It is called before the first reconcile.
func (l *lone) stopClock() {
	now := time.Now()
	l.Now = func() time.Time { return now }
}

// apply creates the resource ns/a, changed as the test needs it, and reconciles it once.
func (l *lone) apply(change ...func(*v1alpha1.AuditStream)) *v1alpha1.AuditStream {
	l.t.Helper()
	obj := &v1alpha1.AuditStream{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", Generation: 1},
		Spec:       v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit", MaxAge: "30d"},
	}
	for _, c := range change {
		c(obj)
	}
	if err := l.api.Create(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
	return l.pass()
}

// pass reconciles ns/a once, and returns it as it is then; nil when it is gone.
func (l *lone) pass() *v1alpha1.AuditStream {
	l.t.Helper()
	key := client.ObjectKey{Namespace: "ns", Name: "a"}
	if _, err := l.Reconcile(l.t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
		l.t.Logf("Reconcile: %v", err)
	}
	obj := &v1alpha1.AuditStream{}
	if err := l.api.Get(l.t.Context(), key, obj); err != nil {
		if client.IgnoreNotFound(err) != nil {
			l.t.Fatal(err)
		}
		return nil
	}
	return obj
}

func (l *lone) remove(obj *v1alpha1.AuditStream) {
	l.t.Helper()
	if err := l.api.Delete(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

// told are the events since the last call.
func (l *lone) told() (all []string) {
	for {
		select {
		case e := <-l.events.Events:
			all = append(all, e)
		default:
			return all
		}
	}
}

func (l *lone) streamExists() bool {
	_, err := l.js.Stream(context.Background(), "AUDIT")
	return err == nil
}

// readyText is status, reason and message of Ready.
func readyText(obj *v1alpha1.AuditStream) string {
	c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionReady)
	if c == nil {
		return ""
	}
	return string(c.Status) + " " + c.Reason + ": " + c.Message
}
