package upgrade

import (
	"context"
	"slices"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	toolswatch "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// readiness is what a GitOps tool sees: every version of the resources that has been.
type readiness struct {
	mu  sync.Mutex
	not []string
}

// watchReady notes whenever a resource that is looked after is not Ready.
func watchReady(ctx context.Context) *readiness {
	GinkgoHelper()
	list := &v1alpha1.AuditStreamList{}
	Expect(env.K8s.List(ctx, list, client.InNamespace(namespace))).To(Succeed())
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	watcher, err := toolswatch.NewRetryWatcherWithContext(ctx, list.ResourceVersion, lister{})
	Expect(err).NotTo(HaveOccurred())
	r := &readiness{}
	done := make(chan struct{})
	DeferCleanup(func() { stop(); watcher.Stop(); <-done })
	go func() {
		defer close(done)
		for event := range watcher.ResultChan() {
			if obj, ok := event.Object.(*v1alpha1.AuditStream); ok && slices.Contains(lookedAfter, obj.Name) {
				r.note(obj)
			}
		}
	}()
	return r
}

func (r *readiness) note(obj *v1alpha1.AuditStream) {
	c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionReady)
	if c != nil && c.Status == metav1.ConditionTrue {
		return
	}
	said := "no condition"
	if c != nil {
		said = c.Reason + ": " + c.Message
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.not = append(r.not, obj.Name+" "+said)
}

func (r *readiness) lapses() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.not)
}

// lister has the watch begun again where an apply of the CRD has ended it.
type lister struct{}

func (lister) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	return env.K8s.Watch(ctx, &v1alpha1.AuditStreamList{}, client.InNamespace(namespace), &client.ListOptions{Raw: &options})
}
