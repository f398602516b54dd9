package controller

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsclient"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// eventually is less than the minute after which the operator looks again at what nothing has woken it for.
const eventually = 45 * time.Second

var (
	ctx        context.Context
	k8s        client.Client
	nats       *natstest.Server
	js         jetstream.JetStream
	reconciler *Reconciler
	statuses   *refusing
	seen       *revisions
)

func TestController(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(eventually)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	RunSpecs(t, "Controller")
}

var _ = BeforeSuite(func() {
	ctrl.SetLogger(zap.New(zap.WriteTo(GinkgoWriter), zap.UseDevMode(true)))
	var cancel context.CancelFunc
	ctx, cancel = context.WithCancel(context.Background())
	DeferCleanup(cancel)

	Expect(v1alpha1.AddToScheme(clientgoscheme.Scheme)).To(Succeed())
	plane, err := testenv.StartControlPlane(ctx, testenv.ControlPlaneOptions{Dir: GinkgoT().TempDir(), InstallCRDs: true})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(plane.Stop)
	k8s, err = client.New(plane.Config(), client.Options{})
	Expect(err).NotTo(HaveOccurred())

	nats = natstest.Run(GinkgoTB())
	js = nats.JetStream()
	seen = watchRevisions(ctx, plane.Config())
	startManager(plane)
})

// Whatever a test is about, every status that it has led to has to be one that GitOps tools read right.
var _ = AfterEach(func() { seen.expectNoFaults() })

// startManager runs the operator in the test process, which is what the tests of single situations need; the journeys
// in test/e2e run it as a process.
func startManager(plane *testenv.ControlPlane) {
	mgr, err := ctrl.NewManager(plane.Config(), ctrl.Options{
		Scheme: clientgoscheme.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
	})
	Expect(err).NotTo(HaveOccurred())
	statuses = &refusing{Client: mgr.GetClient()}
	reconciler = &Reconciler{
		Client: statuses, APIReader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("auditstream-operator"),
		Connection: jsclient.Config{URL: nats.URL()}, ResyncInterval: time.Hour, MaxConcurrentReconciles: 8,
		TracerProvider: recordedSpans,
	}
	pool := jsclient.NewPool(jsclient.PoolOptions{
		Log: ctrl.Log.WithName("nats"), OnEvent: reconciler.HandleEvent, DisconnectedAfter: time.Second,
	})
	reconciler.Pool = pool
	Expect(reconciler.SetupWithManager(ctx, mgr)).To(Succeed())
	managerCtx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- mgr.Start(managerCtx) }()
	DeferCleanup(func() {
		stop()
		Eventually(done).Should(Receive(BeNil()))
		pool.Close()
	})
}

// fixture is a namespace of its own for a test, and names that no other test uses.
type fixture struct {
	namespace string
	stream    string
	subject   string
	bucket    string
}

func newFixture() fixture {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	Expect(k8s.Create(ctx, ns)).To(Succeed())
	return fixture{namespace: ns.Name, stream: "S-" + ns.Name, subject: "s." + ns.Name, bucket: "b-" + ns.Name}
}

// auditStream creates a resource, changed as the test needs it.
func (f fixture) auditStream(name string, change ...func(*v1alpha1.AuditStream)) *v1alpha1.AuditStream {
	obj := &v1alpha1.AuditStream{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name},
		Spec:       v1alpha1.AuditStreamSpec{Stream: f.stream, Subject: f.subject, MaxAge: "30d"},
	}
	for _, c := range change {
		c(obj)
	}
	Expect(k8s.Create(ctx, obj)).To(Succeed())
	return obj
}

func (f fixture) migrating(obj *v1alpha1.AuditStream) {
	obj.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: f.bucket}}
}

func adopting(obj *v1alpha1.AuditStream) { obj.Spec.AdoptionPolicy = v1alpha1.AdoptionPolicyAdopt }
func deleting(obj *v1alpha1.AuditStream) { obj.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete }

// update changes the resource and tries again when somebody else was faster.
func update(obj *v1alpha1.AuditStream, change func(*v1alpha1.AuditStream)) {
	GinkgoHelper()
	Eventually(func() error {
		if err := k8s.Get(ctx, client.ObjectKeyFromObject(obj), obj); err != nil {
			return err
		}
		change(obj)
		return k8s.Update(ctx, obj)
	}).Should(Succeed())
}

