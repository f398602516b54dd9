// Package chaos proves that a migration copies every entry exactly once, whatever happens meanwhile. It copies a large
// legacy bucket with the operator as a process of its own, against a real control plane and real nats-servers, and kills,
// freezes and restarts them in the middle of the copy.
//
// The moments are random. CHAOS_SEED gives the same ones again, and CHAOS_ENTRIES another number of entries.
package chaos

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

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
	seedVariable    = "CHAOS_SEED"
	entriesVariable = "CHAOS_ENTRIES"
	defaultEntries  = 200_000

	// eventually is how long anything may take that has to happen: a slow machine is no fault of the operator's.
	eventually = 2 * time.Minute
	poll       = 50 * time.Millisecond
	// specTimeout bounds a spec as a whole, and filling the bucket.
	specTimeout  = 5 * time.Minute
	managerLines = 60
)

// env is what all specs share. They run one after the other; each has a resource and a stream of its own.
var env struct {
	dir        string
	cp         *testenv.ControlPlane
	kubeconfig string
	k8s        client.Client
	entries    int
	seed       uint64
}

func TestChaos(t *testing.T) {
	ctrllog.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(eventually)
	SetDefaultEventuallyPollingInterval(poll)
	EnforceDefaultTimeoutsWhenUsingContexts()
	var err error
	if env.entries, err = number(entriesVariable, defaultEntries); err != nil {
		t.Fatal(err)
	}
	if env.seed, err = chooseSeed(); err != nil {
		t.Fatal(err)
	}
	RunSpecs(t, fmt.Sprintf("Chaos (%s=%d %s=%d)", seedVariable, env.seed, entriesVariable, env.entries))
}

func number(variable string, otherwise int) (int, error) {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1000 {
		return 0, fmt.Errorf("%s is %q; give a number from 1000 on", variable, text)
	}
	return n, nil
}

func chooseSeed() (uint64, error) {
	text := os.Getenv(seedVariable)
	if text == "" {
		var random [4]byte
		_, err := rand.Read(random[:])
		return uint64(binary.BigEndian.Uint32(random[:])), err
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is %q; give a number", seedVariable, text)
	}
	return seed, nil
}

// dice is the randomness of the running spec. It depends on the seed and the spec's text only, so that a spec that is run
// alone meets the same moments.
func dice() *mathrand.Rand {
	text := fnv.New64a()
	_, _ = io.WriteString(text, CurrentSpecReport().FullText())
	return mathrand.New(mathrand.NewPCG(env.seed, text.Sum64()))
}

// marks are n random moments of a copy, in their order: each is how many entries the stream holds then.
func marks(n int) []int {
	random := dice()
	moments := make([]int, n)
	for i := range moments {
		// A share of the copy for each keeps them apart, and the last tenth is left for the copy to end in.
		share := env.entries * 9 / 10 / n
		moments[i] = i*share + share/20 + random.IntN(share*9/10)
	}
	slices.Sort(moments)
	AddReportEntry("Moments", fmt.Sprintf("%v of %d entries with %s=%d", moments, env.entries, seedVariable, env.seed))
	return moments
}

var _ = BeforeSuite(func(ctx SpecContext) {
	dir, remove, err := testenv.TempDir("auditstream-chaos-")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(remove)
	env.dir = dir

	By("starting etcd and kube-apiserver")
	env.cp, err = testenv.StartControlPlane(ctx, testenv.ControlPlaneOptions{Dir: filepath.Join(dir, "control-plane")})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() error { return env.cp.Stop() })

	By("installing the operator's CRD, ServiceAccount and roles")
	Expect(testenv.InstallOperator(ctx, env.cp)).To(Succeed())
	env.kubeconfig, err = env.cp.ServiceAccountKubeconfig(ctx, testenv.OperatorNamespace, testenv.OperatorServiceAccount)
	Expect(err).NotTo(HaveOccurred())
	Expect(v1alpha1.AddToScheme(scheme.Scheme)).To(Succeed())
	env.k8s, err = client.New(env.cp.Config(), client.Options{Scheme: scheme.Scheme})
	Expect(err).NotTo(HaveOccurred())
}, NodeTimeout(2*time.Minute))

var _ = JustAfterEach(func() {
	if !CurrentSpecReport().Failed() {
		return
	}
	GinkgoWriter.Printf("\nThe same moments again: %s=%d\n", seedVariable, env.seed)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := env.cp.Kubectl(ctx, "get", "auditstreams", "--all-namespaces", "--output=yaml")
	GinkgoWriter.Printf("\nkubectl get auditstreams (%v)\n%s", err, out)
	GinkgoWriter.Printf("\nlast lines of the operators' log\n%s\n", testenv.LogTail(operatorLog(), managerLines))
})
