package flux

import (
	"context"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const legacyEntries = 300

// The journeys are one story, in this order: what one leaves, the next one finds.
var _ = Describe("Audit streams in a Git repository", Ordered, func() {
	It("are applied after their operator, and Ready in Flux when the streams are, not while NATS is down",
		install, SpecTimeout(journeyTimeout))
	It("change with a commit", change, SpecTimeout(journeyTimeout))
	It("stay as they are when a commit is refused, which Flux reports in the words of the rules",
		refused, SpecTimeout(journeyTimeout))
	It("stay as they are when NATS cannot do what a commit asks for, which Flux reports as failed",
		failed, SpecTimeout(journeyTimeout))

	It("are put right by Flux when somebody edits the resource", edited, SpecTimeout(journeyTimeout))
	It("are put right by the operator when somebody changes the stream, with nothing to do for Flux",
		drifted, SpecTimeout(journeyTimeout))
	It("share the resource with another tool that owns a field of its own", shared, SpecTimeout(journeyTimeout))
	It("are left alone while a commit suspends them", suspended, SpecTimeout(journeyTimeout))

	It("stay in NATS with every entry when their file is removed", removed, SpecTimeout(journeyTimeout))
	It("are owned again when the file is back, with nothing copied twice", broughtBack, SpecTimeout(journeyTimeout))

	It("are all that a team's own account may declare", tenant, SpecTimeout(journeyTimeout))
})

func install(ctx SpecContext) {
	By("leaving a legacy bucket, and stopping NATS")
	Expect(testenv.FillLegacyBucket(ctx, env.js, testenv.LegacyBucket{Entries: legacyEntries})).To(Succeed())
	Expect(env.nats.Shutdown()).To(Succeed())

	By("committing the page's files, and telling Flux of them")
	for name, content := range guideFiles() {
		write(name, strings.ReplaceAll(content, guideURL, env.git.URL()))
	}
	write("operator/install.yaml", operatorManifests(ctx))
	commit, err := env.git.Commit(ctx, "Declare the operator and the audit streams")
	Expect(err).NotTo(HaveOccurred())
	kubectl(ctx, "apply", "--filename", filepath.Join(env.git.Tree(), clusterDir))
	Eventually(flux(operatorKustomization)).WithContext(ctx).Should(haveApplied(commit))
	startOperator(ctx)

	By("waiting for NATS")
	Eventually(now(apiAudit)).WithContext(ctx).Should(beReady(metav1.ConditionFalse, v1alpha1.ReasonNATSUnavailable))
	Eventually(flux(paymentsKustomization)).WithContext(ctx).Should(sayReady("Unknown "))
	Consistently(flux(paymentsKustomization)).WithContext(ctx).Should(sayReady("Unknown "))

	By("starting NATS")
	Expect(env.nats.Restart(ctx)).To(Succeed())
	Eventually(flux(paymentsKustomization)).WithContext(ctx).Should(haveApplied(commit))
	Eventually(flux(billingKustomization)).WithContext(ctx).Should(haveApplied(commit))
	Expect(now(apiAudit)(ctx)).To(vouchedFor())
	Expect(now(ledgerAudit)(ctx)).To(vouchedFor())
	Expect(now(invoicesAudit)(ctx)).To(vouchedFor())
	Expect(maxAge(stream)(ctx)).To(Equal(days(30)))
	Expect(holdsBucket(ctx)).To(Succeed())
	Expect(everyObject(ctx)).To(Succeed())
}

// holdsBucket is nil when the stream holds every entry of the legacy bucket once, with the same bytes.
func holdsBucket(ctx context.Context) error {
	compared, err := testenv.Compare(ctx, env.js, testenv.LegacyBucketName, stream, subject)
	if err != nil {
		return err
	}
	Expect(compared.BucketEntries).To(Equal(legacyEntries))
	return compared.Err()
}

func change(ctx SpecContext) {
	replace(apiAuditFile, "maxAge: 30d", "maxAge: 60d")
	pushAndApply(ctx, "Keep the API's audit trail for longer")
	// Ready says that it has been done.
	Expect(maxAge(stream)(ctx)).To(Equal(days(60)))
}

func refused(ctx SpecContext) {
	before, streamBefore := declared(ctx), onServer(ctx, stream).Config
	replace(apiAuditFile, "stream: AUDIT", "stream: AUDIT_2")
	replace(ledgerFile, "subject: ledger.audit", "subject: ledger.audit\n  maxAge: 1y")
	commit := push(ctx, "Move the audit trail to another stream")

	const rule = "stream cannot be changed: create another AuditStream for another stream"
	Eventually(flux(paymentsKustomization)).WithContext(ctx).Should(SatisfyAll(
		sayReady("False ReconciliationFailed: "), WithTransform(fluxReady, ContainSubstring(rule))))
	Eventually(env.events.all).WithContext(ctx).Should(ContainElement(SatisfyAll(
		HavePrefix("error Kustomization flux-system/audit-payments "), ContainSubstring(rule))), "for commit %s", commit)

	Expect(declared(ctx)).To(Equal(before))
	Expect(onServer(ctx, stream).Config).To(Equal(streamBefore))
	Expect(maxAge(ledgerStream)(ctx)).To(BeZero(), "what was right in the commit is not applied either")
	record(ctx, "during-refused")

	By("committing what is right")
	replace(apiAuditFile, "stream: AUDIT_2", "stream: AUDIT")
	pushAndApply(ctx, "Stay with the stream")
	Expect(maxAge(ledgerStream)(ctx)).To(Equal(days(365)))
	Expect(declared(ctx)).To(Equal(before))
}

func failed(ctx SpecContext) {
	streamBefore := onServer(ctx, stream).Config
	replace(apiAuditFile, "stream: AUDIT\n", "stream: AUDIT\n  replicas: 3\n")
	push(ctx, "Keep the audit trail on three servers")
	Eventually(flux(paymentsKustomization)).WithContext(ctx).Should(SatisfyAll(
		sayReady("False HealthCheckFailed: "),
		WithTransform(fluxReady, ContainSubstring("AuditStream/payments/api-audit status: 'Failed'"))))
	Expect(now(apiAudit)(ctx)).To(SatisfyAll(
		beReady(metav1.ConditionFalse, v1alpha1.ReasonReplicasUnsupported),
		WithTransform(said(v1alpha1.ConditionStalled), HavePrefix("True "+v1alpha1.ReasonReplicasUnsupported))))
	Expect(kubectl(ctx, "get", "auditstreams", "--all-namespaces")).To(MatchRegexp(`payments +api-audit .*` + v1alpha1.ReasonReplicasUnsupported))
	Eventually(env.events.all).WithContext(ctx).Should(ContainElement(
		HavePrefix("error Kustomization flux-system/audit-payments HealthCheckFailed ")))
	Expect(onServer(ctx, stream).Config).To(Equal(streamBefore))
	record(ctx, "during-failed")

	By("committing what is right")
	replace(apiAuditFile, "  replicas: 3\n", "")
	pushAndApply(ctx, "Stay on one server")
	Expect(now(apiAudit)(ctx)).To(vouchedFor())
}

// declared is what somebody wrote of the resource, and how often.
func declared(ctx context.Context) *v1alpha1.AuditStream {
	GinkgoHelper()
	s, err := now(apiAudit)(ctx)
	Expect(err).NotTo(HaveOccurred())
	return &v1alpha1.AuditStream{
		ObjectMeta: metav1.ObjectMeta{
			UID: s.UID, Generation: s.Generation, Labels: s.Labels, Annotations: s.Annotations, Finalizers: s.Finalizers,
		},
		Spec: s.Spec,
	}
}

// record writes an entry as a workload does.
func record(ctx context.Context, id string) {
	GinkgoHelper()
	Expect(store(ctx).Write(ctx, entry(id))).To(Succeed())
}
