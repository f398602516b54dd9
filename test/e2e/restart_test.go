package e2e

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/kubernetes"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

var _ = Describe("Restarting the operator", Label("restart"), func() {
	It("writes nothing when nothing has changed", func(ctx SpecContext) {
		ns := newNamespace(ctx)
		fill(ctx, testenv.LegacyBucket{Name: bucketOf(ns), Entries: 100})
		for _, s := range []*v1alpha1.AuditStream{
			stream(ctx, ns, "plain"),
			stream(ctx, ns, "migrated", migrateFrom(bucketOf(ns))),
			stream(ctx, ns, "deletable", deletionPolicy(v1alpha1.DeletionPolicyDelete)),
		} {
			Eventually(now(s), soon).WithContext(ctx).Should(beReady())
		}
		onlyThese(ctx, 3)
		stopOperator(ctx)
		before, err := writes(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(before).To(BeNumerically(">", 0), "the count works")

		startOperator(ctx)
		Eventually(reconciles, soon).WithContext(ctx).Should(BeNumerically(">=", 3))
		Consistently(writes, aWhile).WithContext(ctx).Should(Equal(before))
	}, SpecTimeout(journeyTimeout))

	It("hands over to a second operator that waits for the lease", Label("leader-election"), func(ctx SpecContext) {
		stopOperator(ctx)
		args := []string{"--leader-elect", "--leader-election-namespace=" + testenv.OperatorNamespace}
		startOperator(ctx, args...)
		s := stream(ctx, newNamespace(ctx), "before")
		Eventually(now(s), soon).WithContext(ctx).Should(beReady())

		second, err := newOperator(ctx, args...)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx SpecContext) error { return second.Stop(ctx) })
		stopOperator(ctx)
		s = stream(ctx, s.Namespace, "after")
		Eventually(now(s), withinAMinute).WithContext(ctx).Should(beReady())
	}, SpecTimeout(journeyTimeout))
})

// onlyThese waits until the resources of other journeys are gone.
func onlyThese(ctx context.Context, n int) {
	GinkgoHelper()
	Eventually(func(ctx context.Context) ([]v1alpha1.AuditStream, error) {
		list := &v1alpha1.AuditStreamList{}
		err := env.k8s.List(ctx, list)
		return list.Items, err
	}, withinAMinute).WithContext(ctx).Should(HaveLen(n))
}

// writes is how many requests the API server has had that write AuditStreams or events.
func writes(ctx context.Context) (float64, error) {
	k8s, err := kubernetes.NewForConfig(env.cp.Config())
	if err != nil {
		return 0, err
	}
	text, err := k8s.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	return sum(bytes.NewReader(text), "apiserver_request_total", func(labels map[string]string) bool {
		switch labels["verb"] {
		case http.MethodPost, http.MethodPut, http.MethodPatch, "APPLY":
			return labels["resource"] == "auditstreams" || labels["resource"] == "events"
		}
		return false
	})
}

// reconciles is how many reconciles the operator has finished.
func reconciles(ctx context.Context) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, env.operator.MetricsURL, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	return sum(response.Body, "controller_runtime_reconcile_total", func(map[string]string) bool { return true })
}

var label = regexp.MustCompile(`(\w+)="([^"]*)"`)

// sum adds up the samples of a counter whose labels count.
func sum(text io.Reader, name string, counts func(labels map[string]string) bool) (float64, error) {
	var total float64
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		rest, found := strings.CutPrefix(lines.Text(), name+"{")
		if !found {
			continue
		}
		labels := map[string]string{}
		for _, match := range label.FindAllStringSubmatch(rest, -1) {
			labels[match[1]] = match[2]
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndex(rest, " ")+1:], 64)
		if err != nil {
			return 0, err
		}
		if counts(labels) {
			total += value
		}
	}
	return total, lines.Err()
}