// suspend has the operator leave the resource alone.
func suspend(obj *v1alpha1.AuditStream) {
	GinkgoHelper()
	update(obj, func(o *v1alpha1.AuditStream) { o.Spec.Suspend = true })
	awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
}

// awaitReady waits until Ready has the status and reason for the current generation, and returns it.
func awaitReady(obj *v1alpha1.AuditStream, status metav1.ConditionStatus, reason string) *metav1.Condition {
	GinkgoHelper()
	return awaitCondition(obj, v1alpha1.ConditionReady, status, reason)
}

func awaitCondition(obj *v1alpha1.AuditStream, kind string, status metav1.ConditionStatus, reason string) *metav1.Condition {
	GinkgoHelper()
	var condition *metav1.Condition
	Eventually(func(g Gomega) {
		g.Expect(k8s.Get(ctx, client.ObjectKeyFromObject(obj), obj)).To(Succeed())
		expectRules(g, obj)
		condition = meta.FindStatusCondition(obj.Status.Conditions, kind)
		g.Expect(condition).NotTo(BeNil())
		g.Expect([]any{condition.Status, condition.Reason}).To(Equal([]any{status, reason}), condition.Message)
		g.Expect(obj.Status.ObservedGeneration).To(Equal(obj.Generation))
		g.Expect(condition.ObservedGeneration).To(Equal(obj.Generation))
	}).Should(Succeed())
	return condition
}

// expectRules asserts what holds for every status the operator writes: the rules of kstatus, and that Ready rests on
// the facts below it.
func expectRules(g Gomega, obj *v1alpha1.AuditStream) {
	GinkgoHelper()
	if obj.Status.ObservedGeneration == -1 {
		g.Expect(obj.Status.Conditions).To(BeEmpty())
		return
	}
	conditions := obj.Status.Conditions
	find := func(kind string) *metav1.Condition { return meta.FindStatusCondition(conditions, kind) }
	ready := find(v1alpha1.ConditionReady)
	g.Expect(ready).NotTo(BeNil(), "Ready is always present")
	g.Expect(find(v1alpha1.ConditionReconciling) != nil && find(v1alpha1.ConditionStalled) != nil).To(BeFalse(), "never both")
	for _, kind := range []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		if c := find(kind); c != nil {
			g.Expect(c.Status).To(Equal(metav1.ConditionTrue), kind+" is present only while it is True")
			g.Expect(ready.Status).NotTo(Equal(metav1.ConditionTrue), kind+" goes with a Ready that is not True")
		}
	}
	if ready.Status == metav1.ConditionTrue {
		g.Expect(meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionStreamReady)).To(BeTrue(), "Ready needs StreamReady")
		if len(obj.Spec.MigrateFrom) > 0 && obj.Status.ObservedGeneration == obj.Generation {
			g.Expect(meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionMigrated)).To(BeTrue(), "Ready needs Migrated")
		}
	}
}

// eventsOf lists reasons and notes of the events of a resource.
func eventsOf(obj *v1alpha1.AuditStream) []string {
	GinkgoHelper()
	list := &eventsv1.EventList{}
	Expect(k8s.List(ctx, list, client.InNamespace(obj.Namespace))).To(Succeed())
	var texts []string
	for _, e := range list.Items {
		if e.Regarding.Name == obj.Name {
			texts = append(texts, e.Type+" "+e.Reason+": "+e.Note)
		}
	}
	return texts
}

func liveStream(name string) *jetstream.StreamInfo {
	GinkgoHelper()
	stream, err := js.Stream(ctx, name)
	Expect(err).NotTo(HaveOccurred())
	return stream.CachedInfo()
}

// tamper changes a stream as somebody else with the permission would.
func tamper(name string, change func(*jetstream.StreamConfig)) {
	GinkgoHelper()
	cfg := liveStream(name).Config
	change(&cfg)
	_, err := js.UpdateStream(ctx, cfg)
	Expect(err).NotTo(HaveOccurred())
}
