package flux

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

const ownerKey = "audit.osapi.io/owner"

// asBefore is the stream before its resource was pruned.
var asBefore *jetstream.StreamInfo

func removed(ctx SpecContext) {
	record(ctx, "before-removal")
	asBefore = onServer(ctx, stream)
	remove(apiAuditFile)
	remove(ledgerFile)
	commit := push(ctx, "Give up the audit trails")
	Eventually(flux(paymentsKustomization)).WithContext(ctx).Should(haveApplied(commit))
	Eventually(gone(apiAudit)).WithContext(ctx).Should(BeTrue())
	Expect(gone(ledgerAudit)(ctx)).To(BeFalse(), "it has prune: disabled")

	By("reading the stream that nothing declares any more")
	live := onServer(ctx, stream)
	Expect(live.Config).To(Equal(asBefore.Config))
	// Who has read the stream may leave a consumer, which goes by itself.
	live.State.Consumers = asBefore.State.Consumers
	Expect(live.State).To(Equal(asBefore.State))
	Expect(holdsBucket(ctx)).To(Succeed())
	got, err := store(ctx).Get(ctx, "before-removal")
	Expect(err).NotTo(HaveOccurred())
	Expect(got.User).To(Equal("alice"))
	_, total, err := store(ctx).List(ctx, 1, 0)
	Expect(err).NotTo(HaveOccurred())
	Expect(total).To(BeEquivalentTo(asBefore.State.Msgs))
	record(ctx, "after-removal")
}

func broughtBack(ctx SpecContext) {
	write(apiAuditFile, guideFiles()[apiAuditFile])
	write(ledgerFile, guideFiles()[ledgerFile])
	pushAndApply(ctx, "Bring the audit trails back")
	s, err := now(apiAudit)(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(s).To(vouchedFor())

	live := onServer(ctx, stream)
	Expect(live.Created).To(Equal(asBefore.Created), "it is the same stream")
	Expect(live.Config.Metadata).To(HaveKeyWithValue(ownerKey, asBefore.Config.Metadata[ownerKey]))
	Expect(live.Config.MaxAge).To(Equal(days(30)), "as its file says")
	Expect(live.State.LastSeq).To(Equal(asBefore.State.LastSeq+1), "nothing but what was written meanwhile")
	Expect(holdsBucket(ctx)).To(Succeed())
	record(ctx, "after-return")
}

func gone(key client.ObjectKey) func(context.Context) bool {
	return func(ctx context.Context) bool {
		_, err := now(key)(ctx)
		return apierrors.IsNotFound(err)
	}
}

func tenant(ctx SpecContext) {
	const file = billingDir + "/settings.yaml"
	write(file, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: billing}\n")
	push(ctx, "Configure billing, too")
	Eventually(flux(billingKustomization)).WithContext(ctx).Should(SatisfyAll(
		sayReady("False ReconciliationFailed: "),
		WithTransform(fluxReady, ContainSubstring(`"system:serviceaccount:billing:flux"`)),
		WithTransform(fluxReady, ContainSubstring("forbidden"))))
	remove(file)
	replace(billingDir+"/invoices-audit.yaml", "maxAge: 7y", "maxAge: 10y")
	commit := push(ctx, "Leave the settings out, and keep the trail for longer")
	Eventually(flux(billingKustomization)).WithContext(ctx).Should(haveApplied(commit))
	Expect(maxAge("INVOICES_AUDIT")(ctx)).To(Equal(days(3650)))
}

// store is the audit trail as a workload sees it.
func store(ctx context.Context) *auditstore.StreamStore {
	GinkgoHelper()
	s, err := auditstore.New(ctx, env.js, auditstore.Config{Stream: stream, Subject: subject})
	Expect(err).NotTo(HaveOccurred())
	return s
}

func entry(id string) auditstore.Entry {
	return auditstore.Entry{ID: id, Timestamp: time.Now().UTC(), User: "alice", Method: "GET", Path: "/node/1"}
}
