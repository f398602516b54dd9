// Package rig sets up what a benchmark measures: a kube-apiserver with the operator's manifests, NATS with file storage,
// and the operator as a process under its own ServiceAccount. It counts what that costs, and judges nothing.
package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// Namespace is where the benchmark's resources are.
const Namespace = "bench"

// Rig is what runs, and how to reach it.
type Rig struct {
	K8s client.WithWatch
	JS  jetstream.JetStream

	dir        string
	plane      *testenv.ControlPlane
	servers    testenv.NATSServers
	raw        *kubernetes.Clientset
	kubeconfig string
	cleanup    []func() error
}

// Start starts everything but the operator, with so many nats-servers, which are a cluster when they are several.
func Start(ctx context.Context, servers int) (_ *Rig, err error) {
	r := &Rig{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Stop())
		}
	}()
	if r.dir, err = os.MkdirTemp("", "auditstream-bench-"); err != nil {
		return nil, err
	}
	r.cleanup = append(r.cleanup, func() error { return os.RemoveAll(r.dir) })
	r.plane, err = testenv.StartControlPlane(ctx, testenv.ControlPlaneOptions{Dir: filepath.Join(r.dir, "k8s"), InstallCRDs: true})
	if err != nil {
		return nil, err
	}
	r.cleanup = append(r.cleanup, r.plane.Stop)
	if r.servers, err = testenv.StartNATSCluster(ctx, filepath.Join(r.dir, "nats"), servers); err != nil {
		return nil, err
	}
	r.cleanup = append(r.cleanup, r.servers.Stop)
	if err := testenv.InstallOperator(ctx, r.plane); err != nil {
		return nil, err
	}
	r.kubeconfig, err = r.plane.ServiceAccountKubeconfig(ctx, testenv.OperatorNamespace, testenv.OperatorServiceAccount)
	if err != nil {
		return nil, err
	}
	return r, r.connect(ctx)
}

func (r *Rig) connect(ctx context.Context) error {
	if err := v1alpha1.AddToScheme(clientgoscheme.Scheme); err != nil {
		return err
	}
	var err error
	if r.K8s, err = client.NewWithWatch(r.plane.Config(), client.Options{}); err != nil {
		return err
	}
	if r.raw, err = kubernetes.NewForConfig(r.plane.Config()); err != nil {
		return err
	}
	nc, err := r.Dial()
	if err != nil {
		return err
	}
	if r.JS, err = jetstream.New(nc); err != nil {
		return err
	}
	return r.K8s.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}})
}

// Dial makes a connection to NATS that lasts as long as the rig.
func (r *Rig) Dial() (*nats.Conn, error) {
	nc, err := nats.Connect(r.servers.URL())
	if err != nil {
		return nil, err
	}
	r.cleanup = append(r.cleanup, func() error { nc.Close(); return nil })
	return nc, nil
}

// StartManager starts the operator. Stop stops it, if it has not been stopped before.
func (r *Rig) StartManager(ctx context.Context) (*testenv.Manager, error) {
	manager, err := testenv.StartManager(ctx, testenv.ManagerOptions{
		Kubeconfig: r.kubeconfig, NATSURL: r.servers.URL(), LogFile: r.managerLog(),
	})
	if err != nil {
		return nil, err
	}
	r.cleanup = append(r.cleanup, func() error { return manager.Stop(context.Background()) })
	return manager, nil
}

func (r *Rig) managerLog() string { return filepath.Join(r.dir, "manager.log") }

// Stop stops everything, the last part first. Stopping again does nothing.
func (r *Rig) Stop() error {
	var errs []error
	for _, f := range slices.Backward(r.cleanup) {
		errs = append(errs, f())
	}
	r.cleanup = nil
	return errors.Join(errs...)
}

// CreateUntil creates the resource and returns how long it took until the condition was True.
func (r *Rig) CreateUntil(ctx context.Context, obj *v1alpha1.AuditStream, condition string, timeout time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	named := client.MatchingFields{"metadata.name": obj.Name}
	watch, err := r.K8s.Watch(ctx, &v1alpha1.AuditStreamList{}, client.InNamespace(Namespace), named)
	if err != nil {
		return 0, err
	}
	defer watch.Stop()
	began := time.Now()
	if err := r.K8s.Create(ctx, obj); err != nil {
		return 0, err
	}
	var last v1alpha1.AuditStreamStatus
	for event := range watch.ResultChan() {
		seen, ok := event.Object.(*v1alpha1.AuditStream)
		if !ok {
			continue
		}
		if meta.IsStatusConditionTrue(seen.Status.Conditions, condition) {
			return time.Since(began), nil
		}
		last = seen.Status
	}
	return 0, fmt.Errorf("AuditStream %s was not %s within %s; its conditions: %+v\nlast lines of the operator's log:\n%s",
		obj.Name, condition, timeout, last.Conditions, testenv.LogTail(r.managerLog(), 20))
}

// Sleep waits, unless ctx ends before.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
