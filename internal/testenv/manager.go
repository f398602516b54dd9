package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/osapi-io/auditstream-operator/internal/freeport"
)

// ManagerOptions says how to start the operator.
type ManagerOptions struct {
	// Kubeconfig decides under which account the operator runs.
	Kubeconfig string
	// NATSURL is the operator's default connection.
	NATSURL string
	// LogFile gets what the operator writes; it is appended to. Empty makes one in a temporary directory, which Stop
	// and Kill remove.
	LogFile string
	// Args are added after the arguments that the options above give, and so win over them.
	Args []string
	// Env is added to this program's environment, of which the NATS_ variables, which are the operator's flags, are left
	// out.
	Env []string
}

// Manager is the operator's binary as a process.
type Manager struct {
	// HealthURL is where /healthz and /readyz are.
	HealthURL string
	// MetricsURL is the metrics endpoint, in plain HTTP.
	MetricsURL string
	// LogFile is what the operator writes.
	LogFile string

	proc      *process
	removeDir func() error
}

// StartManager returns once /healthz answers. It does not wait for /readyz: the operator is not ready while NATS is
// down.
func StartManager(ctx context.Context, opts ManagerOptions) (*Manager, error) {
	binary, err := builtBinary("manager", "MANAGER", "build")
	if err != nil {
		return nil, fmt.Errorf("looking for the operator: %w", err)
	}
	health, err := freeport.Next()
	if err != nil {
		return nil, err
	}
	metrics, err := freeport.Next()
	if err != nil {
		return nil, err
	}
	m := &Manager{
		HealthURL:  "http://" + address(health),
		MetricsURL: "http://" + address(metrics) + "/metrics",
		LogFile:    opts.LogFile,
	}
	if m.LogFile == "" {
		dir, removeDir, err := TempDir("auditstream-manager-")
		if err != nil {
			return nil, err
		}
		m.removeDir, m.LogFile = removeDir, filepath.Join(dir, "manager.log")
	}
	m.proc, err = startProcess(command{
		name: "manager",
		path: binary,
		args: append([]string{
			"--kubeconfig=" + opts.Kubeconfig,
			"--nats-url=" + opts.NATSURL,
			"--health-probe-bind-address=" + address(health),
			"--metrics-bind-address=" + address(metrics),
			"--metrics-secure=false",
		}, opts.Args...),
		env: append(managerEnv(), opts.Env...),
		log: m.LogFile,
	})
	if err != nil {
		return nil, errors.Join(err, m.cleanUp())
	}
	if err := await(ctx, "/healthz to answer", m.proc.done, m.Healthy); err != nil {
		return nil, errors.Join(m.proc.failed(err), m.Kill())
	}
	return m, nil
}

func managerEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "NATS_") })
}

// Healthy is nil when /healthz says so.
func (m *Manager) Healthy(ctx context.Context) error { return probe(ctx, m.HealthURL+"/healthz") }

// Ready is nil when /readyz says so.
func (m *Manager) Ready(ctx context.Context) error { return probe(ctx, m.HealthURL+"/readyz") }

func probe(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request) // #nosec G704 -- an address of this package's own making
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, response.Status)
	}
	return nil
}

// Pid is the process id.
func (m *Manager) Pid() int { return m.proc.pid() }

// Done is closed when the process has ended.
func (m *Manager) Done() <-chan struct{} { return m.proc.done }

// Err is how the process ended, nil for exit status 0 and while it runs.
func (m *Manager) Err() error {
	if m.proc.running() {
		return nil
	}
	return m.proc.err
}

// Kill ends the process with SIGKILL.
func (m *Manager) Kill() error { return errors.Join(m.proc.kill(), m.cleanUp()) }

// Stop ends the process with SIGTERM, and with SIGKILL when ctx ends before or it takes too long, which is an error.
// Stopping again does nothing.
func (m *Manager) Stop(ctx context.Context) error {
	stopped := make(chan error, 1)
	go func() { stopped <- m.proc.stop(stopGrace) }()
	var err error
	select {
	case err = <-stopped:
	case <-ctx.Done():
		err = errors.Join(context.Cause(ctx), m.proc.kill(), <-stopped)
	}
	return errors.Join(err, m.cleanUp())
}

func (m *Manager) cleanUp() error {
	if m.removeDir == nil {
		return nil
	}
	defer func() { m.removeDir = nil }()
	return m.removeDir()
}
