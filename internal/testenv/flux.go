package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/osapi-io/auditstream-operator/internal/freeport"
)

// FluxNamespace is where Flux is installed by custom, and where its events of itself go.
const FluxNamespace = "flux-system"

const (
	sourceController    = "source-controller"
	kustomizeController = "kustomize-controller"
)

// FluxOptions says how to start Flux.
type FluxOptions struct {
	// Dir is for its storage and logs.
	Dir string
	// EventsURL is where notification-controller would take events; it may be empty.
	EventsURL string
	// Args are added to the arguments of kustomize-controller.
	Args []string
}

// Flux is source-controller and kustomize-controller, each as a process with the administrator's access, as Flux's own
// installation gives it to them.
type Flux struct {
	// Logs are the files that the controllers write.
	Logs []string

	dir   string
	procs []*process
}

// StartFlux installs Flux's CRDs and returns once its controllers are ready.
func StartFlux(ctx context.Context, c *ControlPlane, opts FluxOptions) (*Flux, error) {
	root, err := RepoRoot()
	if err != nil {
		return nil, err
	}
	crds := filepath.Join(root, "bin", "flux-crds")
	_, err = envtest.InstallCRDs(c.Config(), envtest.CRDInstallOptions{
		Paths: []string{crds}, ErrorIfPathMissing: true, MaxTime: startTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("installing Flux's CRDs: %w: run `make flux`", err)
	}
	f := &Flux{dir: opts.Dir}
	storage := filepath.Join(opts.Dir, "artifacts")
	if err := os.MkdirAll(storage, 0o700); err != nil {
		return nil, err
	}
	port, err := freeport.Next()
	if err != nil {
		return nil, err
	}
	err = f.start(ctx, c, sourceController, []string{
		"--storage-path=" + storage, "--storage-addr=" + address(port), "--storage-adv-addr=" + address(port),
		"--events-addr=" + opts.EventsURL,
	})
	if err == nil {
		err = f.start(ctx, c, kustomizeController, append(opts.Args, "--events-addr="+opts.EventsURL))
	}
	if err != nil {
		return nil, errors.Join(err, f.Stop())
	}
	return f, nil
}

func (f *Flux) start(ctx context.Context, c *ControlPlane, name string, args []string) error {
	env := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	binary, err := builtBinary(name, env, "flux")
	if err != nil {
		return fmt.Errorf("looking for Flux: %w", err)
	}
	health, err := freeport.Next()
	if err != nil {
		return err
	}
	tmp := filepath.Join(f.dir, name)
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return err
	}
	p, err := startProcess(command{
		name: name,
		path: binary,
		args: append([]string{"--metrics-addr=0", "--health-addr=" + address(health), "--log-level=debug"}, args...),
		env:  append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "RUNTIME_NAMESPACE="+FluxNamespace, "TMPDIR="+tmp, "HOME="+tmp),
		log:  filepath.Join(f.dir, name+".log"),
	})
	if err != nil {
		return err
	}
	f.procs, f.Logs = append(f.procs, p), append(f.Logs, p.log)
	err = await(ctx, name+" to be ready", p.done, func(ctx context.Context) error {
		return probe(ctx, "http://"+address(health)+"/readyz")
	})
	if err != nil {
		return p.failed(err)
	}
	return nil
}

// Stop ends the controllers. They hold nothing that is worth keeping. Stopping again does nothing.
func (f *Flux) Stop() error {
	errs := make([]error, len(f.procs))
	for i, p := range f.procs {
		errs[i] = p.kill()
	}
	return errors.Join(errs...)
}
