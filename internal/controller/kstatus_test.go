package controller

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/yaml"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/test/argocd"
)

// healing are the reasons that pass without a change of the resource or of what it collides with: NATS or the account is
// mended, a bucket is made, or nothing has to be done at all. None of them may ever be taken for a failure.
var healing = []string{
	v1alpha1.ReasonMigrating, v1alpha1.ReasonHandingOver, v1alpha1.ReasonBucketNotFound, v1alpha1.ReasonClockSkew,
	v1alpha1.ReasonPlacementFailed, v1alpha1.ReasonServerTooOld, v1alpha1.ReasonResourcesExhausted, v1alpha1.ReasonStreamDeleted,
	v1alpha1.ReasonJetStreamUnavailable, v1alpha1.ReasonNATSUnavailable, v1alpha1.ReasonAuthenticationFailed,
	v1alpha1.ReasonPermissionDenied, v1alpha1.ReasonDeleting, v1alpha1.ReasonReconcileError, v1alpha1.ReasonSuspended,
	v1alpha1.ReasonDryRun,
}

// revisions is everything that anybody who watches AuditStreams gets to see while the suite runs.
type revisions struct {
	mu     sync.Mutex
	seen   map[types.UID][]*unstructured.Unstructured
	faults []string
	ended  bool
}

// watchRevisions begins with what is made from now on.
func watchRevisions(ctx context.Context, config *rest.Config) *revisions {
	GinkgoHelper()
	dyn, err := dynamic.NewForConfig(config)
	Expect(err).NotTo(HaveOccurred())
	streams := dyn.Resource(v1alpha1.GroupVersion.WithResource("auditstreams"))
	before, err := streams.List(ctx, metav1.ListOptions{})
	Expect(err).NotTo(HaveOccurred())
	// It goes on from what it has seen last when the API server, or a connection that is slow, ends a watch.
	w, err := watchtools.NewRetryWatcherWithContext(ctx, before.GetResourceVersion(), &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return streams.Watch(ctx, options)
		},
	})
	Expect(err).NotTo(HaveOccurred())
	r := &revisions{seen: map[types.UID][]*unstructured.Unstructured{}}
	go r.record(w)
	DeferCleanup(w.Stop)
	return r
}

func (r *revisions) record(w watch.Interface) {
	for event := range w.ResultChan() {
		r.note(event)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

func (r *revisions) note(event watch.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u, ok := event.Object.(*unstructured.Unstructured)
	if !ok {
		r.faults = append(r.faults, fmt.Sprintf("the watch failed: %v", event))
		return
	}
	r.seen[u.GetUID()] = append(r.seen[u.GetUID()], u)
	if fault := judge(event.Type, u); fault != nil {
		text, _ := yaml.Marshal(u) // it shows all there is
		r.faults = append(r.faults, fmt.Sprintf("%s %s/%s: %v\n%s", event.Type, u.GetNamespace(), u.GetName(), fault, text))
	}
}

// of are the revisions of a resource.
func (r *revisions) of(uid types.UID) []*unstructured.Unstructured {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen[uid])
}

// expectNoFaults waits until every status that is there now has been judged.
func (r *revisions) expectNoFaults() {
	GinkgoHelper()
	list := &v1alpha1.AuditStreamList{}
	Expect(k8s.List(ctx, list)).To(Succeed())
	for i := range list.Items {
		obj := &list.Items[i]
		Eventually(func() uint64 {
			all := r.of(obj.UID)
			if len(all) == 0 {
				return 0
			}
			return version(all[len(all)-1])
		}).Should(BeNumerically(">=", version(obj)), "%s/%s was not seen", obj.Namespace, obj.Name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	faults := r.faults
	r.faults = nil // one test's faults are not the next one's
	Expect(faults).To(BeEmpty())
	Expect(r.ended).To(BeFalse(), "the watch ended before the suite")
}

func version(obj metav1.Object) uint64 {
	GinkgoHelper()
	v, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	Expect(err).NotTo(HaveOccurred())
	return v
}

// judge has kstatus and Argo CD's health.lua say how a resource stands, and compares that with what is so.
func judge(event watch.EventType, u *unstructured.Unstructured) error {
	obj := &v1alpha1.AuditStream{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, obj); err != nil {
		return err
	}
	result, err := status.Compute(u)
	if err != nil {
		return err
	}
	if want := expected(obj); result.Status != want {
		return fmt.Errorf("kstatus is %s (%s), and has to be %s", result.Status, result.Message, want)
	}
	if event == watch.Added && (obj.Status.ObservedGeneration != -1 || result.Status != status.InProgressStatus) {
		return fmt.Errorf("a fresh resource is %s, with the observed generation %d", result.Status, obj.Status.ObservedGeneration)
	}
	if err := judgeMigrated(obj); err != nil {
		return err
	}
	if result.Status == status.FailedStatus {
		if stalled := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionStalled); slices.Contains(healing, stalled.Reason) {
			return fmt.Errorf("%s passes by itself, and the resource is %s", stalled.Reason, result.Status)
		}
	}
	health, err := argocd.HealthOf(u.Object)
	if err != nil {
		return err
	}
	if !slices.Contains(healthOf[result.Status], health.Status) {
		return fmt.Errorf("kstatus is %s, and Argo CD's health is %s (%s)", result.Status, health.Status, health.Message)
	}
	return nil
}

// judgeMigrated holds Migrated to what status says of every bucket that this generation declares.
func judgeMigrated(obj *v1alpha1.AuditStream) error {
	c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionMigrated)
	if c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != obj.Generation {
		return nil
	}
	for _, source := range obj.Spec.MigrateFrom {
		if !slices.ContainsFunc(obj.Status.Migration, func(b v1alpha1.BucketMigration) bool {
			return b.Bucket == source.Bucket && b.CompletionTime != nil
		}) {
			return fmt.Errorf("migrated is True, and bucket %s is not known as copied", source.Bucket)
		}
	}
	return nil
}

// healthOf is what Argo CD may show for each status of kstatus, which knows no Suspended.
var healthOf = map[status.Status][]string{
	status.CurrentStatus:     {argocd.Healthy},
	status.InProgressStatus:  {argocd.Progressing, argocd.Suspended},
	status.FailedStatus:      {argocd.Degraded},
	status.TerminatingStatus: {argocd.Progressing},
}

// expected is the status that a reader of the facts would give, without looking at how kstatus computes it: Current needs
// that everything below Ready says so too, of this very generation.
func expected(obj *v1alpha1.AuditStream) status.Status {
	is := func(kind string) bool {
		c := meta.FindStatusCondition(obj.Status.Conditions, kind)
		return c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration == obj.Generation
	}
	switch {
	case !obj.DeletionTimestamp.IsZero():
		return status.TerminatingStatus
	case obj.Status.ObservedGeneration != obj.Generation:
		return status.InProgressStatus
	case is(v1alpha1.ConditionStalled):
		return status.FailedStatus
	case is(v1alpha1.ConditionReady) && is(v1alpha1.ConditionStreamReady) && (len(obj.Spec.MigrateFrom) == 0 || is(v1alpha1.ConditionMigrated)):
		return status.CurrentStatus
	default:
		return status.InProgressStatus
	}
}
