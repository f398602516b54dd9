// Package baddays tries what goes wrong around an operator that does its work: what is installed twice, deleted by mistake or
// applied in bulk. It uses a real control plane, a real nats-server, and the manager as a process of its own with the
// permissions that config/default gives it.
package baddays

import (
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
	"github.com/osapi-io/auditstream-operator/test/baddays/cluster"
)

const (
	// soon is for what happens without waiting for anything, on a machine that is busy.
	soon = time.Minute
	// eventually is for what begins with a watch that has to be opened again, which is tried with growing pauses.
	eventually = 4 * time.Minute
	// aWhile is how long something is watched that must not happen.
	aWhile         = 3 * time.Second
	poll           = 200 * time.Millisecond
	journeyTimeout = 8 * time.Minute
	managerLines   = 40
)

var env struct {
	*cluster.Cluster
	root     string
	account  string // the operator's kubeconfig
	operator *testenv.Manager
}

func TestBadDays(t *testing.T) {
	ctrllog.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	RegisterFailHandler(Fail)
	SetDefaultEventuallyPollingInterval(poll)
	SetDefaultConsistentlyPollingInterval(poll)
	RunSpecs(t, "Bad days")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	var err error
	env.root, err = testenv.RepoRoot()
	Expect(err).NotTo(HaveOccurred())
	env.Cluster, err = cluster.Start(ctx, "baddays")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(env.Stop)
	Expect(env.Install(ctx, env.root)).To(Succeed())
	env.account, err = env.OperatorKubeconfig(ctx)
	Expect(err).NotTo(HaveOccurred())
	env.operator = startOperator(ctx, "operator", env.account, testenv.OperatorNamespace)
	DeferCleanup(func(ctx SpecContext) error { return env.operator.Stop(ctx) })
}, NodeTimeout(3*time.Minute))

var _ = JustAfterEach(func() {
	if !CurrentSpecReport().Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	out, err := env.CP.Kubectl(ctx, "get", "auditstreams", "--all-namespaces", "--output=wide")
	GinkgoWriter.Printf("\nkubectl get auditstreams (%v)\n%s", err, out)
	GinkgoWriter.Printf("\nlast lines of the operator's log\n%s\n", testenv.LogTail(logOf("operator"), managerLines))
})

func logOf(name string) string { return filepath.Join(env.Dir, name+".log") }

// startOperator starts an operator as its Deployment does, with its lease in the namespace.
func startOperator(ctx context.Context, name, kubeconfig, namespace string) *testenv.Manager {
	GinkgoHelper()
	m, err := testenv.StartManager(ctx, testenv.ManagerOptions{
		Kubeconfig: kubeconfig, NATSURL: env.NATS.URL(), LogFile: logOf(name),
		Args: []string{"--leader-elect", "--leader-election-namespace=" + namespace},
	})
	Expect(err).NotTo(HaveOccurred())
	Eventually(m.Ready, soon).WithContext(ctx).Should(Succeed())
	return m
}
