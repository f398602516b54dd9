package chart

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	crdName    = "auditstreams.audit.osapi.io"
	oldVersion = "v0.0.9"
	// newField is what the CRD of the old chart does not have.
	newField = "suspend"
)

func lease() client.Object { return &coordinationv1.Lease{} }

// TestAReleaseFromInstallToUninstall follows a release and an AuditStream: install an old version, upgrade, roll back, upgrade,
// uninstall, install again. The stream and the AuditStream outlive all of it.
func TestAReleaseFromInstallToUninstall(t *testing.T) {
	r := newRig(t)
	inNamespace := []string{"--namespace", testenv.OperatorNamespace, "--set", "nats.url=" + r.nats.URL()}
	do := func(command, chart string, args ...string) string {
		t.Helper()
		out := r.helm(append(append([]string{command, release, chart}, inNamespace...), args...)...)
		r.follow()
		return out
	}

	notes := do("install", oldChart(t), "--create-namespace")
	contains(t, notes, "auditstream-operator "+oldVersion+" is installed", "Uninstalling this release deletes no data",
		"A later installation under this name and in this namespace goes")
	r.shows(oldVersion, 1, false)
	uid := r.declare(testenv.OperatorNamespace, "api-audit", "AUDIT")
	r.write("AUDIT", "audit.1")

	contains(t, do("upgrade", chartDir, "--set", "replicas=2"), "was upgraded")
	r.shows(readChart(t).AppVersion, 2, true)
	r.helm("rollback", release, "1", "--namespace", testenv.OperatorNamespace)
	r.follow()
	r.shows(oldVersion, 1, false)
	do("upgrade", chartDir)
	r.outlived(uid)

	installed := objectsOf(t, r.helm("get", "manifest", release, "--namespace", testenv.OperatorNamespace))
	delete(installed, "CustomResourceDefinition /"+crdName)
	kept := r.helm("uninstall", release, "--namespace", testenv.OperatorNamespace)
	r.follow()
	contains(t, kept, "kept due to the resource policy", crdName)
	r.eventually("what was installed to go", func() error { return r.gone(installed) })
	r.outlived(uid)

	r.anotherNameNeedsToSaySo()
	do("install", chartDir)
	r.outlived(uid)
	r.goesOn(testenv.OperatorNamespace, "api-audit", "AUDIT")
}

// anotherNameNeedsToSaySo would install a release that is not called as the one that has left the CRD behind.
func (r *rig) anotherNameNeedsToSaySo() {
	r.t.Helper()
	other := []string{"install", "another", chartDir, "--namespace", testenv.OperatorNamespace, "--dry-run=server"}
	if _, err := output(r.t.Context(), r.env, tool(r.t, "helm"), other...); err == nil || !strings.Contains(err.Error(), crdName) {
		r.t.Errorf("a release of another name takes the CRD over without a word: %v", err)
	}
	r.helm(append(other, "--set", "crds.install=false")...)
	r.helm(append(other, "--take-ownership")...)
}

// TestWithoutKeepTheCRDGoesAndTheDataStays is the uninstallation that the notes warn of.
func TestWithoutKeepTheCRDGoesAndTheDataStays(t *testing.T) {
	r := newRig(t)
	notes := r.helm("install", release, chartDir, "--namespace", testenv.OperatorNamespace, "--create-namespace",
		"--set", "crds.keep=false,nats.url="+r.nats.URL())
	contains(t, notes, "crds.keep is false", "EVERY AuditStream of the cluster")
	r.follow()
	r.declare(testenv.OperatorNamespace, "api-audit", "AUDIT")
	r.write("AUDIT", "audit.1")
	r.helm("uninstall", release, "--namespace", testenv.OperatorNamespace)
	r.follow()
	crd := &unstructured.Unstructured{}
	crd.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	crd.SetName(crdName)
	r.eventually("the CRD to go", func() error { return r.gone(objects{crdName: crd}) })
	r.holds("AUDIT", 1)
}

