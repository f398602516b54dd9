package flux

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// The names of the guide.
var (
	operatorKustomization = client.ObjectKey{Namespace: testenv.FluxNamespace, Name: "auditstream-operator"}
	paymentsKustomization = client.ObjectKey{Namespace: testenv.FluxNamespace, Name: "audit-payments"}
	billingKustomization  = client.ObjectKey{Namespace: "billing", Name: "audit"}
	fleet                 = client.ObjectKey{Namespace: testenv.FluxNamespace, Name: "fleet"}

	apiAudit      = client.ObjectKey{Namespace: "payments", Name: "api-audit"}
	ledgerAudit   = client.ObjectKey{Namespace: "payments", Name: "ledger-audit"}
	invoicesAudit = client.ObjectKey{Namespace: "billing", Name: "invoices-audit"}
)

const (
	stream, subject = "AUDIT", "audit"
	ledgerStream    = "LEDGER_AUDIT"

	requestedAt   = "reconcile.fluxcd.io/requestedAt"
	kustomizeKind = "Kustomization"
)

// kustomization is the part of a Flux Kustomization that journeys look at.
type kustomization struct {
	metav1.ObjectMeta `json:"metadata"`

	Status struct {
		LastAppliedRevision    string             `json:"lastAppliedRevision"`
		LastHandledReconcileAt string             `json:"lastHandledReconcileAt"`
		Conditions             []metav1.Condition `json:"conditions"`
	} `json:"status"`
}

func fluxObject(kind string, key client.ObjectKey) *unstructured.Unstructured {
	group := "kustomize.toolkit.fluxcd.io"
	if kind != kustomizeKind {
		group = "source.toolkit.fluxcd.io"
	}
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind})
	object.SetNamespace(key.Namespace)
	object.SetName(key.Name)
	return object
}

// flux fetches a Kustomization; it is for Eventually and Consistently.
func flux(key client.ObjectKey) func(context.Context) (*kustomization, error) {
	return func(ctx context.Context) (*kustomization, error) {
		object := fluxObject(kustomizeKind, key)
		if err := env.k8s.Get(ctx, key, object); err != nil {
			return nil, err
		}
		k := &kustomization{}
		return k, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, k)
	}
}

// fluxReady is what the Ready condition says: "<status> <reason>: <message>".
func fluxReady(k *kustomization) string {
	c := meta.FindStatusCondition(k.Status.Conditions, "Ready")
	if c == nil || c.ObservedGeneration != k.Generation {
		return "not said yet"
	}
	return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
}

// sayReady matches a Kustomization whose Ready condition begins like that.
func sayReady(prefix string) types.GomegaMatcher { return WithTransform(fluxReady, HavePrefix(prefix)) }

// haveApplied matches a Kustomization that is Ready at the commit.
func haveApplied(commit string) types.GomegaMatcher {
	return SatisfyAll(sayReady("True ReconciliationSucceeded: "),
		WithTransform(func(k *kustomization) string { return k.Status.LastAppliedRevision }, HaveSuffix(":"+commit)))
}

// push commits the tree and has Flux fetch it at once, as a webhook would. It returns the commit.
func push(ctx context.Context, message string) string {
	GinkgoHelper()
	commit, err := env.git.Commit(ctx, message)
	Expect(err).NotTo(HaveOccurred())
	requestReconcile(ctx, fluxObject("GitRepository", fleet))
	return commit
}

// pushAndApply returns once the Kustomization of the payments team is Ready at the commit.
func pushAndApply(ctx context.Context, message string) {
	GinkgoHelper()
	commit := push(ctx, message)
	Eventually(flux(paymentsKustomization)).WithContext(ctx).Should(haveApplied(commit))
}

// reconcile has Flux reconcile a Kustomization, as flux reconcile does, and returns once it has.
func reconcile(ctx context.Context, key client.ObjectKey) {
	GinkgoHelper()
	token := requestReconcile(ctx, fluxObject(kustomizeKind, key))
	Eventually(flux(key)).WithContext(ctx).Should(SatisfyAll(
		WithTransform(func(k *kustomization) string { return k.Status.LastHandledReconcileAt }, Equal(token)),
		sayReady("True ReconciliationSucceeded: ")))
}

func requestReconcile(ctx context.Context, object *unstructured.Unstructured) string {
	GinkgoHelper()
	token := time.Now().Format(time.RFC3339Nano)
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, requestedAt, token)
	Expect(env.k8s.Patch(ctx, object, client.RawPatch("application/merge-patch+json", patch))).To(Succeed())
	return token
}

// now fetches an AuditStream; it is for Eventually and Consistently.
func now(key client.ObjectKey) func(context.Context) (*v1alpha1.AuditStream, error) {
	return func(ctx context.Context) (*v1alpha1.AuditStream, error) {
		s := &v1alpha1.AuditStream{}
		return s, env.k8s.Get(ctx, key, s)
	}
}

// said is what a condition of the latest generation says: "<status> <reason>: <message>".
func said(kind string) func(*v1alpha1.AuditStream) string {
	return func(s *v1alpha1.AuditStream) string {
		c := meta.FindStatusCondition(s.Status.Conditions, kind)
		if c == nil || s.Status.ObservedGeneration != s.Generation || c.ObservedGeneration != s.Generation {
			return "not said yet"
		}
		return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
	}
}

// beReady matches an AuditStream whose Ready condition has the status and the reason.
func beReady(status metav1.ConditionStatus, reason string) types.GomegaMatcher {
	return WithTransform(said(v1alpha1.ConditionReady), HavePrefix(fmt.Sprintf("%s %s: ", status, reason)))
}

func vouchedFor() types.GomegaMatcher { return beReady(metav1.ConditionTrue, v1alpha1.ReasonReady) }

// onServer fetches a JetStream stream.
func onServer(ctx context.Context, name string) *jetstream.StreamInfo {
	GinkgoHelper()
	live, err := env.js.Stream(ctx, name)
	Expect(err).NotTo(HaveOccurred())
	return live.CachedInfo()
}

func maxAge(name string) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		live, err := env.js.Stream(ctx, name)
		if err != nil {
			return 0, err
		}
		return live.CachedInfo().Config.MaxAge, nil
	}
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// setMaxAge changes the stream past the operator.
func setMaxAge(ctx context.Context, name string, age time.Duration) {
	GinkgoHelper()
	config := onServer(ctx, name).Config
	config.MaxAge = age
	_, err := env.js.UpdateStream(ctx, config)
	Expect(err).NotTo(HaveOccurred())
}

func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := env.cp.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

// eventSink takes the events that Flux sends to notification-controller.
type eventSink struct {
	mu    sync.Mutex
	lines []string
}

func (s *eventSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var event struct {
		InvolvedObject            struct{ Kind, Namespace, Name string }
		Severity, Reason, Message string
	}
	if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	object := event.InvolvedObject
	s.lines = append(s.lines, strings.Join([]string{
		event.Severity, object.Kind, object.Namespace + "/" + object.Name, event.Reason, event.Message,
	}, " "))
	w.WriteHeader(http.StatusAccepted)
}

// all are the events as "<severity> <kind> <namespace>/<name> <reason> <message>".
func (s *eventSink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}
