package testenv

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// The addresses of a node's network, which is its own: they are the same in every run and meet nobody else's.
const (
	// NodeName is the name of the only node.
	NodeName     = "node"
	nodeIP       = "10.244.0.1"
	kubernetesIP = "10.0.0.1"
)

// cgroupRoot is where control groups of version 1 or 2 are.
const cgroupRoot = "/sys/fs/cgroup"

var (
	//go:embed node/init.sh
	nodeInit []byte
	//go:embed node/containerd.toml
	nodeContainerd []byte
	//go:embed node/kubelet.yaml
	nodeKubelet []byte
	//go:embed node/bridge.conflist
	nodeBridge []byte
	//go:embed node/egress.yaml
	nodeEgress string
)

// Node is a kubelet with containerd in namespaces of their own for processes, mounts and the network, so that nothing of
// it is left on the machine when it ends. Its Pods have addresses of their own, and Services have theirs; there is no DNS.
type Node struct {
	dir     string
	group   string
	kubelet string
	proc    *process
	net     *nodeNetwork
}

// MissingForCluster says what a cluster needs and this machine lacks, nil where it lacks nothing.
func MissingForCluster() error {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("a node that runs Pods needs root: run this as root"))
	}
	packages := map[string]string{
		"containerd": "containerd", "ctr": "containerd", "runc": "runc", "/usr/lib/cni/bridge": "containernetworking-plugins",
		"ip": "iproute2", "unshare": "util-linux",
	}
	missing := map[string]bool{}
	for program, name := range packages {
		if _, err := exec.LookPath(program); err != nil {
			missing[name] = true
		}
	}
	for name := range missing {
		errs = append(errs, fmt.Errorf("the package %s is not installed: run `apt-get install %[1]s`", name))
	}
	return errors.Join(errs...)
}

func newNode(dir string) (*Node, error) {
	n := &Node{dir: dir, group: fmt.Sprintf("auditstream-testenv-%d", os.Getpid())}
	var err error
	if n.kubelet, err = builtBinary("kubelet", "KUBELET", "pods-binaries"); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "run", "cni"), 0o750); err != nil {
		return nil, fmt.Errorf("making the directory of the node: %w", err)
	}
	for name, content := range map[string][]byte{
		"init.sh": nodeInit, "containerd.toml": nodeContainerd, "kubelet.yaml": nodeKubelet, "run/cni/bridge.conflist": nodeBridge,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, fmt.Errorf("writing %s of the node: %w", name, err)
		}
	}
	return n, nil
}

func (n *Node) egressConfiguration() []byte { return fmt.Appendf(nil, nodeEgress, n.proxySocket()) }

func (n *Node) proxySocket() string { return filepath.Join(n.dir, "egress.sock") }

// Dir has the node's /var/log as log and its /var/lib as lib.
func (n *Node) Dir() string { return n.dir }

// LogFile is what containerd and kubelet write.
func (n *Node) LogFile() string { return filepath.Join(n.dir, "node.log") }

func (n *Node) start(ctx context.Context, c *ControlPlane, images []string) error {
	config := c.Config()
	config.Host = "https://" + kubernetesIP
	kubeconfig, err := writeKubeconfig(config, filepath.Join(n.dir, "kubelet.kubeconfig"))
	if err != nil {
		return err
	}
	n.proc, err = startProcess(command{name: "the node", path: "unshare", log: n.LogFile(), args: []string{
		"--pid", "--mount", "--net", "--uts", "--fork", "--kill-child", "--mount-proc",
		"/bin/sh", filepath.Join(n.dir, "init.sh"), n.dir, n.group,
		n.kubelet, "--kubeconfig=" + kubeconfig, "--hostname-override=" + NodeName, "--node-ip=" + nodeIP,
	}})
	if err != nil {
		return err
	}
	if err := n.connect(ctx, c); err != nil {
		return n.proc.failed(err)
	}
	for _, archive := range images {
		if err := n.ImportImage(ctx, archive); err != nil {
			return n.proc.failed(err)
		}
	}
	if err := n.awaitReady(ctx, c.Config()); err != nil {
		return n.proc.failed(err)
	}
	return nil
}

// connect waits for containerd, and so for the network that is made before it, and joins that network.
func (n *Node) connect(ctx context.Context, c *ControlPlane) error {
	err := await(ctx, "containerd to answer", n.proc.done, func(ctx context.Context) error {
		return n.ctr(ctx, "version")
	})
	if err != nil {
		return err
	}
	if n.net, err = joinNetwork(n.proc.pid(), n.proxySocket()); err != nil {
		return err
	}
	return n.net.serve(kubernetesIP+":443", hostDialer(c.Config().Host))
}

// ImportImage gives the node the images of an archive.
func (n *Node) ImportImage(ctx context.Context, archive string) error {
	if err := n.ctr(ctx, "--namespace=k8s.io", "images", "import", archive); err != nil {
		return fmt.Errorf("importing the image %s: %w", archive, err)
	}
	return nil
}

func (n *Node) ctr(ctx context.Context, args ...string) error {
	args = append([]string{"--address=" + filepath.Join(n.dir, "run/containerd/containerd.sock")}, args...)
	out, err := exec.CommandContext(ctx, "ctr", args...).CombinedOutput() // #nosec G204 -- arguments of this package's own
	if err != nil {
		return fmt.Errorf("ctr %s: %w: %s", strings.Join(args[1:], " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (n *Node) awaitReady(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client of the API server: %w", err)
	}
	return await(ctx, "the node to be ready", n.proc.done, func(ctx context.Context) error {
		node, err := client.CoreV1().Nodes().Get(ctx, NodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
		if i < 0 {
			return errors.New("it has no condition Ready")
		}
		if c := node.Status.Conditions[i]; c.Status != corev1.ConditionTrue {
			return fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
		return nil
	})
}

// stop kills the node, and with it all that runs in it.
func (n *Node) stop() error {
	var errs []error
	if n.net != nil {
		errs = append(errs, n.net.close())
		n.net = nil
	}
	if n.proc != nil {
		errs = append(errs, n.proc.kill())
		n.proc = nil
		errs = append(errs, n.removeControlGroups())
	}
	return errors.Join(errs...)
}

// removeControlGroups waits for the kernel: a group can only go once its processes have.
func (n *Node) removeControlGroups() error {
	groups, err := filepath.Glob(filepath.Join(cgroupRoot, "*", n.group))
	if err != nil {
		return err
	}
	groups = append(groups, filepath.Join(cgroupRoot, n.group))
	return await(context.Background(), "the end of the node's control groups", nil, func(context.Context) error {
		for _, group := range groups {
			if err := removeEmptyTree(group); err != nil {
				return err
			}
		}
		return nil
	})
}

// removeEmptyTree removes directories from the leaves up. What looks like files in a control group goes with it.
func removeEmptyTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
