package testenv

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

const scheduler = "kube-scheduler"

// ClusterOptions says what to start.
type ClusterOptions struct {
	// Dir is for data, certificates, kubeconfigs and logs. Empty makes a temporary one, which Stop removes.
	Dir string
	// Images are archives, OCI's or docker's, that the node is to have. localhost/pause:test-pods, for the sandboxes of Pods, has
	// to be among them.
	Images []string
}

// Cluster is a control plane with all of its controllers and a scheduler, and a node that runs Pods. It needs root, and
// MissingForCluster has to be nil.
type Cluster struct {
	*ControlPlane
	Node *Node

	scheduler *process
}

// StartCluster returns once the node is ready for Pods.
func StartCluster(ctx context.Context, opts ClusterOptions) (*Cluster, error) {
	if err := MissingForCluster(); err != nil {
		return nil, err
	}
	dir, removeDir, err := ensureDir(opts.Dir, "auditstream-cluster-")
	if err != nil {
		return nil, err
	}
	existing := false
	c := &Cluster{ControlPlane: &ControlPlane{
		dir: dir, removeDir: removeDir, env: &envtest.Environment{UseExistingCluster: &existing},
	}}
	if err := c.start(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the cluster: %w", err), c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, opts ClusterOptions) (err error) {
	if c.Node, err = newNode(filepath.Join(c.dir, "node")); err != nil {
		return err
	}
	if err := c.configureAPIServer(); err != nil {
		return err
	}
	if err := c.ControlPlane.start(ctx, ControlPlaneOptions{}); err != nil {
		return err
	}
	if err := c.startControllers(); err != nil {
		return err
	}
	return c.Node.start(ctx, c.ControlPlane, opts.Images)
}

// configureAPIServer has envtest start an API server that Pods can use: its certificate holds for the address of the
// Service kubernetes, it mounts service account tokens, and what it asks of the node goes through the node's proxy.
func (c *Cluster) configureAPIServer() error {
	server := c.env.ControlPlane.GetAPIServer()
	certDir := filepath.Join(c.dir, apiServer)
	if err := os.MkdirAll(certDir, 0o700); err != nil {
		return fmt.Errorf("making the directory of %s: %w", apiServer, err)
	}
	chain, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.ParseIP(kubernetesIP)}, []string{"localhost"})
	if err != nil {
		return fmt.Errorf("making the certificate of %s: %w", apiServer, err)
	}
	// The second certificate of the chain is the authority's.
	_, authority := pem.Decode(chain)
	server.CA = authority
	signer, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		return fmt.Errorf("making the key of service account tokens: %w", err)
	}
	egress := filepath.Join(certDir, "egress.yaml")
	for name, content := range map[string][]byte{
		"apiserver.crt": chain, "apiserver.key": key, "ca.crt": authority,
		// The names that envtest expects. A private key will do where the public one is asked for.
		"sa-signer.crt": signer, "sa-signer.key": signer,
		filepath.Base(egress): c.Node.egressConfiguration(),
	} {
		if err := os.WriteFile(filepath.Join(certDir, name), content, 0o600); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	server.Configure().Disable("disable-admission-plugins").
		Set("egress-selector-config-file", egress).
		Set("kubelet-preferred-address-types", "InternalIP")
	return nil
}

func (c *Cluster) startControllers() error {
	certDir := c.env.ControlPlane.APIServer.CertDir
	path, err := kubernetesBinary(controllerManager)
	if err != nil {
		return err
	}
	c.kcm, err = startProcess(command{name: controllerManager, path: path, log: c.logFile(controllerManager), args: []string{
		"--kubeconfig=" + c.kubeconfig,
		"--service-account-private-key-file=" + filepath.Join(certDir, "sa-signer.key"),
		"--root-ca-file=" + filepath.Join(certDir, "ca.crt"),
		"--leader-elect=false", "--secure-port=0",
	}})
	if err != nil {
		return err
	}
	if path, err = builtBinary(scheduler, "KUBE_SCHEDULER", "pods-binaries"); err != nil {
		return err
	}
	c.scheduler, err = startProcess(command{name: scheduler, path: path, log: c.logFile(scheduler), args: []string{
		"--kubeconfig=" + c.kubeconfig, "--leader-elect=false", "--secure-port=0",
	}})
	return err
}

// Stop ends the node with all of its containers, and the control plane. Stopping again does nothing.
func (c *Cluster) Stop() error {
	var errs []error
	if c.Node != nil {
		errs = append(errs, c.Node.stop())
	}
	if c.scheduler != nil {
		errs = append(errs, c.scheduler.kill())
	}
	return errors.Join(append(errs, c.ControlPlane.Stop())...)
}
