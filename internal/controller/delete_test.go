package controller

import (
	"context"
	"errors"
	"testing"

	"github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// A rule that a new CRD adds does not judge what is there already.
func TestAResourceOfWhichNoStreamCanBeMadeGoesWithItsStream(t *testing.T) {
	g := gomega.NewWithT(t)
	l := newLone(t)
	obj := l.apply(deleting)
	g.Expect(readyText(obj)).To(gomega.HavePrefix("True Ready"))
	half := resource.MustParse("9007199254740993.5")
	obj.Spec.MaxBytes = &half
	g.Expect(l.api.Update(t.Context(), obj)).To(gomega.Succeed())
	l.remove(obj)
	g.Expect(l.pass()).To(gomega.BeNil())
	g.Expect(l.streamExists()).To(gomega.BeFalse())
}

// Whoever wants to keep the stream at the last moment is heard, although the cache lags behind.
func TestTheStreamIsKeptForWhoeverHasChangedTheirMind(t *testing.T) {
	for name, save := range map[string]func(g gomega.Gomega, l *lone, obj *v1alpha1.AuditStream){
		"by the policy": func(g gomega.Gomega, l *lone, obj *v1alpha1.AuditStream) {
			obj.Spec.DeletionPolicy = v1alpha1.DeletionPolicyRetain
			g.Expect(l.api.Update(t.Context(), obj)).To(gomega.Succeed())
		},
		"by taking off the finalizer": func(g gomega.Gomega, l *lone, obj *v1alpha1.AuditStream) {
			obj.Finalizers = nil
			g.Expect(l.api.Update(t.Context(), obj)).To(gomega.Succeed())
		},
		"by a resource that is there in its place": func(g gomega.Gomega, l *lone, obj *v1alpha1.AuditStream) {
			obj.Finalizers = nil
			g.Expect(l.api.Update(t.Context(), obj)).To(gomega.Succeed())
			g.Expect(l.api.Create(t.Context(), &v1alpha1.AuditStream{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "another", Finalizers: []string{Finalizer}},
				Spec:       v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit", DeletionPolicy: v1alpha1.DeletionPolicyDelete},
			})).To(gomega.Succeed())
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := gomega.NewWithT(t)
			l := newLone(t)
			obj := l.apply(deleting)
			l.remove(obj)
			g.Expect(l.api.Get(t.Context(), clientKey(obj), obj)).To(gomega.Succeed())
			cached := obj.DeepCopy()
			l.intercept(interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
				if stream, ok := into.(*v1alpha1.AuditStream); ok {
					cached.DeepCopyInto(stream)
					return nil
				}
				return c.Get(ctx, key, into, opts...)
			}})
			save(g, l, obj)
			l.pass()
			g.Expect(l.streamExists()).To(gomega.BeTrue())
		})
	}
}

// Somebody else's change in between is no fault: the resource is looked at again as it is then.
func TestAConflictOverTheFinalizersIsNotReported(t *testing.T) {
	g := gomega.NewWithT(t)
	l := newLone(t)
	obj := l.apply()
	l.told()
	obj.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete
	g.Expect(l.api.Update(t.Context(), obj)).To(gomega.Succeed())
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "auditstreams"}, "a", errors.New("changed"))
	l.intercept(interceptor.Funcs{Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
		return conflict
	}})
	for _, deleted := range []bool{false, true} {
		if deleted {
			obj.Finalizers = []string{Finalizer}
			g.Expect(l.api.Update(t.Context(), obj)).To(gomega.Succeed())
			l.remove(obj)
		}
		result, err := l.Reconcile(t.Context(), ctrl.Request{NamespacedName: clientKey(obj)})
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(result.RequeueAfter).To(gomega.BeNumerically(">", 0))
		g.Expect(l.told()).To(gomega.BeEmpty())
		g.Expect(l.api.Get(t.Context(), clientKey(obj), obj)).To(gomega.Succeed())
		g.Expect(readyText(obj)).To(gomega.HavePrefix("True Ready"))
	}
}
