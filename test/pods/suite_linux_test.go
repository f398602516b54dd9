// Package pods holds what only shows in a cluster: the operator's image as the Deployment that config/default ships, run by a
// kubelet with containerd under the restricted Pod Security Standard, beside nats-server and examples/service as Pods.
package pods

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/kubernetes"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	operatorNamespace  = testenv.OperatorNamespace
	operatorDeployment = "deployment/auditstream-operator-controller-manager"
	operatorPods       = "control-plane=controller-manager"
	natsURL            = "nats://10.0.0.42:4222"

	// soon is for what takes a few periods of a probe on a busy machine.
	soon = 90 * time.Second
	poll = 200 * time.Millisecond
	// journeyTimeout bounds a step of the journey.
	journeyTimeout = 4 * time.Minute
	logLines       = 40
)

// env is what all steps share.
var env struct {
	dir     string
	cluster *testenv.Cluster
	k8s     kubernetes.Interface
	js      jetstream.JetStream
}

func TestPods(t *testing.T) {
	if err := testenv.MissingForCluster(); err != nil {
		t.Fatal(err)
	}
	ctrllog.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	RegisterFailHandler(Fail)
	SetDefaultEventuallyPollingInterval(poll)
	RunSpecs(t, "Pods")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	dir, remove, err := testenv.TempDir("auditstream-pods-")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(remove)
	env.dir = dir

	By("starting the control plane, kubelet and containerd")
	env.cluster, err = testenv.StartCluster(ctx, testenv.ClusterOptions{Dir: filepath.Join(dir, "cluster"), Images: images()})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() error { return env.cluster.Stop() })
	env.k8s, err = kubernetes.NewForConfig(env.cluster.Config())
	Expect(err).NotTo(HaveOccurred())

	By("running nats-server and a workload")
	Expect(os.MkdirAll(filepath.Join(env.cluster.Node.Dir(), "lib", "nats"), 0o750)).To(Succeed())
	apply(ctx, "workloads/nats.yaml")
	serveService(ctx, "nats", "nats")
	kubectl(ctx, "rollout", "status", "--timeout=2m", "--namespace=nats", "statefulset/nats")
	// The Service's endpoints follow the readiness of the Pods, so that the first connections may be refused.
	var nc *nats.Conn
	Eventually(func() (err error) {
		nc, err = nats.Connect(natsURL, nats.SetCustomDialer(inNode{}), nats.MaxReconnects(-1), nats.ReconnectWait(poll))
		return err
	}, soon).Should(Succeed())
	DeferCleanup(nc.Close)
	env.js, err = jetstream.New(nc)
	Expect(err).NotTo(HaveOccurred())
}, NodeTimeout(journeyTimeout))

// images are the archives of what runs in Pods.
func images() []string {
	GinkgoHelper()
	root, err := testenv.RepoRoot()
	Expect(err).NotTo(HaveOccurred())
	archives, err := filepath.Glob(filepath.Join(root, "bin", "pods", "*", "*-linux-"+runtime.GOARCH+".tar"))
	Expect(err).NotTo(HaveOccurred())
	Expect(archives).NotTo(BeEmpty(), "bin/pods has no images: run `make pods-binaries`")
	return archives
}

// inNode dials from the node.
type inNode struct{}

func (inNode) Dial(network, address string) (conn net.Conn, err error) {
	return env.cluster.Node.DialContext(context.Background(), network, address)
}

var _ = JustAfterEach(func() {
	if !CurrentSpecReport().Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods,auditstreams,leases", "--all-namespaces", "--output=wide"},
		{"get", "events", "--all-namespaces", "--sort-by=.metadata.creationTimestamp"},
		{"logs", "--namespace=" + operatorNamespace, "--selector=" + operatorPods, "--prefix", "--tail=40"},
	} {
		out, err := env.cluster.Kubectl(ctx, args...)
		GinkgoWriter.Printf("\nkubectl %s (%v)\n%s", strings.Join(args, " "), err, out)
	}
	log := testenv.LogTail(env.cluster.Node.LogFile(), logLines)
	GinkgoWriter.Printf("\nlast lines of the node's log\n%s\n", log)
})
