package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/osapi-io/auditstream-operator/internal/freeport"
)

const (
	etcd              = "etcd"
	apiServer         = "kube-apiserver"
	controllerManager = "kube-controller-manager"
)

// ErrExistingCluster is returned for what cannot be done to the cluster that USE_EXISTING_CLUSTER has chosen.
var ErrExistingCluster = errors.New("not possible with USE_EXISTING_CLUSTER=true")

// ControlPlaneOptions says what to start.
type ControlPlaneOptions struct {
	// Dir is for data, certificates, kubeconfigs and logs. Empty makes a temporary one, which Stop removes.
	Dir string
	// InstallCRDs installs config/crd/bases.
	InstallCRDs bool
	// ControllerManager runs kube-controller-manager with the controllers for namespaces, garbage and service accounts.
	// An existing cluster is expected to have its own.
	ControllerManager bool
	// IgnoreExisting starts a control plane of its own also where USE_EXISTING_CLUSTER=true.
	IgnoreExisting bool
}

// ControlPlane is etcd and kube-apiserver with RBAC, started by envtest, and on demand kube-controller-manager. With
// USE_EXISTING_CLUSTER=true it is the cluster that the current kubeconfig points to.
type ControlPlane struct {
	dir        string
	removeDir  func() error
	existing   bool
	lease      *lease
	env        *envtest.Environment
	config     *rest.Config
	kubeconfig string
	logs       []*os.File
	kcm        *process
	tokens     int
}

