package controller

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// refusing is the operator's client to an API server that, for some resources, takes no status.
type refusing struct {
	client.Client
	refused sync.Map // from client.ObjectKey to how often
}

func (r *refusing) Status() client.SubResourceWriter {
	return refusingStatus{r.Client.Status(), r}
}

type refusingStatus struct {
	client.SubResourceWriter
	by *refusing
}

func (s refusingStatus) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
	if times, refused := s.by.refused.Load(client.ObjectKeyFromObject(obj)); refused {
		times.(*atomic.Int64).Add(1)
		return errors.New("the API server takes no status")
	}
	return s.SubResourceWriter.Patch(ctx, obj, patch, opts...)
}

// refuse has the API server take no status of a resource until the returned function is called, which also waits until that has
// been tried several times.
func refuse(obj *v1alpha1.AuditStream) (allow func()) {
	key, times := client.ObjectKeyFromObject(obj), &atomic.Int64{}
	statuses.refused.Store(key, times)
	DeferCleanup(statuses.refused.Delete, key)
	return func() {
		GinkgoHelper()
		Eventually(times.Load).Should(BeNumerically(">=", 3))
		statuses.refused.Delete(key)
	}
}

var _ = Describe("While the API server takes no status", func() {
	var f fixture
	BeforeEach(func() { f = newFixture() })
	losses := func(obj *v1alpha1.AuditStream) float64 {
		return testutil.ToFloat64(reconciler.metrics.losses.WithLabelValues(obj.Namespace, obj.Name))
	}

	It("what is healed is told all the same, once", func() {
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		allow := refuse(obj)
		_, err := js.Publish(ctx, f.subject+".one", []byte("{}")) // so that there is a status to write
		Expect(err).NotTo(HaveOccurred())
		reconciler.patches.forget(client.ObjectKeyFromObject(obj)) // and no reason to wait with it
		tamper(f.stream, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour; c.Duplicates = time.Minute })
		Eventually(func() time.Duration { return liveStream(f.stream).Config.MaxAge }).Should(Equal(720 * time.Hour))
		allow()
		Eventually(func() []string { return eventsOf(obj) }).Should(ContainElement(HavePrefix("Warning DriftHealed: ")))
		Expect(testutil.ToFloat64(reconciler.metrics.drift.WithLabelValues(obj.Namespace, obj.Name, "max_age"))).To(BeEquivalentTo(1))
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})

	It("a loss is counted once", func() {
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		allow := refuse(obj)
		Expect(js.DeleteStream(ctx, f.stream)).To(Succeed())
		Eventually(func() error { _, err := js.Stream(ctx, f.stream); return err }).Should(Succeed())
		allow()
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated)
		Eventually(func() float64 { return losses(obj) }).Should(BeEquivalentTo(1)) // a moment after the status says so
		reconciler.enqueue(client.ObjectKeyFromObject(obj))
		Consistently(func() float64 { return losses(obj) }, 200*time.Millisecond).Should(BeEquivalentTo(1))
	})

	It("a loss is counted once also where what took the stream's place cannot be put right", func() {
		obj := f.auditStream("a", adopting)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		suspend(obj)
		Expect(js.DeleteStream(ctx, f.stream)).To(Succeed())
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: f.stream, Subjects: []string{f.subject + ".>"}, Storage: jetstream.MemoryStorage})
		Expect(err).NotTo(HaveOccurred())
		update(obj, func(o *v1alpha1.AuditStream) { o.Spec.Suspend = false })
		awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonImmutableField)
		version := obj.ResourceVersion
		Eventually(func() float64 { return losses(obj) }).Should(BeEquivalentTo(1))
		for range 3 {
			reconciler.enqueue(client.ObjectKeyFromObject(obj))
			Consistently(func() float64 { return losses(obj) }, 200*time.Millisecond).Should(BeEquivalentTo(1))
		}
		Expect(k8s.Get(ctx, client.ObjectKeyFromObject(obj), obj)).To(Succeed())
		Expect(obj.ResourceVersion).To(Equal(version), "nothing is written while nothing changes")
	})
})
