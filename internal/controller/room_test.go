package controller

import (
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

var _ = Describe("A stream that drops its oldest entries at maxBytes", func() {
	It("is filled from one bucket after the other, so that both count what the other needs", func() {
		f := newFixture()
		const n = 4000
		buckets := []string{f.bucket, f.bucket + "-2"}
		for _, bucket := range buckets {
			_, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket})
			Expect(err).NotTo(HaveOccurred())
			for i := range n {
				id := fmt.Sprintf("%s-%d", bucket, i)
				_, err := js.PublishAsync("$KV."+bucket+"."+id, fmt.Appendf(nil, `{"id":%q}`, id), jetstream.WithStallWait(eventually))
				Expect(err).NotTo(HaveOccurred())
			}
			Eventually(js.PublishAsyncComplete()).Should(BeClosed())
		}
		obj := f.auditStream("a", func(obj *v1alpha1.AuditStream) {
			quantity := resource.MustParse("2500k") // one needs some 1.8 MB
			obj.Spec.MaxBytes = &quantity
			for _, bucket := range buckets {
				obj.Spec.MigrateFrom = append(obj.Spec.MigrateFrom, v1alpha1.MigrationSource{Bucket: bucket})
			}
		})
		awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonStreamFull)
		state := liveStream(f.stream).State
		Expect(state.FirstSeq).To(BeEquivalentTo(1), "nothing was dropped")
		Expect(state.Msgs).To(BeEquivalentTo(n))
	})

	It("is not filled from a bucket that does not fit, and is once there is room", func() {
		f := newFixture()
		holding := func(bytes string) func(*v1alpha1.AuditStream) {
			return func(obj *v1alpha1.AuditStream) {
				quantity := resource.MustParse(bytes)
				obj.Spec.MaxBytes = &quantity
			}
		}
		obj := f.auditStream("a", holding("20Ki"))
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		_, err := js.Publish(ctx, f.subject+".native", []byte(`{"id":"native"}`))
		Expect(err).NotTo(HaveOccurred())
		kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: f.bucket})
		Expect(err).NotTo(HaveOccurred())
		const n = 100
		for i := range n {
			id := fmt.Sprintf("id-%d", i)
			_, err := kv.Put(ctx, id, fmt.Appendf(nil, `{"id":%q}`, id))
			Expect(err).NotTo(HaveOccurred())
		}

		By("saying so in a dry run")
		update(obj, func(obj *v1alpha1.AuditStream) {
			obj.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: f.bucket, DryRun: true}}
		})
		Eventually(func(g Gomega) {
			ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonDryRun)
			g.Expect(ready.Message).To(And(ContainSubstring("100 would be copied"), ContainSubstring("raise spec.maxBytes to at least ")))
		}).Should(Succeed())

		By("waiting for room")
		update(obj, f.migrating)
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonStreamFull)
		Expect(ready.Message).To(ContainSubstring("raise spec.maxBytes to at least "))
		awaitCondition(obj, v1alpha1.ConditionMigrated, metav1.ConditionFalse, v1alpha1.ReasonStreamFull)
		_, err = kv.Put(ctx, "late", []byte(`{"id":"late"}`))
		Expect(err).NotTo(HaveOccurred())
		Expect(liveStream(f.stream).State.LastSeq).To(BeEquivalentTo(1))

		By("going on by itself")
		update(obj, holding("1Mi"))
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		state := liveStream(f.stream).State
		Expect(state.FirstSeq).To(BeEquivalentTo(1))
		Expect(state.Msgs).To(BeEquivalentTo(n + 2))
	})
})