// StartControlPlane returns once the API server is ready, the CRDs are established and the controllers work.
func StartControlPlane(ctx context.Context, opts ControlPlaneOptions) (*ControlPlane, error) {
	dir, removeDir, err := ensureDir(opts.Dir, "auditstream-controlplane-")
	if err != nil {
		return nil, err
	}
	existing := strings.EqualFold(os.Getenv("USE_EXISTING_CLUSTER"), "true") && !opts.IgnoreExisting
	c := &ControlPlane{
		dir:       dir,
		removeDir: removeDir,
		existing:  existing,
		env:       &envtest.Environment{UseExistingCluster: &existing},
	}
	if err := c.start(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the control plane: %w", err), c.Stop())
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context, opts ControlPlaneOptions) (err error) {
	if c.lease, err = theGuard.lease(); err != nil {
		return err
	}
	if opts.InstallCRDs {
		root, err := RepoRoot()
		if err != nil {
			return err
		}
		c.env.CRDDirectoryPaths = []string{filepath.Join(root, "config", "crd", "bases")}
		c.env.ErrorIfCRDPathMissing = true
		c.env.CRDInstallOptions.MaxTime = startTimeout
	}
	if !c.existing {
		if err := c.prepare(); err != nil {
			return err
		}
	}
	if err := c.startEnvironment(ctx); err != nil {
		return err
	}
	if !c.existing {
		// envtest is content with /healthz, which does not speak of what permissions are read from.
		if err := c.awaitReady(ctx); err != nil {
			return err
		}
	}
	if c.kubeconfig, err = writeKubeconfig(c.config, filepath.Join(c.dir, "admin.kubeconfig")); err != nil {
		return err
	}
	if opts.ControllerManager && !c.existing {
		return c.startControllerManager(ctx)
	}
	return nil
}

// prepare has envtest start etcd and kube-apiserver through launchers, so that the guard knows them, with their data and
// logs in c.dir.
func (c *ControlPlane) prepare() error {
	plane := &c.env.ControlPlane
	server := plane.GetAPIServer()
	plane.Etcd = &envtest.Etcd{DataDir: filepath.Join(c.dir, etcd)}
	server.CertDir = filepath.Join(c.dir, apiServer)
	c.env.ControlPlaneStartTimeout, c.env.ControlPlaneStopTimeout = startTimeout, startTimeout
	if err := c.choosePorts(); err != nil {
		return err
	}
	for _, part := range []struct {
		name, dir string
		path      *string
		log       func(*os.File)
	}{
		{etcd, plane.Etcd.DataDir, &plane.Etcd.Path, func(f *os.File) { plane.Etcd.Out, plane.Etcd.Err = f, f }},
		{apiServer, server.CertDir, &server.Path, func(f *os.File) { server.Out, server.Err = f, f }},
	} {
		binary, err := kubernetesBinary(part.name)
		if err != nil {
			return err
		}
		if *part.path, err = c.lease.launcher(part.name, binary); err != nil {
			return err
		}
		if err := os.MkdirAll(part.dir, 0o700); err != nil {
			return fmt.Errorf("making the directory of %s: %w", part.name, err)
		}
		log, err := os.OpenFile(c.logFile(part.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("opening the log of %s: %w", part.name, err)
		}
		c.logs = append(c.logs, log)
		part.log(log)
	}
	return nil
}

// choosePorts gives the parts ports that nobody takes before they listen, nor while kube-apiserver is down. Those that envtest
// would choose are of the range for outgoing connections.
func (c *ControlPlane) choosePorts() error {
	var ports [3]int
	for i := range ports {
		var err error
		if ports[i], err = freeport.Next(); err != nil {
			return err
		}
	}
	plane := &c.env.ControlPlane
	plane.Etcd.URL = &url.URL{Scheme: "http", Host: address(ports[0])}
	plane.Etcd.Configure().Set("listen-peer-urls", "http://"+address(ports[1]))
	plane.APIServer.ListenAddr = envtest.ListenAddr{Address: loopback, Port: strconv.Itoa(ports[2])}
	return nil
}

// startEnvironment runs envtest's start, which knows no context: when ctx ends, its processes are killed and it fails.
func (c *ControlPlane) startEnvironment(ctx context.Context) error {
	started := make(chan error, 1)
	go func() {
		config, err := c.env.Start()
		c.config = config
		started <- err
	}()
	select {
	case err := <-started:
		if err == nil || c.existing || alive(c.lease.pid(apiServer)) {
			return err
		}
		return fmt.Errorf("%w%s%s", err, lastLines(c.logFile(etcd)), lastLines(c.logFile(apiServer)))
	case <-ctx.Done():
		c.lease.revoke()
		<-started //nolint:errcheck // whatever it says, it was revoked
		return context.Cause(ctx)
	}
}

// Config is the administrator's access. It is a copy.
func (c *ControlPlane) Config() *rest.Config { return rest.CopyConfig(c.config) }

// Kubeconfig is the path of a kubeconfig with the administrator's access.
func (c *ControlPlane) Kubeconfig() string { return c.kubeconfig }

// Existing says whether this is a cluster that was there before.
func (c *ControlPlane) Existing() bool { return c.existing }

// Dir holds the logs, among others: etcd.log, kube-apiserver.log, kube-controller-manager.log.
func (c *ControlPlane) Dir() string { return c.dir }

func (c *ControlPlane) logFile(name string) string { return filepath.Join(c.dir, name+".log") }

// Kubectl runs kubectl as the administrator, with KubectlEnv, and returns what it writes to its standard output.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) (string, error) {
	kubectl, err := Kubectl()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, kubectl, args...) // #nosec G204
	cmd.Env = append(os.Environ(), c.KubectlEnv()...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// KillAPIServer ends kube-apiserver with SIGKILL and keeps etcd.
func (c *ControlPlane) KillAPIServer(ctx context.Context) error {
	if c.existing {
		return fmt.Errorf("killing the API server: %w", ErrExistingCluster)
	}
	killGroup(c.lease.pid(apiServer))
	// envtest learns of the end a moment later; until then its Stop fails because there is nothing to signal.
	return await(ctx, "the end of kube-apiserver", nil, func(context.Context) error {
		return c.env.ControlPlane.APIServer.Stop()
	})
}

// RestartAPIServer kills kube-apiserver and starts it again on the same port with the same etcd. It returns once it is
// ready.
func (c *ControlPlane) RestartAPIServer(ctx context.Context) error {
	if err := c.KillAPIServer(ctx); err != nil {
		return err
	}
	if err := c.env.ControlPlane.APIServer.Start(); err != nil {
		return fmt.Errorf("restarting kube-apiserver: %w%s", err, lastLines(c.logFile(apiServer)))
	}
	return c.awaitReady(ctx)
}

func (c *ControlPlane) awaitReady(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return fmt.Errorf("making a client of the API server: %w", err)
	}
	return await(ctx, "kube-apiserver to be ready", nil, func(ctx context.Context) error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// Stop ends the processes in the reverse order and removes the directory, unless it was given. Nothing they hold is
// worth keeping, so they are killed: kube-apiserver would wait for its watchers. Stopping again does nothing.
func (c *ControlPlane) Stop() error {
	var errs []error
	if c.kcm != nil {
		errs = append(errs, c.kcm.kill())
		c.kcm = nil
	}
	if c.lease != nil {
		if !c.existing {
			errs = append(errs, c.stopEnvironment())
		}
		c.lease.release()
		c.lease = nil
	}
	for _, log := range c.logs {
		errs = append(errs, log.Close())
	}
	c.logs = nil
	if c.removeDir != nil {
		errs = append(errs, c.removeDir())
		c.removeDir = nil
	}
	return errors.Join(errs...)
}

func (c *ControlPlane) stopEnvironment() error {
	killGroup(c.lease.pid(apiServer))
	killGroup(c.lease.pid(etcd))
	return await(context.Background(), "the end of the control plane", nil, func(context.Context) error { return c.env.Stop() })
}
