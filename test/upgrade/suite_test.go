// Package upgrade proves that an upgrade of the operator, and the way back, touches no stream. It runs the release that
// hack/previous-release names, built from git, and then this tree's, over live resources, while a service writes its trail and
// reads it back.
package upgrade

import (
	"context"
	"fmt"
	"io"
	"os"
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
	poll = 200 * time.Millisecond
	// buildTimeout is for the previous release, of which nothing may be in the build cache.
	buildTimeout   = 10 * time.Minute
	journeyTimeout = 10 * time.Minute
	managerLines   = 40
)

var env struct {
	*cluster.Cluster
	root     string
	previous string // the tree of the previous release
	account  string // the operator's kubeconfig
}

func TestUpgrade(t *testing.T) {
	ctrllog.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	RegisterFailHandler(Fail)
	SetDefaultEventuallyPollingInterval(poll)
	SetDefaultConsistentlyPollingInterval(poll)
	RunSpecs(t, "Upgrade")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	var err error
	env.root, err = testenv.RepoRoot()
	Expect(err).NotTo(HaveOccurred())
	previous, remove, err := testenv.TempDir("auditstream-previous-")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(remove)
	env.previous = previous

	began := time.Now()
	commit, err := buildPrevious(ctx, env.root, previous)
	Expect(err).NotTo(HaveOccurred())
	AddReportEntry(fmt.Sprintf("the previous release, %s, was built in %s", commit, time.Since(began).Round(time.Second)))

	env.Cluster, err = cluster.Start(ctx, "upgrade")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(env.Stop)
}, NodeTimeout(buildTimeout))

var _ = JustAfterEach(func() {
	if !CurrentSpecReport().Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	out, err := env.CP.Kubectl(ctx, "get", "auditstreams", "--all-namespaces", "--output=yaml")
	GinkgoWriter.Printf("\nkubectl get auditstreams (%v)\n%s", err, out)
	for _, release := range []string{previousRelease, thisRelease} {
		GinkgoWriter.Printf("\nlast lines of the manager of %s\n%s\n", release, testenv.LogTail(logOf(release), managerLines))
	}
})

const (
	previousRelease = "the previous release"
	thisRelease     = "this release"
)

func logOf(release string) string {
	return filepath.Join(env.Dir, map[string]string{previousRelease: "previous.log", thisRelease: "this.log"}[release])
}

// startManager starts the manager of a release as its Deployment does: with leader election, so that an old and a new Pod may
// overlap.
func startManager(ctx context.Context, release string) *testenv.Manager {
	GinkgoHelper()
	if release == previousRelease {
		was, set := os.LookupEnv(managerVariable)
		Expect(os.Setenv(managerVariable, previousManager(env.previous))).To(Succeed())
		defer func() {
			if !set {
				Expect(os.Unsetenv(managerVariable)).To(Succeed())
				return
			}
			Expect(os.Setenv(managerVariable, was)).To(Succeed())
		}()
	}
	m, err := testenv.StartManager(ctx, testenv.ManagerOptions{
		Kubeconfig: env.account, NATSURL: env.NATS.URL(), LogFile: logOf(release),
		Args: []string{"--leader-elect", "--leader-election-namespace=" + testenv.OperatorNamespace},
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func(ctx SpecContext) error { return m.Stop(ctx) })
	Eventually(m.Ready, soon).WithContext(ctx).Should(Succeed())
	return m
}
