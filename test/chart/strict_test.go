package chart

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	sigsyaml "sigs.k8s.io/yaml"
)

// TestNoKeyIsThereTwice has values share keys with each other, and with what the chart sets itself.
func TestNoKeyIsThereTwice(t *testing.T) {
	found := strictly(t, render(t, "--values", "testdata/full.values.yaml", "--values", "testdata/shared-keys.yaml"))
	const name = "app.kubernetes.io/name"
	for _, kind := range []string{"ServiceMonitor", "PrometheusRule", "ConfigMap"} {
		labels := ofKind(t, found, kind).GetLabels()
		if labels["team"] != "audit" || labels[name] != release {
			t.Errorf("%s has the labels %v: its own win, then what is for it alone", kind, labels)
		}
	}
	monitor := ofKind(t, found, "ServiceMonitor").GetLabels()
	if monitor["control-plane"] != "controller-manager" || monitor["release"] != "prometheus" {
		t.Errorf("the ServiceMonitor has the labels %v", monitor)
	}
	const container = "kubectl.kubernetes.io/default-container"
	template, _, err := unstructured.NestedStringMap(ofKind(t, found, "Deployment").Object, "spec", "template", "metadata", "annotations")
	if err != nil || template[container] != "proxy" || template["example.com/reason"] != "because" {
		t.Errorf("the Pods have the annotations %v: podAnnotations win (%v)", template, err)
	}
}

// TestNamesOfDigitsAreText has everything that values may name, and the release, be called 123.
func TestNamesOfDigitsAreText(t *testing.T) {
	digits := []string{"nameOverride", "fullnameOverride", "image.repository", "image.tag", "nats.credentials.key",
		"metrics.certificateSecret", "namespaces[0]", "priorityClassName", "serviceAccount.name", "extraLabels.team", "podLabels.tier"}
	for _, secrets := range [][]string{
		{"nats.credentials.secret", "nats.ca.secret", "nats.clientCertificate.secret"},
		{"nats.password.user", "nats.password.secret", "nats.ca.configMap"},
		{"nats.token.secret"},
	} {
		args := []string{"template", "123", chartDir, "--namespace", "123", "--values", "testdata/shared-keys.yaml"}
		for _, value := range append(digits, secrets...) {
			args = append(args, "--set-string", value+"=123")
		}
		for _, enabled := range []string{"podDisruptionBudget", "networkPolicy", "metrics.serviceMonitor", "metrics.prometheusRule", "metrics.dashboards"} {
			args = append(args, "--set", enabled+".enabled=true")
		}
		out, err := output(t.Context(), helmEnv(t), tool(t, "helm"), args...)
		if err != nil {
			t.Fatal(err)
		}
		strictly(t, out)
	}
}

func ofKind(t *testing.T, all objects, kind string) *unstructured.Unstructured {
	t.Helper()
	for _, object := range all {
		if object.GetKind() == kind {
			return object
		}
	}
	t.Fatalf("there is no %s", kind)
	return nil
}

// strictly reads manifests as an API server with strict validation does: no key twice, none that the kind does not have, and no
// number where text belongs. Of kinds that are not Kubernetes' own it looks at the metadata.
func strictly(t *testing.T, manifests string) objects {
	t.Helper()
	decoder := serializer.NewCodecFactory(clientgoscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifests))); ; {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objectsOf(t, manifests)
		} else if err != nil {
			t.Fatal(err)
		}
		object := &unstructured.Unstructured{}
		if err := sigsyaml.UnmarshalStrict(text, &object.Object); err != nil {
			template, _, _ := strings.Cut(string(text), "\n")
			t.Errorf("%s: %v", template, err)
		}
		if len(object.Object) == 0 {
			continue
		}
		if clientgoscheme.Scheme.Recognizes(object.GroupVersionKind()) {
			_, _, err = decoder.Decode(text, nil, nil)
		} else {
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &metav1.PartialObjectMetadata{})
		}
		if err != nil {
			t.Errorf("%s: %v", object.GetKind(), err)
		}
	}
}
