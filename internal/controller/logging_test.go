package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

var _ = Describe("The log", func() {
	var log *gbytes.Buffer
	BeforeEach(func() {
		log = gbytes.NewBuffer()
		GinkgoWriter.TeeTo(log)
		DeferCleanup(GinkgoWriter.ClearTeeWriters)
	})
	// linesOf are the messages that were logged about a resource, with its trace where the line names one.
	linesOf := func(obj *v1alpha1.AuditStream) (messages []string) {
		for line := range strings.SplitSeq(string(log.Contents()), "\n") {
			fields := strings.SplitN(line, "\t", 4) // time, level, message and values
			if len(fields) < 4 || !strings.Contains(line, `"namespace": "`+obj.Namespace+`", "name": "`+obj.Name+`"`) {
				continue
			}
			values := map[string]any{}
			Expect(json.Unmarshal([]byte(fields[3][strings.Index(fields[3], "{"):]), &values)).To(Succeed(), line)
			Expect(values["trace_id"]).To(MatchRegexp("^[0-9a-f]{32}$"), line)
			messages = append(messages, fields[2])
		}
		return messages
	}
	// reconcileAgain has the operator look at the resource n times, and waits for it.
	reconcileAgain := func(obj *v1alpha1.AuditStream, n int) {
		GinkgoHelper()
		for range n {
			before := len(spansOf(spanReconcile, obj))
			Expect(reconciler.resync(ctx)).To(Succeed())
			reconciler.enqueue(client.ObjectKeyFromObject(obj))
			Eventually(func() int { return len(spansOf(spanReconcile, obj)) }).Should(BeNumerically(">", before))
		}
	}

	It("says nothing of a resource that stays as it is, and one line of a change", func() {
		f := newFixture()
		obj := f.auditStream("logged")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Eventually(func() []string { return linesOf(obj) }).Should(Equal([]string{"Created the stream", "Changed readiness"}))

		By("resyncs")
		reconcileAgain(obj, 5)
		Expect(linesOf(obj)).To(HaveLen(2))

		By("a change of the spec")
		update(obj, func(o *v1alpha1.AuditStream) { o.Spec.MaxAge = "60d" })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		reconcileAgain(obj, 3)
		Expect(linesOf(obj)[2:]).To(Equal([]string{"Updated the stream"}))

		By("drift")
		tamper(f.stream, func(cfg *jetstream.StreamConfig) { cfg.MaxAge = time.Hour })
		Eventually(func() time.Duration { return liveStream(f.stream).Config.MaxAge }).Should(Equal(60 * 24 * time.Hour))
		reconcileAgain(obj, 3)
		Expect(linesOf(obj)[3:]).To(Equal([]string{"Healed drift"}))

		By("suspending")
		suspend(obj)
		reconcileAgain(obj, 3)
		Expect(linesOf(obj)[4:]).To(Equal([]string{"Changed readiness"}))
	})

	It("says once why a resource is not ready", func() {
		f := newFixture()
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: f.stream, Subjects: []string{f.subject + ".>"}})
		Expect(err).NotTo(HaveOccurred())
		obj := f.auditStream("refused")
		awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonStreamNotOwned)
		reconcileAgain(obj, 3)
		Expect(linesOf(obj)).To(Equal([]string{"Changed readiness"}))
	})
})

// A reconcile that fails again and again is told when its error changes. controller-runtime would tell of each try.
func TestAFailingReconcileIsLoggedWhenItsErrorChanges(t *testing.T) {
	g := NewWithT(t)
	var mu sync.Mutex
	var lines []string
	logger := funcr.New(func(_, args string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, args)
	}, funcr.Options{})
	texts := []error{errors.New("a"), errors.New("a"), errors.New("b"), errors.New("b"), nil, errors.New("b")}
	var told faults
	key := types.NamespacedName{Namespace: "payments", Name: "api"}
	tries := make(chan int, len(texts))
	i := 0
	c, err := controller.NewUnmanaged("failing", controller.Options{
		LogConstructor: logConstructor(logger), SkipNameValidation: new(true), // so that the test can be run again
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Millisecond, time.Millisecond),
		Reconciler: reconcile.Func(func(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
			if i == len(texts) {
				return reconcile.Result{}, nil
			}
			i++
			tries <- i
			return reconcile.Result{RequeueAfter: again1(texts[i-1])}, told.tell(ctx, req.NamespacedName, texts[i-1])
		}),
	})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(c.Watch(source.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		q.Add(reconcile.Request{NamespacedName: key})
		return nil
	}))).To(Succeed())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Start(ctx) }()
	for range texts {
		g.Eventually(tries, eventually).Should(Receive())
	}
	cancel()
	g.Eventually(done, eventually).Should(Receive())

	var failures []string
	for _, line := range lines {
		if strings.Contains(line, `"error"=`) {
			failures = append(failures, line)
		}
	}
	g.Expect(failures).To(HaveLen(3), strings.Join(failures, "\n"))
	for n, text := range []string{"a", "b", "b"} {
		g.Expect(failures[n]).To(HavePrefix(fmt.Sprintf(`"msg"="Failed to reconcile" "error"=%q`, text)))
		g.Expect(failures[n]).To(ContainSubstring(`"reason"="ReconcileError"`))
	}
}

// again1 has a try that succeeds be followed by another.
func again1(err error) time.Duration {
	if err != nil {
		return 0
	}
	return time.Millisecond
}

// What has not been told is controller-runtime's to tell: the recovered panic of a reconcile, for one.
func TestErrorsThatWereNotToldAreLogged(t *testing.T) {
	g := NewWithT(t)
	var lines []string
	logger := logConstructor(funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{}))(nil).WithName("x").WithValues("k", "v")
	logger.Error(errors.New("panic"), "Reconciler error")
	logger.Error(fmt.Errorf("wrapped: %w", toldError{errors.New("told")}), "Reconciler error")
	g.Expect(lines).To(HaveLen(1))
	g.Expect(lines[0]).To(ContainSubstring(`"error"="panic"`))
}
