package baddays

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

const (
	bulk = 500
	// requestsEach is how many requests a resource may cost, to the JetStream API or about it to the API server. It takes three of each.
	requestsEach = 10
)

var _ = Describe("Many resources at once", func() {
	It("are all Ready after one kubectl apply of 500, and nothing is written once they are", func(ctx SpecContext) {
		ns := newNamespace(ctx, "bulk")
		path := filepath.Join(env.Dir, "bulk.yaml")
		Expect(os.WriteFile(path, []byte(manyResources(ns)), 0o600)).To(Succeed())
		requests, writes := countRequests(), serverRequests(ctx)

		began := time.Now()
		kubectl(ctx, "apply", "--server-side", "-f", path)
		applied := time.Since(began)
		Eventually(func(ctx context.Context) (int, error) { return countReady(ctx, ns) }, eventually).WithContext(ctx).Should(Equal(bulk))
		took, sent, served := time.Since(began), requests.Load(), serverRequests(ctx)-writes
		AddReportEntry(fmt.Sprintf("%d resources: applied by kubectl after %s, all Ready after %s; %d requests to the JetStream API (%.1f each), "+
			"%.0f requests about auditstreams and events to the API server (%.1f each, those of kubectl and of this test among them)",
			bulk, applied.Round(time.Millisecond), took.Round(time.Millisecond), sent, float64(sent)/bulk, served, served/bulk))
		Expect(sent).To(BeNumerically("<=", bulk*requestsEach))
		Expect(served).To(BeNumerically("<=", bulk*requestsEach))

		for i := range bulk {
			Expect(liveStream(ctx, fmt.Sprintf("bulk-%d", i)).Config.Subjects).To(ConsistOf(fmt.Sprintf("bulk_%d.>", i)))
		}
		versions := resourceVersions(ctx, ns)
		kubectl(ctx, "apply", "--server-side", "-f", path)
		Expect(countReady(ctx, ns)).To(Equal(bulk))
		Expect(resourceVersions(ctx, ns)).To(Equal(versions), "the same apply again changes nothing")
	}, SpecTimeout(journeyTimeout))
})

func manyResources(namespace string) string {
	var b strings.Builder
	for i := range bulk {
		fmt.Fprintf(&b, "---\napiVersion: audit.osapi.io/v1alpha1\nkind: AuditStream\nmetadata: {name: bulk-%d, namespace: %s}\n"+
			"spec: {stream: BULK_%d, subject: bulk_%d, maxAge: 30d}\n", i, namespace, i, i)
	}
	return b.String()
}

func countReady(ctx context.Context, namespace string) (int, error) {
	list := &v1alpha1.AuditStreamList{}
	if err := env.K8s.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return 0, err
	}
	n := 0
	for i := range list.Items {
		if meta.IsStatusConditionTrue(list.Items[i].Status.Conditions, v1alpha1.ConditionReady) {
			n++
		}
	}
	return n, nil
}

func resourceVersions(ctx context.Context, namespace string) map[string]string {
	GinkgoHelper()
	list := &v1alpha1.AuditStreamList{}
	Expect(env.K8s.List(ctx, list, client.InNamespace(namespace))).To(Succeed())
	versions := map[string]string{}
	for i := range list.Items {
		versions[list.Items[i].Name] = list.Items[i].ResourceVersion
	}
	return versions
}

// countRequests counts the requests to the JetStream API: they are messages, which a subscription sees.
func countRequests() *atomic.Int64 {
	GinkgoHelper()
	nc, err := env.Dial()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(nc.Close)
	n := &atomic.Int64{}
	_, err = nc.Subscribe("$JS.API.>", func(*nats.Msg) { n.Add(1) })
	Expect(err).NotTo(HaveOccurred())
	Expect(nc.Flush()).To(Succeed())
	return n
}

// serverRequests is how many requests about AuditStreams and events the API server says that it has served.
func serverRequests(ctx context.Context) float64 {
	GinkgoHelper()
	raw, err := kubernetes.NewForConfig(env.CP.Config())
	Expect(err).NotTo(HaveOccurred())
	text, err := raw.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	Expect(err).NotTo(HaveOccurred())
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		about := strings.Contains(line, `resource="auditstreams"`) || strings.Contains(line, `resource="events"`)
		if !about || !strings.HasPrefix(line, "apiserver_request_total{") {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
		Expect(err).NotTo(HaveOccurred())
		sum += value
	}
	return sum
}
