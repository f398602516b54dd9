package chart

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	soon = 2 * time.Minute
	poll = 100 * time.Millisecond
	// startTimeout is for what the control plane and the servers need on a busy machine.
	startTimeout = 3 * time.Minute
)

// rig is a control plane with a nats-server, and stands in for the nodes: it runs a Deployment's operator as a process.
type rig struct {
	t       *testing.T
	dir     string
	cp      *testenv.ControlPlane
	nats    *testenv.NATSServer
	k8s     client.Client
	env     []string
	manager *testenv.Manager
	// runs is the Pod template, as text, that the manager was started from.
	runs string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if strings.EqualFold(os.Getenv("USE_EXISTING_CLUSTER"), "true") {
		t.Skip("operators are installed and uninstalled: not in a cluster that somebody has")
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	log.SetLogger(logr.Discard())
	r := &rig{t: t, dir: t.TempDir()}
	var err error
	r.cp, err = testenv.StartControlPlane(ctx, testenv.ControlPlaneOptions{})
	r.must(err)
	t.Cleanup(func() { r.must(r.cp.Stop()) })
	r.nats, err = testenv.StartNATS(ctx, testenv.NATSOptions{})
	r.must(err)
	t.Cleanup(func() { r.must(r.nats.Stop()) })
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme} {
		r.must(add(scheme))
	}
	r.k8s, err = client.New(r.cp.Config(), client.Options{Scheme: scheme})
	r.must(err)
	r.env = append(helmEnv(t), r.cp.KubectlEnv()...)
	t.Cleanup(r.killManager)
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) helm(args ...string) string {
	r.t.Helper()
	out, err := output(r.t.Context(), r.env, tool(r.t, "helm"), args...)
	if err != nil {
		r.t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (r *rig) kubectl(args ...string) string {
	r.t.Helper()
	out, err := r.cp.Kubectl(r.t.Context(), args...)
	r.must(err)
	return out
}

// eventually waits until check returns nil.
func (r *rig) eventually(what string, check func() error) {
	r.t.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(poll) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			lines := ""
			if r.manager != nil {
				lines = testenv.LogTail(r.manager.LogFile, 20)
			}
			r.t.Fatalf("waiting for %s: %v\n%s", what, err, lines)
		}
	}
}

// follow runs what the operator's Deployment says, as the nodes of a cluster would.
func (r *rig) follow() {
	r.t.Helper()
	deployment := r.deployment()
	if deployment == nil {
		r.killManager()
		return
	}
	if template := deployment.Namespace + deployment.Spec.Template.String(); template != r.runs {
		r.killManager()
		r.startManager(deployment)
		r.runs = template
	}
}

// rolledOut waits until the operator is ready, and says so in the Deployment's status, which no controller does here.
func (r *rig) rolledOut() {
	r.t.Helper()
	deployment := r.deployment()
	if deployment == nil {
		r.t.Fatal("no operator is deployed")
	}
	r.eventually("the operator to be ready", func() error { return r.manager.Ready(r.t.Context()) })
	status := &deployment.Status
	status.ObservedGeneration = deployment.Generation
	status.Replicas = *deployment.Spec.Replicas
	status.UpdatedReplicas, status.ReadyReplicas, status.AvailableReplicas = status.Replicas, status.Replicas, status.Replicas
	r.must(r.k8s.Status().Update(r.t.Context(), deployment))
}

// deployment is the one that is there, if any.
func (r *rig) deployment() *appsv1.Deployment {
	r.t.Helper()
	list := &appsv1.DeploymentList{}
	r.must(r.k8s.List(r.t.Context(), list, client.MatchingLabels{"control-plane": "controller-manager"}))
	switch len(list.Items) {
	case 0:
		return nil
	case 1:
		return &list.Items[0]
	default:
		r.t.Fatalf("%d operators are deployed", len(list.Items))
		return nil
	}
}

func (r *rig) killManager() {
	if r.manager != nil {
		_ = r.manager.Kill()
	}
	r.manager, r.runs = nil, ""
}

func (r *rig) startManager(deployment *appsv1.Deployment) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), startTimeout)
	defer cancel()
	pod := &deployment.Spec.Template.Spec
	kubeconfig, err := r.cp.ServiceAccountKubeconfig(ctx, deployment.Namespace, pod.ServiceAccountName)
	r.must(err)
	// Leases of processes that were killed are not waited for.
	r.must(client.IgnoreNotFound(r.k8s.DeleteAllOf(ctx, lease(), client.InNamespace(deployment.Namespace))))
	env := map[string]string{"POD_NAMESPACE": deployment.Namespace}
	for _, variable := range pod.Containers[0].Env {
		if variable.ValueFrom == nil {
			env[variable.Name] = variable.Value
		}
	}
	r.manager, err = testenv.StartManager(ctx, testenv.ManagerOptions{
		Kubeconfig: kubeconfig,
		NATSURL:    env["NATS_URL"],
		Args:       append(r.args(deployment, env), "--leader-election-namespace="+deployment.Namespace),
	})
	r.must(err)
}

// args are the container's, with Secrets where the process finds them, and without the addresses, which testenv chooses.
func (r *rig) args(deployment *appsv1.Deployment, env map[string]string) []string {
	r.t.Helper()
	container := &deployment.Spec.Template.Spec.Containers[0]
	args := slices.DeleteFunc(slices.Clone(container.Args), func(arg string) bool { return strings.Contains(arg, "-bind-address=") })
	for _, volume := range deployment.Spec.Template.Spec.Volumes {
		mount := slices.IndexFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume.Name })
		if mount < 0 || volume.Secret == nil {
			r.t.Fatalf("volume %s is not a Secret that is mounted", volume.Name)
		}
		secret := &corev1.Secret{}
		r.must(r.k8s.Get(r.t.Context(), client.ObjectKey{Namespace: deployment.Namespace, Name: volume.Secret.SecretName}, secret))
		dir := filepath.Join(r.dir, volume.Name)
		r.must(os.MkdirAll(dir, 0o700))
		for name, content := range secret.Data {
			r.must(os.WriteFile(filepath.Join(dir, name), content, 0o600))
		}
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], container.VolumeMounts[mount].MountPath+"/", dir+"/")
		}
	}
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "$(POD_NAMESPACE)", env["POD_NAMESPACE"])
	}
	return args
}

func (r *rig) auditStream(namespace, name string) *v1alpha1.AuditStream {
	r.t.Helper()
	stream := &v1alpha1.AuditStream{}
	r.must(r.k8s.Get(r.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, stream))
	return stream
}

// gone is nil when none of the objects is there any more.
func (r *rig) gone(all objects) error {
	for key, object := range all {
		err := r.k8s.Get(r.t.Context(), client.ObjectKeyFromObject(object), object.DeepCopy())
		if err == nil {
			return fmt.Errorf("%s is still there", key)
		}
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// anyContent is the definition of a kind that takes everything.
func anyContent(group, plural, kind string) *apiextensionsv1.CustomResourceDefinition {
	open := true
	crd := &apiextensionsv1.CustomResourceDefinition{}
	crd.Name = plural + "." + group
	crd.Spec = apiextensionsv1.CustomResourceDefinitionSpec{
		Group: group,
		Scope: apiextensionsv1.NamespaceScoped,
		Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Singular: strings.ToLower(kind), Kind: kind, ListKind: kind + "List"},
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
			Name: "v1", Served: true, Storage: true,
			Schema: &apiextensionsv1.CustomResourceValidation{
				OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &open},
			},
		}},
	}
	return crd
}
