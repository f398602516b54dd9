package baddays

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
	"github.com/osapi-io/auditstream-operator/test/baddays/cluster"
)

const crdFile = "config/crd/bases/audit.osapi.io_auditstreams.yaml"

var _ = Describe("The CRD", Serial, func() {
	It("is deleted and applied again: the streams that are to stay are untouched, and owned again", func(ctx SpecContext) {
		ns := newNamespace(ctx, "deleted-crd")
		Expect(testenv.FillLegacyBucket(ctx, env.JS, testenv.LegacyBucket{Name: "kept", Entries: 50})).To(Succeed())
		kept := func() *v1alpha1.AuditStream {
			obj := cluster.AuditStream(ns, "kept")
			obj.Spec.MaxAge, obj.Spec.MigrateFrom = "", []v1alpha1.MigrationSource{{Bucket: "kept"}}
			return obj
		}
		Expect(env.K8s.Create(ctx, kept())).To(Succeed())
		expectReady(ctx, ns, "kept")
		write(ctx, "kept")
		passing := cluster.AuditStream(ns, "passing")
		passing.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete
		Expect(env.K8s.Create(ctx, passing)).To(Succeed())
		expectReady(ctx, ns, "passing")
		before := liveStream(ctx, "kept")
		pid := env.operator.Pid()

		By("deleting it, which deletes every resource, and with it what deletionPolicy: Delete says")
		kubectl(ctx, "delete", "crd", cluster.CRD, "--timeout=120s")
		_, err := env.JS.Stream(ctx, "PASSING")
		Expect(err).To(MatchError(jetstream.ErrStreamNotFound))
		Expect(entriesOf(liveStream(ctx, "kept"))).To(Equal(entriesOf(before)))
		Consistently(env.operator.Healthy, aWhile).WithContext(ctx).Should(Succeed(), "the operator does not restart for it")

		By("applying it and the resource again")
		Expect(env.Install(ctx, env.root)).To(Succeed())
		Eventually(func() error { return env.K8s.Create(ctx, kept()) }, soon).Should(Succeed())
		expectReady(ctx, ns, "kept")
		after := liveStream(ctx, "kept")
		Expect(after.Created).To(Equal(before.Created))
		Expect(entriesOf(after)).To(Equal(entriesOf(before)), "nothing was copied again")
		Expect(after.Config.Metadata["audit.osapi.io/owner"]).To(Equal(before.Config.Metadata["audit.osapi.io/owner"]))
		expectLookedAfter(ctx, "kept", soon)
		Expect(env.operator.Done()).NotTo(BeClosed())
		Expect(env.operator.Pid()).To(Equal(pid), "the operator did not end")
	}, SpecTimeout(journeyTimeout))

	It("is deleted while the operator is down: what is to be deleted waits for it, and nothing is lost", func(ctx SpecContext) {
		ns := newNamespace(ctx, "deleted-alone")
		declare(ctx, ns, "alone")
		write(ctx, "alone")
		waiting, saved := cluster.AuditStream(ns, "waiting"), cluster.AuditStream(ns, "saved")
		for _, obj := range []*v1alpha1.AuditStream{waiting, saved} {
			obj.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete
			Expect(env.K8s.Create(ctx, obj)).To(Succeed())
			expectReady(ctx, ns, obj.Name)
		}
		Expect(env.operator.Stop(ctx)).To(Succeed())
		// A failure from here on leaves other specs with an operator, and with the CRD, all the same.
		DeferCleanup(func(ctx SpecContext) {
			select {
			case <-env.operator.Done():
				env.operator = startOperator(ctx, "operator", env.account, testenv.OperatorNamespace)
			default:
			}
			Eventually(func() (string, error) {
				return env.CP.Kubectl(ctx, "get", "crd", cluster.CRD, "--ignore-not-found", "-ojsonpath={.metadata.deletionTimestamp}")
			}, soon).Should(BeEmpty())
			Expect(env.Install(ctx, env.root)).To(Succeed())
		}, NodeTimeout(2*soon))

		kubectl(ctx, "delete", "crd", cluster.CRD, "--wait=false")
		Eventually(func() bool {
			return apierrors.IsNotFound(env.K8s.Get(ctx, client.ObjectKey{Namespace: ns, Name: "alone"}, &v1alpha1.AuditStream{}))
		}, soon).Should(BeTrue())
		Consistently(func() error {
			return env.K8s.Get(ctx, client.ObjectKeyFromObject(waiting), &v1alpha1.AuditStream{})
		}, aWhile).Should(Succeed())
		Expect(liveStream(ctx, "waiting").Config.Name).To(Equal("WAITING"))

		By("saving a stream before the operator is back")
		kubectl(ctx, "patch", "-n", ns, "auditstream", "saved", "--type=merge", `--patch={"spec":{"deletionPolicy":"Retain"}}`)

		By("starting the operator")
		env.operator = startOperator(ctx, "operator", env.account, testenv.OperatorNamespace)
		kubectl(ctx, "wait", "--for=delete", "crd/"+cluster.CRD, "--timeout=120s")
		_, err := env.JS.Stream(ctx, "WAITING")
		Expect(err).To(MatchError(jetstream.ErrStreamNotFound))
		Expect(liveStream(ctx, "saved").Config.Name).To(Equal("SAVED"))
		Expect(liveStream(ctx, "alone").State.Msgs).To(BeEquivalentTo(3))
		Expect(env.Install(ctx, env.root)).To(Succeed())
		Eventually(func() error { return env.K8s.Create(ctx, cluster.AuditStream(ns, "alone")) }, soon).Should(Succeed())
		expectReady(ctx, ns, "alone")
	}, SpecTimeout(journeyTimeout))

	It("is applied in its next version over old objects, some of which its new rules would refuse", func(ctx SpecContext) {
		ns := newNamespace(ctx, "next-crd")
		declare(ctx, ns, "older")
		before := get(ctx, ns, "older")

		By("applying a CRD with a further version, a further field with a default, and a rule that the object breaks")
		next := nextVersion()
		kubectl(ctx, "apply", "--server-side", "-f", next)
		DeferCleanup(restoreVersion)
		Eventually(func() string {
			out, _ := env.CP.Kubectl(ctx, "get", "-n", ns, "auditstreams.v1alpha2.audit.osapi.io", "older", "-ojsonpath={.spec.priority}")
			return out
		}, soon).Should(Equal("normal"), "the new field has its default")
		expectLookedAfter(ctx, "older", soon)
		after := get(ctx, ns, "older")
		Expect(after.Generation).To(Equal(before.Generation))
		Expect(after.UID).To(Equal(before.UID))
		Expect(ready(ns, "older")(ctx)).To(HavePrefix("True "))

		By("having the operator write status, and a finalizer, of an object that breaks the new rule")
		kubectl(ctx, "patch", "-n", ns, "auditstream", "older", "--type=merge", `--patch={"spec":{"deletionPolicy":"Delete"}}`)
		Eventually(func() []string { return get(ctx, ns, "older").Finalizers }, soon).Should(ConsistOf("audit.osapi.io/delete-stream"))
		expectReady(ctx, ns, "older")
		kubectl(ctx, "patch", "-n", ns, "auditstream", "older", "--type=merge", `--patch={"spec":{"deletionPolicy":"Retain"}}`)
		Eventually(func() []string { return get(ctx, ns, "older").Finalizers }, soon).Should(BeEmpty())

		By("the rule is for what is written from now on")
		newer := cluster.AuditStream(ns, "newer")
		Expect(env.K8s.Create(ctx, newer)).To(MatchError(ContainSubstring("maxAge is to be in weeks")))
		newer.Spec.MaxAge = "4w"
		Expect(env.K8s.Create(ctx, newer)).To(Succeed())
		expectReady(ctx, ns, "newer")
	}, SpecTimeout(journeyTimeout))
})