// TestANamespacedReleaseLeavesOtherNamespacesAlone runs the operator under the roles that the chart gives it for one namespace.
func TestANamespacedReleaseLeavesOtherNamespacesAlone(t *testing.T) {
	r := newRig(t)
	r.namespaces("payments", "ledger")
	r.helm("install", release, chartDir, "--namespace", testenv.OperatorNamespace, "--create-namespace",
		"--set", "namespaces={payments},nats.url="+r.nats.URL())
	other := &v1alpha1.AuditStream{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ledger", Name: "api-audit"},
		Spec:       v1alpha1.AuditStreamSpec{Stream: "LEDGER", Subject: "ledger"},
	}
	r.eventually("the AuditStream to be taken", func() error { return r.k8s.Create(t.Context(), other) })
	r.follow()
	r.declare("payments", "api-audit", "PAYMENTS")
	r.goesOn("payments", "api-audit", "PAYMENTS")
	if got := r.auditStream("ledger", "api-audit"); got.Status.ObservedGeneration > 0 || len(got.Status.Conditions) > 0 {
		t.Errorf("the other namespace's AuditStream has the status %+v", got.Status)
	}
	r.leavesWhatIsOwnedElsewhere()
	account := "--as=system:serviceaccount:" + testenv.OperatorNamespace + ":" + testenv.OperatorServiceAccount
	for namespace, want := range map[string]string{"payments": "yes", "ledger": "no"} {
		got, _ := r.cp.Kubectl(t.Context(), "auth", "can-i", "list", "auditstreams", "--namespace", namespace, account)
		if strings.TrimSpace(got) != want {
			t.Errorf("may the operator list AuditStreams in %s: %q, want %q", namespace, got, want)
		}
	}
}

// leavesWhatIsOwnedElsewhere has a resource of payments declare the stream that ledger's operator has claimed.
func (r *rig) leavesWhatIsOwnedElsewhere() {
	r.t.Helper()
	cluster := &corev1.Namespace{}
	r.must(r.k8s.Get(r.t.Context(), client.ObjectKey{Name: metav1.NamespaceSystem}, cluster))
	owner := jsbuilder.OwnerValue(string(cluster.UID), "ledger", "api-audit")
	_, err := r.jetStream().CreateStream(r.t.Context(), jetstream.StreamConfig{
		Name: "LEDGER", Subjects: []string{"ledger.>"}, Metadata: map[string]string{jsbuilder.MetadataOwner: owner},
	})
	r.must(err)
	r.must(r.k8s.Create(r.t.Context(), &v1alpha1.AuditStream{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "thief"},
		Spec:       v1alpha1.AuditStreamSpec{Stream: "LEDGER", Subject: "ledger", AdoptionPolicy: v1alpha1.AdoptionPolicyAdopt},
	}))
	r.eventually("the operator to say that it may not have the stream", func() error {
		conditions := r.auditStream("payments", "thief").Status.Conditions
		if ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady); ready == nil || ready.Status == metav1.ConditionTrue ||
			ready.Reason != v1alpha1.ReasonOwnershipConflict || !strings.Contains(ready.Message, "ledger/api-audit") {
			return fmt.Errorf("it says %+v", conditions)
		}
		return nil
	})
	if got := r.stream("LEDGER").Config.Metadata[jsbuilder.MetadataOwner]; got != owner {
		r.t.Errorf("the stream of %s is now owned by %s", owner, got)
	}
}

// TestTheAPIServerTakesWhateverTheChartRenders asks it with strict field validation, and without the object being made.
func TestTheAPIServerTakesWhateverTheChartRenders(t *testing.T) {
	r := newRig(t)
	r.prometheusOperator()
	r.namespaces("payments", "ledger", testenv.OperatorNamespace)
	for _, values := range goldens(t) {
		file := filepath.Join(r.dir, filepath.Base(values))
		rendered := render(t, "--values", values)
		r.must(os.WriteFile(file, []byte(rendered), 0o600))
		taken := r.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", file)
		if got, want := strings.Count(taken, "\n"), len(objectsOf(t, rendered)); got != want {
			t.Errorf("of the objects with %s %d were taken, want %d:\n%s", values, got, want, taken)
		}
	}
}

func (r *rig) namespaces(names ...string) {
	r.t.Helper()
	for _, name := range names {
		r.must(r.k8s.Create(r.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not said in\n%s", part, text)
		}
	}
}

// oldChart is the chart as an older version of the operator would have had it.
func oldChart(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), release)
	if err := os.CopyFS(dir, os.DirFS(chartDir)); err != nil {
		t.Fatal(err)
	}
	change := func(path string, to func(map[string]any)) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		content := map[string]any{}
		if err = yaml.Unmarshal(text, &content); err != nil {
			t.Fatal(err)
		}
		to(content)
		if text, err = yaml.Marshal(content); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change("Chart.yaml", func(chart map[string]any) {
		chart["version"], chart["appVersion"] = strings.TrimPrefix(oldVersion, "v"), oldVersion
	})
	change("files/crds/audit.osapi.io_auditstreams.yaml", func(crd map[string]any) {
		version := crd["spec"].(map[string]any)["versions"].([]any)[0].(map[string]any)
		unstructured.RemoveNestedField(version, "schema", "openAPIV3Schema", "properties", "spec", "properties", newField)
	})
	return dir
}

