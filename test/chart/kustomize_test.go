package chart

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// TestChartAndKustomizeMakeTheSame compares what the chart and config/default render, with and without the components. Set aside
// are what helm and kustomize write to say that it was them, the Namespace, which helm makes itself, and the image.
func TestChartAndKustomizeMakeTheSame(t *testing.T) {
	for _, test := range []struct {
		name, set  string
		components []string
	}{
		{name: "as they are", set: "replicas=1"},
		{name: "prometheus", set: "metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true", components: []string{"prometheus"}},
		{name: "network-policy", set: "networkPolicy.enabled=true", components: []string{"network-policy"}},
		{name: "namespaced", set: "namespaces={" + testenv.OperatorNamespace + "}", components: []string{"namespaced"}},
		{name: "without-crd", set: "crds.install=false", components: []string{"without-crd"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			fromChart := plain(t, render(t, "--set", test.set))
			rendered := kustomize(t, overlay(t, "", test.components...))
			// The component namespaced gives the Service a shorter name.
			rendered = strings.ReplaceAll(rendered, "name: auditstream-operator-metrics\n", "name: auditstream-operator-controller-manager-metrics-service\n")
			fromKustomize := plain(t, rendered)
			same(t, fromKustomize, fromChart)
		})
	}
}

// same compares objects one by one.
func same(t *testing.T, fromKustomize, fromChart map[string]string) {
	t.Helper()
	if len(fromChart) == 0 {
		t.Error("the chart renders nothing")
	}
	for _, key := range slices.Sorted(maps.Keys(fromKustomize)) {
		if got, found := fromChart[key]; !found {
			t.Errorf("only kustomize has %s", key)
		} else if got != fromKustomize[key] {
			sameText(t, key+": kustomize and the chart", fromKustomize[key], got)
		}
		delete(fromChart, key)
	}
	for key := range fromChart {
		t.Errorf("only the chart has %s", key)
	}
}

// overlay makes an overlay of config/default, beside a copy of config because kustomize follows relative paths only. In the
// repository it would be in the way of whoever copies that meanwhile.
func overlay(t *testing.T, head string, components ...string) string {
	t.Helper()
	dir := filepath.Join(clone(t), "overlay")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	text := head + "resources: [../config/default]\ncomponents:\n"
	for _, component := range components {
		text += "- ../config/components/" + component + "\n"
	}
	if len(components) == 0 {
		text += "[]\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(strings.Replace(text, ":\n[]", ": []", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func plain(t *testing.T, manifests string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for key, object := range objectsOf(t, manifests) {
		if object.GetKind() == "Namespace" {
			continue
		}
		setAside(t, object)
		text, err := json.MarshalIndent(object.Object, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		found[key] = string(text)
	}
	return found
}

// setAside takes out of an object what cannot be the same.
func setAside(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	labels := object.GetLabels()
	for _, key := range []string{"helm.sh/chart", "app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by"} {
		delete(labels, key)
	}
	annotations := object.GetAnnotations()
	delete(annotations, "helm.sh/resource-policy")
	if object.GetKind() == "CustomResourceDefinition" {
		delete(labels, "app.kubernetes.io/name") // config/crd gives it none
	}
	for _, path := range [][]string{
		{"spec", "selector"}, {"spec", "selector", "matchLabels"}, {"spec", "podSelector", "matchLabels"}, {"spec", "template", "metadata", "labels"},
	} {
		unstructured.RemoveNestedField(object.Object, append(path, "app.kubernetes.io/instance")...)
	}
	object.SetLabels(nilIfEmpty(labels))
	object.SetAnnotations(nilIfEmpty(annotations))
	if object.GetKind() == "Deployment" {
		setAsideInPod(t, object)
	}
}

func nilIfEmpty(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}

func setAsideInPod(t *testing.T, deployment *unstructured.Unstructured) {
	t.Helper()
	path := []string{"spec", "template", "spec", "containers"}
	containers, _, err := unstructured.NestedSlice(deployment.Object, path...)
	if err != nil || len(containers) != 1 {
		t.Fatalf("the Deployment has %d containers: %v", len(containers), err)
	}
	manager := containers[0].(map[string]any)
	delete(manager, "image")
	delete(manager, "imagePullPolicy") // the API server's default for an image with a tag
	// The component does not know the namespace's name, and has Kubernetes fill it in.
	const variable = "POD_NAMESPACE"
	manager["env"] = slices.DeleteFunc(manager["env"].([]any), func(e any) bool { return e.(map[string]any)["name"] == variable })
	for i, arg := range manager["args"].([]any) {
		manager["args"].([]any)[i] = strings.ReplaceAll(arg.(string), "$("+variable+")", testenv.OperatorNamespace)
	}
	if err := unstructured.SetNestedSlice(deployment.Object, containers, path...); err != nil {
		t.Fatal(err)
	}
}

// TestTheNamespacedComponentStaysInItsNamespace puts the operator into a namespace with names of its own. What all of them share,
// the CRD, is not in the team's overlay: deleting or pruning it would delete every team's AuditStreams.
func TestTheNamespacedComponentStaysInItsNamespace(t *testing.T) {
	const team = "payments"
	found := objectsOf(t, kustomize(t, overlay(t, "namespace: "+team+"\nnameSuffix: -"+team+"\n", "namespaced", "without-crd", "prometheus", "network-policy")))
	bindings := 0
	for key, object := range found {
		if namespace := object.GetNamespace(); namespace != "" && namespace != team {
			t.Errorf("%s is in another namespace", key)
		}
		if !strings.HasSuffix(object.GetName(), "-"+team) {
			t.Errorf("%s would replace another team's", key)
		}
		subjects, _, _ := unstructured.NestedSlice(object.Object, "subjects")
		for _, subject := range subjects {
			bindings++
			of := subject.(map[string]any)
			if of["namespace"] != team || of["name"] != testenv.OperatorServiceAccount+"-"+team {
				t.Errorf("%s is for %s/%s", key, of["namespace"], of["name"])
			}
		}
	}
	if bindings != 4 {
		t.Errorf("%d bindings, want those of the manager, the cluster's identity, leader election and metrics", bindings)
	}
}

// TestInstallYAMLIsFresh runs the check that make verify runs, on the repository and on a stale copy.
func TestInstallYAMLIsFresh(t *testing.T) {
	check := func(dir string) (string, error) {
		return output(t.Context(), []string{"KUSTOMIZE=" + tool(t, "kustomize")}, filepath.Join(dir, "hack", "chart", "sync.sh"), "--check")
	}
	if out, err := check(root); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	clone := t.TempDir()
	for _, dir := range []string{"charts", "config", "dist", "docs", filepath.Join("hack", "chart")} {
		if err := os.CopyFS(filepath.Join(clone, dir), os.DirFS(filepath.Join(root, dir))); err != nil {
			t.Fatal(err)
		}
	}
	role := filepath.Join(clone, "config", "rbac", "role.yaml")
	text, err := os.ReadFile(role)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(role, append(text, "- nonResourceURLs: [/new]\n  verbs: [get]\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = check(clone)
	for _, stale := range []string{"charts/auditstream-operator/files", "dist/install.yaml"} {
		if err == nil || !strings.Contains(err.Error(), stale+" is not what config/ and Chart.yaml say: run make chart") {
			t.Errorf("a change of config/rbac/role.yaml leaves %s stale, and the check says: %v", stale, err)
		}
	}
}
