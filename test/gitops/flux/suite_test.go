package flux

import (
	"context"
	"io"
	"net/http/httptest"
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
	// aWhile is how long something is watched that must not happen: longer than the pause between Flux's health checks.
	aWhile         = 7 * time.Second
	poll           = 100 * time.Millisecond
	journeyTimeout = 8 * time.Minute
	logLines       = 40
)

// env is what all journeys share: they are one story, told in order.
var env struct {
	dir      string
	cp       *testenv.ControlPlane
	nats     *testenv.NATSServer
	git      *testenv.GitServer
	flux     *testenv.Flux
	events   *eventSink
	operator *testenv.Manager
	k8s      client.Client
	js       jetstream.JetStream
}

func TestFlux(t *testing.T) {
	ctrllog.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	RegisterFailHandler(Fail)
	SetDefaultEventuallyPollingInterval(poll)
	SetDefaultConsistentlyPollingInterval(poll)
	SetDefaultEventuallyTimeout(soon)
	SetDefaultConsistentlyDuration(aWhile)
	EnforceDefaultTimeoutsWhenUsingContexts()
	RunSpecs(t, "Audit streams from Git, with Flux")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	dir, remove, err := testenv.TempDir("auditstream-flux-")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(remove)
	env.dir = dir

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

	By("serving a git repository")
	env.git, err = testenv.StartGitServer(ctx, filepath.Join(dir, "git"))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() error { return env.git.Stop() })

	By("starting Flux")
	env.events = &eventSink{}
	sink := httptest.NewServer(env.events)
	DeferCleanup(sink.Close)
	kubectl(ctx, "create", "namespace", testenv.FluxNamespace)
	env.flux, err = testenv.StartFlux(ctx, env.cp, testenv.FluxOptions{
		Dir: filepath.Join(dir, "flux"), EventsURL: sink.URL,
		Args: []string{"--requeue-dependency=1s", "--feature-gates=CancelHealthCheckOnNewRevision=true"},
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() error { return env.flux.Stop() })
	DeferCleanup(func(ctx SpecContext) {
		if env.operator != nil {
			Expect(env.operator.Stop(ctx)).To(Succeed())
		}
	})
}, NodeTimeout(8*time.Minute))

// startOperator runs the operator under the account that Flux has made, as the Deployment would.
func startOperator(ctx context.Context) {
	GinkgoHelper()
	kubeconfig, err := env.cp.ServiceAccountKubeconfig(ctx, testenv.OperatorNamespace, testenv.OperatorServiceAccount)
	Expect(err).NotTo(HaveOccurred())
	env.operator, err = testenv.StartManager(ctx, testenv.ManagerOptions{
		Kubeconfig: kubeconfig, NATSURL: env.nats.URL(), LogFile: operatorLog(),
	})
	Expect(err).NotTo(HaveOccurred())
}

func operatorLog() string { return filepath.Join(env.dir, "manager.log") }

var _ = JustAfterEach(func() {
	if !CurrentSpecReport().Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	for _, args := range [][]string{
		{"get", "gitrepositories,kustomizations", "--all-namespaces", "--output=wide"},
		{"get", "auditstreams", "--all-namespaces", "--output=yaml", "--show-managed-fields"},
		{"get", "events", "--all-namespaces", "--sort-by=.metadata.creationTimestamp"},
	} {
		out, err := env.cp.Kubectl(ctx, args...)
		GinkgoWriter.Printf("\nkubectl %v (%v)\n%s", args, err, out)
	}
	logs := []string{operatorLog()}
	if env.flux != nil {
		logs = append(logs, env.flux.Logs...)
	}
	for _, log := range logs {
		GinkgoWriter.Printf("\nlast lines of %s\n%s\n", filepath.Base(log), testenv.LogTail(log, logLines))
	}
})
