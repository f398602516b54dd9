package argocd

import (
	"context"
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
	// soon is for what happens without waiting for anything, on a machine that does much else.
	soon = 2 * time.Minute
	// aWhile is how long something is watched that must not happen.
	aWhile   = 3 * time.Second
	poll     = 100 * time.Millisecond
	logLines = 40
)

// env is what all journeys share: they are one story, told in order.
var env struct {
	dir      string
	repo     string
	cp       *testenv.ControlPlane
	nats     *testenv.NATSServer
	operator *testenv.Manager
	agent    *testenv.GitOpsAgent
	k8s      client.Client
	js       jetstream.JetStream
}

func TestArgoCD(t *testing.T) {
	ctrllog.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	RegisterFailHandler(Fail)
	SetDefaultEventuallyPollingInterval(poll)
	SetDefaultConsistentlyPollingInterval(poll)
	SetDefaultEventuallyTimeout(soon)
	SetDefaultConsistentlyDuration(aWhile)
	EnforceDefaultTimeoutsWhenUsingContexts()
	RunSpecs(t, "Audit streams from Git, with Argo CD's engine")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	dir, remove, err := testenv.TempDir("auditstream-argocd-")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(remove)
	env.dir, env.repo = dir, filepath.Join(dir, "repo")

	By("starting etcd, kube-apiserver and kube-controller-manager")
	env.cp, err = testenv.StartControlPlane(ctx, testenv.ControlPlaneOptions{
		Dir: filepath.Join(dir, "control-plane"), ControllerManager: true, IgnoreExisting: true,
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() error { return env.cp.Stop() })
	Expect(v1alpha1.AddToScheme(scheme.Scheme)).To(Succeed())
	env.k8s, err = client.New(env.cp.Config(), client.Options{Scheme: scheme.Scheme})
	Expect(err).NotTo(HaveOccurred())

	By("starting nats-server")
	env.nats, err = testenv.StartNATS(ctx, testenv.NATSOptions{Dir: filepath.Join(dir, "nats")})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() error { return env.nats.Stop() })
	nc, err := nats.Connect(env.nats.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(poll))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(nc.Close)
	env.js, err = jetstream.New(nc)
	Expect(err).NotTo(HaveOccurred())

	By("installing and starting the operator")
	Expect(testenv.InstallOperator(ctx, env.cp)).To(Succeed())
	kubeconfig, err := env.cp.ServiceAccountKubeconfig(ctx, testenv.OperatorNamespace, testenv.OperatorServiceAccount)
	Expect(err).NotTo(HaveOccurred())
	env.operator, err = testenv.StartManager(ctx, testenv.ManagerOptions{
		Kubeconfig: kubeconfig, NATSURL: env.nats.URL(), LogFile: operatorLog(),
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func(ctx SpecContext) { Expect(env.operator.Stop(ctx)).To(Succeed()) })

	By("starting gitops-engine's agent over an empty repository")
	git(ctx, "init", "--quiet", env.repo)
	commit(ctx, "Begin")
	env.agent, err = testenv.StartGitOpsAgent(ctx, env.cp, testenv.GitOpsAgentOptions{
		Dir: filepath.Join(dir, "agent"), Repository: env.repo, Namespace: namespace,
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() error { return env.agent.Stop() })
}, NodeTimeout(8*time.Minute))

func operatorLog() string { return filepath.Join(env.dir, "manager.log") }

var _ = JustAfterEach(func() {
	if !CurrentSpecReport().Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	out, err := env.cp.Kubectl(ctx, "get", "auditstreams", "--all-namespaces", "--output=yaml", "--show-managed-fields")
	GinkgoWriter.Printf("\nkubectl get auditstreams (%v)\n%s", err, out)
	for _, log := range []string{operatorLog(), env.agent.LogFile} {
		GinkgoWriter.Printf("\nlast lines of %s\n%s\n", filepath.Base(log), testenv.LogTail(log, logLines))
	}
})
