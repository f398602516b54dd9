package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/osapi-io/auditstream-operator/internal/freeport"
)

// GitOpsAgentOptions says how to start the agent.
type GitOpsAgentOptions struct {
	// Dir is for its log and temporary files.
	Dir string
	// Repository is the work tree of a git repository with the manifests.
	Repository string
	// Namespace is where the agent puts what names none.
	Namespace string
}

// GitOpsAgent is the agent of Argo CD's gitops-engine as a process with the administrator's access, as Argo CD has it by
// default: what Argo CD does to a cluster, without what it has besides.
type GitOpsAgent struct {
	// LogFile is what the agent writes.
	LogFile string

	url  string
	proc *process
}

// StartGitOpsAgent returns once the agent knows the cluster and has synchronized it for the first time. Later times are for
// Sync to begin.
func StartGitOpsAgent(ctx context.Context, c *ControlPlane, opts GitOpsAgentOptions) (*GitOpsAgent, error) {
	binary, err := builtBinary("gitops-agent", "GITOPS_AGENT", "gitops-agent")
	if err != nil {
		return nil, fmt.Errorf("looking for gitops-engine's agent: %w", err)
	}
	port, err := freeport.Next()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, err
	}
	a := &GitOpsAgent{LogFile: filepath.Join(opts.Dir, "gitops-agent.log"), url: "http://" + address(port)}
	const never = 24 * 60 * 60 // seconds
	a.proc, err = startProcess(command{
		name: "gitops-agent",
		path: binary,
		args: []string{
			opts.Repository, "--kubeconfig=" + c.Kubeconfig(), "--port=" + strconv.Itoa(port),
			"--resync-seconds=" + strconv.Itoa(never), "--default-namespace=" + opts.Namespace,
		},
		env: append(os.Environ(), "TMPDIR="+opts.Dir, "HOME="+opts.Dir),
		log: a.LogFile,
	})
	if err != nil {
		return nil, err
	}
	err = a.awaitEnd(ctx, 0)
	if err == nil {
		err = await(ctx, "gitops-engine's agent to listen", a.proc.done, func(ctx context.Context) error { return dial(ctx, address(port)) })
	}
	if err != nil {
		return nil, errors.Join(err, a.Stop())
	}
	return a, nil
}

// dial is nil where somebody listens.
func dial(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Sync synchronizes the cluster with what is committed, and returns once that has been tried. What became of it is in the
// log, and in the cluster.
func (a *GitOpsAgent) Sync(ctx context.Context) error {
	before := a.ended()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/api/v1/sync", http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request) // #nosec G704 -- an address of this package's own making
	if err != nil {
		return fmt.Errorf("asking gitops-engine's agent to synchronize: %w%s", err, lastLines(a.LogFile))
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	// The answer says that the synchronization has begun.
	return a.awaitEnd(ctx, before)
}

func (a *GitOpsAgent) awaitEnd(ctx context.Context, before int) error {
	err := await(ctx, "gitops-engine's agent to synchronize", a.proc.done, func(context.Context) error {
		if a.ended() > before {
			return nil
		}
		return errors.New("it still does")
	})
	if err != nil {
		return a.proc.failed(err)
	}
	return nil
}

// ended is how many synchronizations have ended: the agent writes a table, or a line where one has failed.
func (a *GitOpsAgent) ended() int {
	log, err := os.ReadFile(a.LogFile)
	if err != nil {
		return 0
	}
	return bytes.Count(log, []byte("RESOURCE  ")) + bytes.Count(log, []byte(`"Failed to synchronize`))
}

// Stop ends the agent. It holds nothing that is worth keeping. Stopping again does nothing.
func (a *GitOpsAgent) Stop() error { return a.proc.kill() }