// entriesOf is the state of a stream without how many read it.
func entriesOf(info *jetstream.StreamInfo) jetstream.StreamState {
	state := info.State
	state.Consumers = 0
	return state
}

// nextVersion writes this tree's CRD as a later release might change it.
func nextVersion() string {
	GinkgoHelper()
	text, err := os.ReadFile(filepath.Join(env.root, crdFile))
	Expect(err).NotTo(HaveOccurred())
	var crd map[string]any
	Expect(yaml.Unmarshal(text, &crd)).To(Succeed())
	spec := crd["spec"].(map[string]any)
	version := spec["versions"].([]any)[0].(map[string]any)
	rules := at(version, "schema", "openAPIV3Schema", "properties", "spec")
	at(rules, "properties")["priority"] = map[string]any{"type": "string", "default": "normal"}
	age := at(rules, "properties", "maxAge")
	stricter := map[string]any{"rule": "self.endsWith('w')", "message": "maxAge is to be in weeks"}
	existing, _ := age["x-kubernetes-validations"].([]any)
	age["x-kubernetes-validations"] = append(existing, stricter)

	copied, err := json.Marshal(version)
	Expect(err).NotTo(HaveOccurred())
	var later map[string]any
	Expect(json.Unmarshal(copied, &later)).To(Succeed())
	later["name"], later["storage"] = "v1alpha2", false
	spec["versions"] = []any{version, later}
	out, err := yaml.Marshal(crd)
	Expect(err).NotTo(HaveOccurred())
	path := filepath.Join(env.Dir, "next.yaml")
	Expect(os.WriteFile(path, []byte(strings.TrimSpace(string(out))+"\n"), 0o600)).To(Succeed())
	return path
}

// restoreVersion takes the later version away again. kubectl prefers the version that it remembers, for hours, and does not look
// again when the server no longer serves it; api-resources has it look.
func restoreVersion(ctx SpecContext) {
	Expect(env.Install(ctx, env.root)).To(Succeed())
	Eventually(func() (string, error) { return env.CP.Kubectl(ctx, "api-resources", "--api-group=audit.osapi.io") }, soon).
		WithContext(ctx).Should(SatisfyAll(ContainSubstring("audit.osapi.io/v1alpha1"), Not(ContainSubstring("v1alpha2"))))
}

func at(object map[string]any, path ...string) map[string]any {
	for _, key := range path {
		object = object[key].(map[string]any)
	}
	return object
}
