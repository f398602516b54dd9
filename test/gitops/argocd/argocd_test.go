package argocd

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/test/argocd"
)

const (
	day            = 24 * time.Hour
	journeyTimeout = 8 * time.Minute

	// engine is who gitops-engine's agent is to the API server: its process.
	engine = "gitops-agent"

	ledgerAudit = `apiVersion: audit.osapi.io/v1alpha1
kind: AuditStream
metadata:
  name: ledger-audit
  namespace: payments
spec:
  stream: LEDGER
  subject: ledger
  maxAge: 7y
`
	greedyAudit = `apiVersion: audit.osapi.io/v1alpha1
kind: AuditStream
metadata:
  name: greedy-audit
  namespace: payments
spec:
  stream: AUDIT
  subject: audit.all
`
)

var _ = Describe("An AuditStream in Git", Ordered, func() {
	// What a team has on its resources stays there.
	manifest := func(maxAge string) string {
		GinkgoHelper()
		text := onPage("audit/payments/api-audit.yaml")
		Expect(text).To(And(ContainSubstring("  namespace: payments\n"), ContainSubstring("maxAge: 30d")))
		text = strings.Replace(text, "  namespace: payments\n", "  namespace: payments\n"+
			"  labels: {app.kubernetes.io/instance: payments-audit}\n  annotations: {example.com/team: payments}\n", 1)
		return strings.Replace(text, "30d", maxAge, 1)
	}

	It("is applied, and Healthy once the stream is there", func(ctx SpecContext) {
		write("namespace.yaml", onPage("audit/payments/namespace.yaml"))
		write("api-audit.yaml", manifest("30d"))
		write("ledger-audit.yaml", ledgerAudit)
		push(ctx, "Keep audit trails")
		for _, name := range []string{"api-audit", "ledger-audit"} {
			Eventually(now(name)).WithContext(ctx).Should(haveHealth(argocd.Healthy))
		}
		Expect(keep("AUDIT")(ctx)).To(Equal(30 * day))
		Expect(keep("LEDGER")(ctx)).To(Equal(7 * 365 * day))
	}, SpecTimeout(journeyTimeout))

	It("is written to by nobody once it is", func(ctx SpecContext) {
		before := get(ctx, "api-audit")
		expectStatusOnly(before)
		sync(ctx)
		Consistently(now("api-audit")).WithContext(ctx).Should(HaveField("GetResourceVersion()", before.GetResourceVersion()))
	}, SpecTimeout(journeyTimeout))

	It("is changed by a commit, and the stream with it", func(ctx SpecContext) {
		before := get(ctx, "api-audit")
		write("api-audit.yaml", manifest("60d"))
		push(ctx, "Keep them longer")
		Eventually(keep("AUDIT")).WithContext(ctx).Should(Equal(60 * day))
		Eventually(now("api-audit")).WithContext(ctx).Should(haveHealth(argocd.Healthy))
		after := get(ctx, "api-audit")
		Expect(after.GetGeneration()).To(Equal(before.GetGeneration()+1), "one write for one commit")
		Expect(after.GetLabels()).To(Equal(map[string]string{"app.kubernetes.io/instance": "payments-audit"}))
		Expect(after.GetAnnotations()).To(HaveKeyWithValue("example.com/team", "payments"))
	}, SpecTimeout(journeyTimeout))

	It("is put right in Kubernetes by the engine and in NATS by the operator", func(ctx SpecContext) {
		By("editing the resource")
		obj := typed(get(ctx, "api-audit"))
		base := obj.DeepCopy()
		obj.Spec.MaxAge = "1d"
		Expect(env.k8s.Patch(ctx, obj, client.MergeFrom(base))).To(Succeed())
		Eventually(keep("AUDIT")).WithContext(ctx).Should(Equal(day))
		sync(ctx)
		Eventually(keep("AUDIT")).WithContext(ctx).Should(Equal(60 * day))

		By("editing the stream")
		Eventually(now("api-audit")).WithContext(ctx).Should(haveHealth(argocd.Healthy))
		before := get(ctx, "api-audit")
		live, err := env.js.Stream(ctx, "AUDIT")
		Expect(err).NotTo(HaveOccurred())
		cfg := live.CachedInfo().Config
		cfg.MaxAge = day
		_, err = env.js.UpdateStream(ctx, cfg)
		Expect(err).NotTo(HaveOccurred())
		Eventually(keep("AUDIT")).WithContext(ctx).Should(Equal(60 * day))
		sync(ctx)
		Expect(get(ctx, "api-audit").GetGeneration()).To(Equal(before.GetGeneration()))
	}, SpecTimeout(journeyTimeout))

	It("is suspended and resumed by the actions, which a synchronization leaves alone", func(ctx SpecContext) {
		for _, name := range []string{"api-audit", "ledger-audit"} {
			before := get(ctx, name)
			act(ctx, "suspend", name)
			Eventually(now(name)).WithContext(ctx).Should(haveHealth(argocd.Suspended))
			sync(ctx)
			Consistently(now(name)).WithContext(ctx).Should(haveHealth(argocd.Suspended))
			act(ctx, "resume", name)
			Eventually(now(name)).WithContext(ctx).Should(haveHealth(argocd.Healthy))
			Expect(specOf(get(ctx, name))).To(Equal(specOf(before)))
		}
	}, SpecTimeout(journeyTimeout))

	It("that another one's stream is in the way of is Degraded, with the operator's message", func(ctx SpecContext) {
		write("greedy-audit.yaml", greedyAudit)
		push(ctx, "Want what others have")
		Eventually(now("greedy-audit")).WithContext(ctx).Should(
			haveHealth(argocd.Degraded + ", " + v1alpha1.ReasonOwnershipConflict))
		Expect(now("api-audit")(ctx)).To(haveHealth(argocd.Healthy))
		Expect(liveSubjects(ctx, "AUDIT")).To(Equal([]string{"audit.>"}))
		write("greedy-audit.yaml", "")
		commit(ctx, "Do without")
		Eventually(synced(gone("greedy-audit"))).WithContext(ctx).Should(BeTrue())
		Expect(now("api-audit")(ctx)).To(haveHealth(argocd.Healthy))
	}, SpecTimeout(journeyTimeout))

	It("leaves its stream with all entries when it is pruned, and owns it again when it is back", func(ctx SpecContext) {
		record(ctx, "audit", 5)
		write("api-audit.yaml", "")
		push(ctx, "Stop keeping them")
		Eventually(gone("api-audit")).WithContext(ctx).Should(BeTrue())
		Consistently(entries("AUDIT")).WithContext(ctx).Should(BeEquivalentTo(5))
		Expect(now("ledger-audit")(ctx)).To(haveHealth(argocd.Healthy))

		live, err := env.js.Stream(ctx, "AUDIT")
		Expect(err).NotTo(HaveOccurred())
		created := live.CachedInfo().Created
		write("api-audit.yaml", manifest("30d"))
		push(ctx, "Keep them after all")
		Eventually(now("api-audit")).WithContext(ctx).Should(haveHealth(argocd.Healthy))
		Eventually(keep("AUDIT")).WithContext(ctx).Should(Equal(30 * day))
		live, err = env.js.Stream(ctx, "AUDIT")
		Expect(err).NotTo(HaveOccurred())
		Expect(live.CachedInfo().Created).To(Equal(created), "the same stream")
		Expect(entries("AUDIT")(ctx)).To(BeEquivalentTo(5))
	}, SpecTimeout(journeyTimeout))
})

var _ = Describe("The health check and the actions", func() {
	It("are added to argocd-cm as the page says, beside what is there", func(ctx SpecContext) {
		kubectl(ctx, "create", "namespace", "argocd")
		kubectl(ctx, "create", "configmap", "argocd-cm", "--namespace=argocd", "--from-literal=url=https://argocd.example.com")
		kubectl(ctx, commandOnPage()...)
		configMap := &corev1.ConfigMap{}
		Expect(env.k8s.Get(ctx, client.ObjectKey{Namespace: "argocd", Name: "argocd-cm"}, configMap)).To(Succeed())
		Expect(configMap.Data).To(SatisfyAll(HaveLen(3), HaveKey("url"),
			HaveKey("resource.customizations.health.audit.osapi.io_AuditStream"),
			HaveKey("resource.customizations.actions.audit.osapi.io_AuditStream")))
	}, SpecTimeout(journeyTimeout))
})

func specOf(u *unstructured.Unstructured) any { return u.Object["spec"] }

func liveSubjects(ctx SpecContext, name string) []string {
	GinkgoHelper()
	var stream jetstream.Stream
	stream, err := env.js.Stream(ctx, name)
	Expect(err).NotTo(HaveOccurred())
	return stream.CachedInfo().Config.Subjects
}
