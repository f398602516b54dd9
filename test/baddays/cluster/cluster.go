package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// CRD is the name of the AuditStreams' CustomResourceDefinition.
const CRD = "auditstreams.audit.osapi.io"

const reconnectWait = 100 * time.Millisecond

// Cluster is what runs, and the administrator's way to it.
type Cluster struct {
	// Dir is for the files of the suite.
	Dir  string
	CP   *testenv.ControlPlane
	NATS *testenv.NATSServer
	K8s  client.WithWatch
	JS   jetstream.JetStream

	stops []func() error
}

// Start starts everything but the operator, and installs nothing.
func Start(ctx context.Context, name string) (_ *Cluster, err error) {
	c := &Cluster{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	var remove func() error
	if c.Dir, remove, err = testenv.TempDir("auditstream-" + name + "-"); err != nil {
		return nil, err
	}
	c.stops = append(c.stops, remove)
	c.CP, err = testenv.StartControlPlane(ctx, testenv.ControlPlaneOptions{
		Dir: filepath.Join(c.Dir, "control-plane"), ControllerManager: true,
	})
	if err != nil {
		return nil, err
	}
	c.stops = append(c.stops, c.CP.Stop)
	c.NATS, err = testenv.StartNATS(ctx, testenv.NATSOptions{Dir: filepath.Join(c.Dir, "nats")})
	if err != nil {
		return nil, err
	}
	c.stops = append(c.stops, c.NATS.Stop)
	return c, c.connect()
}

func (c *Cluster) connect() error {
	nc, err := c.Dial()
	if err != nil {
		return err
	}
	c.stops = append(c.stops, func() error { nc.Close(); return nil })
	if c.JS, err = jetstream.New(nc); err != nil {
		return err
	}
	if err := v1alpha1.AddToScheme(clientgoscheme.Scheme); err != nil {
		return err
	}
	c.K8s, err = client.NewWithWatch(c.CP.Config(), client.Options{})
	return err
}

// Dial makes a connection of its own to NATS.
func (c *Cluster) Dial() (*nats.Conn, error) {
	return nats.Connect(c.NATS.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait))
}

// Install applies config/default of the tree in dir, as the documentation says, and returns once the CRD is served. The
// Deployment stays without Pods: nothing here would run them.
func (c *Cluster) Install(ctx context.Context, dir string) error {
	if _, err := c.CP.Kubectl(ctx, "apply", "--server-side", "-k", filepath.Join(dir, "config", "default")); err != nil {
		return fmt.Errorf("installing the operator of %s: %w", dir, err)
	}
	_, err := c.CP.Kubectl(ctx, "wait", "--for=condition=Established", "crd/"+CRD, "--timeout=60s")
	return err
}

// OperatorKubeconfig has exactly the permissions that config/default gives to the operator.
func (c *Cluster) OperatorKubeconfig(ctx context.Context) (string, error) {
	return c.CP.ServiceAccountKubeconfig(ctx, testenv.OperatorNamespace, testenv.OperatorServiceAccount)
}

// Stop ends everything in the reverse order.
func (c *Cluster) Stop() error {
	var errs []error
	for len(c.stops) > 0 {
		last := len(c.stops) - 1
		errs = append(errs, c.stops[last]())
		c.stops = c.stops[:last]
	}
	return errors.Join(errs...)
}

// AuditStream declares a stream of the resource's own: API_AUDIT under api_audit for api-audit.
func AuditStream(namespace, name string) *v1alpha1.AuditStream {
	unique := strings.ReplaceAll(name, "-", "_")
	s := &v1alpha1.AuditStream{}
	s.Namespace, s.Name = namespace, name
	s.Spec = v1alpha1.AuditStreamSpec{Stream: strings.ToUpper(unique), Subject: unique, MaxAge: "30d"}
	return s
}
