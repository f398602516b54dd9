// Package e2e holds the journeys: what a user does, tried on a real control plane with RBAC and
// kube-controller-manager, a real nats-server, and the operator's binary as a process of its own, with exactly the
// permissions that config/ gives to its ServiceAccount.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	// soon is for what the operator does without waiting for anything.
	soon = 20 * time.Second
	// withinAMinute is what is promised after an outage.
	withinAMinute = time.Minute
	// aWhile is how long something is watched that must not happen.
	aWhile = 3 * time.Second
	poll   = 100 * time.Millisecond
	// journeyTimeout bounds a journey as a whole.
	journeyTimeout = 3 * time.Minute
	managerLines   = 60
)

// env is what all journeys share. They run one after the other; each has its own namespace, streams and buckets.
var env struct {
	dir        string
	cp         *testenv.ControlPlane
	nats       *testenv.NATSServer
	kubeconfig string
	operator   *testenv.Manager
	k8s        client.Client
	js         jetstream.JetStream
}

func TestJourneys(t *testing.T) {
	ctrllog.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	RegisterFailHandler(Fail)
	SetDefaultEventuallyPollingInterval(poll)
	SetDefaultConsistentlyPollingInterval(poll)
	RunSpecs(t, "Journeys")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	dir, remove, err := testenv.TempDir("auditstream-e2e-")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(remove)
	env.dir = dir

	By("starting etcd, kube-apiserver and kube-controller-manager")
	env.cp, err = testenv.StartControlPlane(ctx, testenv.ControlPlaneOptions{
		Dir: filepath.Join(dir, "control-plane"), ControllerManager: true,
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() error { return env.cp.Stop() })

	By("starting nats-server")
	env.nats, err = testenv.StartNATS(ctx, testenv.NATSOptions{Dir: filepath.Join(dir, "nats")})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() error { return env.nats.Stop() })
	nc, err := nats.Connect(env.nats.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(poll))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(nc.Close)
	env.js, err = jetstream.New(nc)
	Expect(err).NotTo(HaveOccurred())

	By("installing the operator's CRD, ServiceAccount and roles")
	Expect(testenv.InstallOperator(ctx, env.cp)).To(Succeed())
	env.kubeconfig, err = env.cp.ServiceAccountKubeconfig(ctx, testenv.OperatorNamespace, testenv.OperatorServiceAccount)
	Expect(err).NotTo(HaveOccurred())
	Expect(v1alpha1.AddToScheme(scheme.Scheme)).To(Succeed())
	env.k8s, err = client.New(env.cp.Config(), client.Options{Scheme: scheme.Scheme})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func(ctx SpecContext) { stopOperator(ctx) })
}, NodeTimeout(2*time.Minute))

// What a failed journey leaves stopped does not fail the next one.
var _ = BeforeEach(func(ctx SpecContext) {
	if _, err := env.js.AccountInfo(ctx); err != nil {
		Expect(env.nats.Restart(ctx)).To(Succeed())
	}
	startOperator(ctx)
	Eventually(env.operator.Ready, withinAMinute).WithContext(ctx).Should(Succeed())
}, NodeTimeout(2*time.Minute))

var _ = JustAfterEach(func() {
	if !CurrentSpecReport().Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	for _, args := range [][]string{
		{"get", "auditstreams", "--all-namespaces", "--output=yaml"},
		{"get", "events", "--all-namespaces", "--sort-by=.metadata.creationTimestamp"},
	} {
		out, err := env.cp.Kubectl(ctx, args...)
		GinkgoWriter.Printf("\nkubectl %v (%v)\n%s", args, err, out)
	}
	log := testenv.LogTail(operatorLog(), managerLines)
	GinkgoWriter.Printf("\nlast lines of the operator's log\n%s\n", log)
})

func operatorLog() string { return filepath.Join(env.dir, "manager.log") }

// startOperator starts the operator unless it runs, as a kubelet would.
func startOperator(ctx context.Context, args ...string) {
	GinkgoHelper()
	if operatorRuns() {
		return
	}
	var err error
	env.operator, err = newOperator(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
}

func newOperator(ctx context.Context, args ...string) (*testenv.Manager, error) {
	return testenv.StartManager(ctx, testenv.ManagerOptions{
		Kubeconfig: env.kubeconfig, NATSURL: env.nats.URL(), LogFile: operatorLog(), Args: args,
	})
}

func operatorRuns() bool {
	if env.operator == nil {
		return false
	}
	select {
	case <-env.operator.Done():
		return false
	default:
		return true
	}
}

func stopOperator(ctx context.Context) {
	GinkgoHelper()
	if env.operator != nil {
		Expect(env.operator.Stop(ctx)).To(Succeed())
	}
}

// stillUp fails when the operator has been restarted, or has ended, since pid was taken.
func stillUp(pid int) error {
	switch {
	case !operatorRuns():
		return fmt.Errorf("the operator has ended: %w", env.operator.Err())
	case env.operator.Pid() != pid:
		return errors.New("the operator was restarted")
	}
	return nil
}