// shows looks at what a version of the chart has put into the cluster.
func (r *rig) shows(version string, replicas int32, hasNewField bool) {
	r.t.Helper()
	deployment := &appsv1.Deployment{}
	r.must(r.k8s.Get(r.t.Context(), client.ObjectKey{Namespace: testenv.OperatorNamespace, Name: release + "-controller-manager"}, deployment))
	if image := deployment.Spec.Template.Spec.Containers[0].Image; !strings.HasSuffix(image, ":"+version) {
		r.t.Errorf("the image is %s, want version %s", image, version)
	}
	if got := *deployment.Spec.Replicas; got != replicas {
		r.t.Errorf("there are %d replicas, want %d", got, replicas)
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	r.must(r.k8s.Get(r.t.Context(), client.ObjectKey{Name: crdName}, crd))
	if _, found := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties[newField]; found != hasNewField {
		r.t.Errorf("in version %s the CRD has the field %s: %t", version, newField, found)
	}
}

// declare makes an AuditStream and waits until it is Ready.
func (r *rig) declare(namespace, name, stream string) types.UID {
	r.t.Helper()
	declared := &v1alpha1.AuditStream{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.AuditStreamSpec{Stream: stream, Subject: strings.ToLower(stream), MaxAge: "30d"},
	}
	r.eventually("the AuditStream to be taken", func() error { return r.k8s.Create(r.t.Context(), declared) })
	r.awaitReady(namespace, name)
	return declared.UID
}

func (r *rig) awaitReady(namespace, name string) {
	r.t.Helper()
	r.eventually("the AuditStream to be Ready", func() error {
		got := r.auditStream(namespace, name)
		if got.Status.ObservedGeneration == got.Generation && meta.IsStatusConditionTrue(got.Status.Conditions, v1alpha1.ConditionReady) {
			return nil
		}
		text, err := json.Marshal(got.Status)
		return errors.Join(err, errors.New(string(text)))
	})
}

// goesOn changes a resource and finds its stream changed.
func (r *rig) goesOn(namespace, name, stream string) {
	r.t.Helper()
	const limit = "64Mi"
	r.kubectl("--namespace", namespace, "patch", "auditstream", name, "--type=merge", "--patch", `{"spec":{"maxBytes":"`+limit+`"}}`)
	r.awaitReady(namespace, name)
	if got := r.stream(stream).Config.MaxBytes; got != 64<<20 {
		r.t.Errorf("stream %s may hold %d bytes, want %s", stream, got, limit)
	}
}

// outlived says that the AuditStream is the one that was declared, and that the stream has its entry.
func (r *rig) outlived(uid types.UID) {
	r.t.Helper()
	if got := r.auditStream(testenv.OperatorNamespace, "api-audit"); got.UID != uid || got.DeletionTimestamp != nil {
		r.t.Errorf("the AuditStream is %s (deleted at %v), want %s", got.UID, got.DeletionTimestamp, uid)
	}
	r.holds("AUDIT", 1)
}

func (r *rig) holds(stream string, entries uint64) {
	r.t.Helper()
	if got := r.stream(stream).State.Msgs; got != entries {
		r.t.Errorf("stream %s holds %d entries, want %d", stream, got, entries)
	}
}

func (r *rig) stream(name string) *jetstream.StreamInfo {
	r.t.Helper()
	stream, err := r.jetStream().Stream(r.t.Context(), name)
	r.must(err)
	return stream.CachedInfo()
}

func (r *rig) write(stream, subject string) {
	r.t.Helper()
	if _, err := r.jetStream().Publish(r.t.Context(), subject, []byte(`{"id":"1"}`), jetstream.WithExpectStream(stream)); err != nil {
		r.must(fmt.Errorf("writing to %s: %w", stream, err))
	}
}

func (r *rig) jetStream() jetstream.JetStream {
	r.t.Helper()
	nc, err := nats.Connect(r.nats.URL())
	r.must(err)
	r.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	r.must(err)
	return js
}
