package controller

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// TestACopyThatEndsWithinAReconcile, after the stream was looked at, is counted with all its entries.
func TestACopyThatEndsWithinAReconcile(t *testing.T) {
	g := NewWithT(t)
	l := newLone(t)
	var look atomic.Pointer[func()] // happens when the bucket is looked at, which is after the stream
	l.Now = func() time.Time {
		if f := look.Swap(nil); f != nil {
			(*f)()
		}
		return time.Now()
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = l.copies.Start(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	g.Eventually(func() bool {
		l.copies.mu.Lock()
		defer l.copies.mu.Unlock()
		return l.copies.ctx != nil
	}, eventually).Should(BeTrue())
	for range maxCopies {
		l.copies.slots <- struct{}{}
	}

	g.Expect(testenv.FillLegacyBucket(ctx, l.js, testenv.LegacyBucket{Name: "audit-log", Entries: 5})).To(Succeed())
	obj := l.apply(func(o *v1alpha1.AuditStream) { o.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: "audit-log"}} })
	s := &scope{obj: obj}
	g.Expect(l.connect(ctx, s)).To(Succeed())
	g.Expect(l.ensureStream(ctx, s)).To(Succeed())
	complete := func() bool {
		l.copies.mu.Lock()
		defer l.copies.mu.Unlock()
		return l.copies.runs[copyID{resource: client.ObjectKeyFromObject(obj), bucket: "audit-log"}].reached.Complete()
	}
	letItEnd := func() {
		for range maxCopies {
			<-l.copies.slots
		}
		g.Eventually(complete, eventually).Should(BeTrue())
	}
	look.Store(&letItEnd)
	g.Expect(l.ensureMigration(ctx, s)).To(Succeed())

	g.Expect(s.buckets[0].phase).To(Equal(v1alpha1.MigrationComplete))
	g.Expect(s.live.State.Msgs).To(BeEquivalentTo(5))
}
