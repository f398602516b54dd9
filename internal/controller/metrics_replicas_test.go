package controller

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

func TestAResyncWakesWhatIsBehind(t *testing.T) {
	clock := startTime
	m, _ := newTestMetrics(t, &clock)
	s := everyFigure()
	s.obj.Spec.Stream, s.obj.Spec.Subject = "S", "s"
	r := &Reconciler{clusterUID: "cluster", metrics: m, Now: func() time.Time { return clock }}
	want, err := r.desired(t.Context(), s.obj)
	if err != nil {
		t.Fatal(err)
	}
	live := func(current bool) *jetstream.StreamInfo {
		return &jetstream.StreamInfo{
			Config: jetstream.StreamConfig{Replicas: 2, Metadata: map[string]string{jsbuilder.MetadataOwner: want.Metadata[jsbuilder.MetadataOwner]}},
			Cluster: &jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{
				{Name: "n2", Current: current},
			}},
		}
	}
	if !r.lookAt(t.Context(), s.obj, live(false)) {
		t.Error("a stream with a replica behind is left until the next resync")
	}
	if r.lookAt(t.Context(), s.obj, live(true)) {
		t.Error("a stream that lacks nothing is looked at again")
	}
	s.obj.Spec.Suspend = true
	if r.lookAt(t.Context(), s.obj, live(false)) {
		t.Error("a suspended resource is looked at again")
	}
}

var _ = Describe("A stream with a replica behind", func() {
	It("is looked at again within a minute, and costs no write", func() {
		r := newRehearsal(0)
		reconcile := func(current bool) time.Duration {
			GinkgoHelper()
			Expect(k8s.Get(ctx, client.ObjectKeyFromObject(r.obj), r.obj)).To(Succeed())
			live := everyFigure().live
			live.Created = startTime
			live.Cluster.Replicas[1].Offline = !current
			result, err := r.finish(ctx, &scope{obj: r.obj, live: live, streamReady: true}, nil)
			Expect(err).NotTo(HaveOccurred())
			r.clock = r.clock.Add(time.Hour)
			return result.RequeueAfter
		}
		Expect(reconcile(true)).To(BeZero())
		before := r.writes()
		Expect(reconcile(false)).To(Equal(slowRetry))
		Expect(reconcile(false)).To(Equal(slowRetry))
		Expect(reconcile(true)).To(BeZero())
		Expect(r.writes()).To(Equal(before))
	})
})
