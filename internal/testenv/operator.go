package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The names that config/default gives to the operator's namespace and service account.
const (
	OperatorNamespace      = "auditstream-operator-system"
	OperatorServiceAccount = "auditstream-operator-controller-manager"
)

const fieldOwner = client.FieldOwner("auditstream-testenv")

// InstallOperator applies config/default but for the Deployment: the operator runs as a process instead, under
// OperatorServiceAccount. It returns once the API server serves the CRDs' kinds, and lists them, which it does a moment after the
// CRDs are established.
func InstallOperator(ctx context.Context, c *ControlPlane) error {
	root, err := RepoRoot()
	if err != nil {
		return err
	}
	manifests, err := kustomize(ctx, filepath.Join(root, "config", "default"))
	if err != nil {
		return err
	}
	objects, err := decode(manifests)
	if err != nil {
		return fmt.Errorf("reading the output of kustomize: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		return err
	}
	k8s, err := client.New(c.Config(), client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("making a client of the API server: %w", err)
	}
	for _, object := range objects {
		if object.GetKind() == "Deployment" {
			continue
		}
		err := k8s.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), fieldOwner, client.ForceOwnership)
		if err != nil {
			return fmt.Errorf("applying %s %s of config/default: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return awaitServed(ctx, c, k8s, objects)
}

// kustomize builds dir with bin/kustomize, else with kubectl, which holds it too.
func kustomize(ctx context.Context, dir string) ([]byte, error) {
	args := []string{"build", dir}
	path, err := builtBinary("kustomize", "KUSTOMIZE", "kustomize")
	if err != nil {
		args[0] = "kustomize"
		if path, err = Kubectl(); err != nil {
			return nil, fmt.Errorf("building %s: %w", dir, err)
		}
	}
	cmd := exec.CommandContext(ctx, path, args...) // #nosec G204 -- a tool of the repository
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("building %s: %w: %s", dir, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

func decode(manifests []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096); ; {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// awaitServed waits for the condition, and for the list of what the API server serves: kubectl and controllers go by that, and it
// follows the condition.
func awaitServed(ctx context.Context, c *ControlPlane, k8s client.Client, objects []*unstructured.Unstructured) error {
	lists, err := discovery.NewDiscoveryClientForConfig(c.Config())
	if err != nil {
		return fmt.Errorf("making a client of the API server: %w", err)
	}
	for _, object := range objects {
		if object.GetKind() != "CustomResourceDefinition" {
			continue
		}
		err := await(ctx, "the CRD "+object.GetName()+" to be served", nil, func(ctx context.Context) error {
			crd := &apiextensionsv1.CustomResourceDefinition{}
			if err := k8s.Get(ctx, client.ObjectKeyFromObject(object), crd); err != nil {
				return err
			}
			if !slices.ContainsFunc(crd.Status.Conditions, isEstablished) {
				return errors.New("it has no condition Established")
			}
			_, all, err := lists.ServerGroupsAndResources()
			if !slices.ContainsFunc(all, func(list *metav1.APIResourceList) bool { return has(list, crd) }) {
				return errors.Join(err, errors.New("the API server does not list it"))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func isEstablished(condition apiextensionsv1.CustomResourceDefinitionCondition) bool {
	return condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue
}

func has(list *metav1.APIResourceList, crd *apiextensionsv1.CustomResourceDefinition) bool {
	return strings.HasPrefix(list.GroupVersion, crd.Spec.Group+"/") && slices.ContainsFunc(list.APIResources, func(resource metav1.APIResource) bool {
		return resource.Name == crd.Spec.Names.Plural
	})
}
