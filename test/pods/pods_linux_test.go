package pods

import (
	"fmt"
	"net/http"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// One operator's life in a cluster, step by step.
var _ = Describe("The operator in a Pod", Ordered, func() {
	orders := &workload{}

	It("is installed by kubectl apply -k under the restricted Pod Security Standard", func(ctx SpecContext) {
		apply(ctx, "operator")
		kubectl(ctx, "rollout", "status", "--timeout=2m", "--namespace="+operatorNamespace, operatorDeployment)
		Expect(ready(ctx)).To(BeTrue())

		_, err := tryKubectl(ctx, "run", "privileged", "--namespace="+operatorNamespace, "--image=localhost/orders:test-pods",
			"--privileged", "--dry-run=server")
		Expect(err).To(MatchError(ContainSubstring(`violates PodSecurity "restricted:latest"`)))
	}, SpecTimeout(journeyTimeout))

	It("makes the stream that a workload writes to and reads", func(ctx SpecContext) {
		apply(ctx, "workloads/orders.yaml")
		serveService(ctx, "payments", "orders")
		apply(ctx, "workloads/auditstream.yaml")
		kubectl(ctx, "wait", "--namespace=payments", "--for=condition=Ready", "--timeout=1m", "auditstream/api-audit")
		kubectl(ctx, "rollout", "status", "--timeout=2m", "--namespace=payments", "deployment/orders")
		Eventually(statusOf(ordersURL+"/readyz"), soon).WithContext(ctx).Should(Equal(http.StatusOK))
		for range ordersPerRun {
			Expect(orders.order(ctx)).To(Succeed())
		}
		orders.expectWhole(ctx)
	}, SpecTimeout(journeyTimeout))

	It("serves metrics to those who may read them", func(ctx SpecContext) {
		url := fmt.Sprintf("https://%s:8443/metrics", theOperator(ctx).Status.PodIP)
		Eventually(statusOf(url), soon).WithContext(ctx).Should(Equal(http.StatusUnauthorized))

		reader := func() (int, []byte, error) {
			token := kubectl(ctx, "create", "token", "--namespace="+operatorNamespace, "default")
			return request(ctx, http.MethodGet, url, token)
		}
		status, _, err := reader()
		Expect(err).NotTo(HaveOccurred())
		Expect(status).To(Equal(http.StatusForbidden))
		kubectl(ctx, "create", "clusterrolebinding", "metrics", "--serviceaccount="+operatorNamespace+":default",
			"--clusterrole=auditstream-operator-metrics-reader")
		Eventually(func(g Gomega) {
			status, body, err := reader()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(status).To(Equal(http.StatusOK))
			g.Expect(string(body)).To(ContainSubstring("controller_runtime_reconcile_total"))
		}, soon).Should(Succeed())
	}, SpecTimeout(journeyTimeout))

	It("is not ready while NATS is away, but lives", func(ctx SpecContext) {
		kubectl(ctx, "scale", "--namespace=nats", "statefulset/nats", "--replicas=0")
		Eventually(ready, soon).WithContext(ctx).Should(BeFalse())
		pod := theOperator(ctx)
		Expect(statusOf("http://" + pod.Status.PodIP + ":8081/healthz")(ctx)).To(Equal(http.StatusOK))

		kubectl(ctx, "scale", "--namespace=nats", "statefulset/nats", "--replicas=1")
		Eventually(ready, soon).WithContext(ctx).Should(BeTrue())
		Expect(theOperator(ctx).UID).To(Equal(pod.UID))
		Expect(theOperator(ctx).Status.ContainerStatuses[0].RestartCount).To(BeZero())
		Eventually(statusOf(ordersURL+"/readyz"), soon).WithContext(ctx).Should(Equal(http.StatusOK))
		orders.expectWhole(ctx)
	}, SpecTimeout(journeyTimeout))

	It("hands over to its successor when the Deployment is rolled, and misses no drift", func(ctx SpecContext) {
		stopOrders := orders.orders()
		before := theOperator(ctx)
		log := follow(ctx, before)
		r := watchRoll(ctx)

		kubectl(ctx, "rollout", "restart", "--namespace="+operatorNamespace, operatorDeployment)
		Eventually(r.holders, soon).Should(ContainElement(""), "the lease is released")
		drift(ctx, time.Hour)
		Eventually(maxAge, soon).WithContext(ctx).Should(Equal(declaredMaxAge))
		kubectl(ctx, "rollout", "status", "--timeout=2m", "--namespace="+operatorNamespace, operatorDeployment)

		after := theOperator(ctx)
		Eventually(r.holders, soon).Should(HaveExactElements(HavePrefix(before.Name+"_"), "", HavePrefix(after.Name+"_")))
		Eventually(r.ended, soon).WithArguments(before.Name).Should(HaveField("ExitCode", BeZero()))
		Expect(stopOrders()).To(Succeed())
		orders.expectWhole(ctx)

		Eventually(log.Closed, soon).Should(BeTrue())
		lines := linesOf(log.Contents())
		Expect(errorsIn(lines)).To(BeEmpty(), "neither an outage of NATS nor a rollout is an error")
		Expect(messages(lines)).To(And(HaveKeyWithValue("Created the stream", 1), HaveKeyWithValue("Lost the connection to NATS", 1),
			Not(HaveKey("healthz check failed"))))
		Eventually(logged(after), soon).WithContext(ctx).Should(HaveKeyWithValue("Healed drift", 1))
	}, SpecTimeout(journeyTimeout))

	It("keeps within its memory with a hundred streams, and logs one line for each", func(ctx SpecContext) {
		const streams = 100
		pod := theOperator(ctx)
		before, err := logged(pod)(ctx)
		Expect(err).NotTo(HaveOccurred())
		apply(ctx, manyStreams(streams))
		kubectl(ctx, "wait", "--namespace=many", "--for=condition=Ready", "--timeout=2m", "auditstream", "--all")

		used, limit := memory(ctx, pod)
		AddReportEntry("memory", fmt.Sprintf("%d MiB of %d MiB with %d streams", used>>20, limit>>20, streams))
		Expect(used).To(And(BeNumerically(">", 0), BeNumerically("<", limit)))
		const created = "Created the stream"
		Eventually(logged(pod), soon).WithContext(ctx).Should(HaveKeyWithValue(created, before[created]+streams))
		Expect(theOperator(ctx).Status.ContainerStatuses[0].RestartCount).To(BeZero())
	}, SpecTimeout(journeyTimeout))

	It("leaves the data when it is uninstalled", func(ctx SpecContext) {
		kubectl(ctx, "delete", "--kustomize=operator", "--timeout=2m")
		_, err := env.k8s.CoreV1().Namespaces().Get(ctx, operatorNamespace, metav1.GetOptions{})
		Expect(err).To(MatchError(ContainSubstring("not found")))

		orders.expectWhole(ctx)
		Expect(orders.order(ctx)).To(Succeed(), "nothing of the workload depends on the operator")
		orders.expectWhole(ctx)
	}, SpecTimeout(journeyTimeout))

	It("is installed by the chart, and has the stream again", func(ctx SpecContext) {
		kubectl(ctx, "create", "namespace", "audit")
		kubectl(ctx, "label", "namespace", "audit", "pod-security.kubernetes.io/enforce=restricted")
		helm(ctx, "install", "audit", "../../charts/auditstream-operator", "--wait", "--timeout=2m",
			"--set=image.repository=localhost/auditstream-operator,image.tag=test-pods,nats.url="+natsURL)
		apply(ctx, "workloads/auditstream.yaml")
		kubectl(ctx, "wait", "--namespace=payments", "--for=condition=Ready", "--timeout=1m", "auditstream/api-audit")
		drift(ctx, time.Hour)
		Eventually(maxAge, soon).WithContext(ctx).Should(Equal(declaredMaxAge))

		helm(ctx, "uninstall", "audit", "--wait", "--timeout=2m")
		kubectl(ctx, "wait", "--namespace=payments", "--for=condition=Ready", "--timeout=1m", "auditstream/api-audit")
		orders.expectWhole(ctx)
	}, SpecTimeout(journeyTimeout))
})
