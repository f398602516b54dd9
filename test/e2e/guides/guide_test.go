package guides

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	// entries is how many the guide says that the bucket holds.
	entries = 1000
	// guideTimeout bounds the guide as a whole, soon what should happen at once.
	guideTimeout = 15 * time.Minute
	soon         = time.Minute
	poll         = 100 * time.Millisecond

	platformUser, operatorUser, password = "platform", "operator", "guide-test"
)

// guide is somebody who follows the guide, and the parts around.
type guide struct {
	t *testing.T
	// dir is where the commands run, env their environment.
	dir string
	env []string

	cp       *testenv.ControlPlane
	nats     *testenv.NATSServer
	js       jetstream.JetStream
	operator *testenv.Manager
	account  string // the kubeconfig of the operator
	writer   *writer
}

func TestEachCommandOfTheGuide(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), guideTimeout)
	defer cancel()
	blocks := readGuide(t, "migration.md")
	g := start(ctx, t, permissionsIn(blocks))
	g.must(testenv.FillLegacyBucket(ctx, g.js, testenv.LegacyBucket{Entries: entries}))
	before := map[string]func(context.Context){
		"Verify by hand":        g.checkMetrics,
		"Redirect":              g.startWriting,
		"Way back":              g.checkRedirected,
		"Without the operator":  g.redirectAgainAndStop,
		"Clean up":              g.startAgain,
		"An entry that differs": g.makeDifference,
	}
	for _, b := range blocks {
		if act := before[b.heading]; act != nil {
			delete(before, b.heading)
			act(ctx)
		}
		g.follow(ctx, b)
	}
	if len(before) > 0 {
		t.Errorf("the guide lacks the sections of %v", before)
	}
	g.checkWritten(ctx)
	g.checkPermissions()
}

func (g *guide) follow(ctx context.Context, b block) {
	g.t.Helper()
	switch b.language {
	case "yaml":
		name, found := strings.CutPrefix(b.lines[0], "# ")
		if !found {
			g.t.Fatalf("the block in line %d does not begin with the name of its file", b.line)
		}
		g.must(os.WriteFile(filepath.Join(g.dir, name), []byte(b.text()), 0o600))
	case "console":
		for _, c := range b.commands() {
			g.t.Log("$ " + c.text)
			g.must(g.run(ctx, c))
		}
	case "conf": // what the server was started with
	default:
		g.t.Fatalf("the block in line %d is in %q, and nothing is done with it", b.line, b.language)
	}
}

// permissionsIn are the first ones that the page shows: the operator's.
func permissionsIn(blocks []block) string {
	first := blocks[slices.IndexFunc(blocks, func(b block) bool { return b.language == "conf" })]
	return first.text()
}

func start(ctx context.Context, t *testing.T, permissions string) *guide {
	t.Helper()
	g := &guide{t: t, dir: t.TempDir()}
	g.startNATS(ctx, permissions)
	var err error
	g.cp, err = testenv.StartControlPlane(ctx, testenv.ControlPlaneOptions{})
	g.must(err)
	t.Cleanup(func() { g.must(g.cp.Stop()) })
	g.must(testenv.InstallOperator(ctx, g.cp))
	g.account, err = g.cp.ServiceAccountKubeconfig(ctx, testenv.OperatorNamespace, testenv.OperatorServiceAccount)
	g.must(err)
	g.startOperator(ctx)
	t.Cleanup(func() { g.cleanUp() })
	g.env = g.environment()
	return g
}

// startNATS starts a server with a user who may do all, and the operator's, who may do what the guide says.
func (g *guide) startNATS(ctx context.Context, permissions string) {
	g.t.Helper()
	var err error
	login := nats.UserInfo(platformUser, password)
	g.nats, err = testenv.StartNATS(ctx, testenv.NATSOptions{
		ConfigExtra: fmt.Sprintf("authorization { users: [\n{ user: %s, password: %s }\n{ user: %s, password: %s\n%s}\n] }\n",
			platformUser, password, operatorUser, password, permissions),
		Connect: []nats.Option{login},
	})
	g.must(err)
	g.t.Cleanup(func() { g.must(g.nats.Stop()) })
	nc, err := nats.Connect(g.nats.URL(), login, nats.MaxReconnects(-1))
	g.must(err)
	g.t.Cleanup(nc.Close)
	g.js, err = jetstream.New(nc)
	g.must(err)
}

func (g *guide) startOperator(ctx context.Context) {
	g.t.Helper()
	secret := filepath.Join(g.dir, "operator.password")
	g.must(os.WriteFile(secret, []byte(password), 0o600))
	var err error
	g.operator, err = testenv.StartManager(ctx, testenv.ManagerOptions{
		Kubeconfig: g.account, NATSURL: g.nats.URL(), LogFile: filepath.Join(g.dir, "manager.log"),
		Args: []string{"--nats-user=" + operatorUser, "--nats-password-file=" + secret},
	})
	g.must(err)
}

// environment is what the commands need to find the tools, the cluster and NATS.
func (g *guide) environment() []string {
	g.t.Helper()
	kubectl, err := testenv.Kubectl()
	g.must(err)
	bin, err := filepath.Abs(filepath.Join(root, "bin"))
	g.must(err)
	if _, err := os.Stat(filepath.Join(bin, "nats")); err != nil {
		g.t.Fatalf("%v: make nats builds it", err)
	}
	return append(append(os.Environ(), g.cp.KubectlEnv()...),
		"PATH="+strings.Join([]string{bin, filepath.Dir(kubectl), os.Getenv("PATH")}, string(os.PathListSeparator)),
		"HOME="+g.dir, "LC_ALL=C", "USER=guide",
		"NATS_URL="+g.nats.URL(), "NATS_USER="+platformUser, "NATS_PASSWORD="+password,
		// Somebody who deletes one line in an editor.
		`EDITOR=sed -i /redirect\.audit-log/d`)
}

func (g *guide) cleanUp() {
	if g.t.Failed() {
		g.t.Logf("last lines of the operator's log\n%s", testenv.LogTail(g.operator.LogFile, 30))
	}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	_, _ = g.cp.Kubectl(ctx, "delete", "auditstream", "api-audit", "--ignore-not-found")
	g.must(g.operator.Stop(ctx))
}

// checkMetrics looks for the metrics that the guide names.
func (g *guide) checkMetrics(ctx context.Context) {
	g.t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.operator.MetricsURL, http.NoBody)
	g.must(err)
	response, err := http.DefaultClient.Do(request)
	g.must(err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	g.must(err)
	names := firstColumn(g.t, "Copy", "auditstream_[a-z_]+")
	if len(names) == 0 {
		g.t.Error("the guide names no metric")
	}
	for _, name := range names {
		if !strings.Contains(string(text), "\n"+name+"{") {
			g.t.Errorf("the operator has no metric %s", name)
		}
	}
}

// checkPermissions: the server has refused nothing to the operator.
func (g *guide) checkPermissions() {
	g.t.Helper()
	log, err := os.ReadFile(g.nats.LogFile())
	g.must(err)
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "Violation") {
			g.t.Errorf("the guide's permissions do not suffice: %s", line)
		}
	}
}

func (g *guide) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}
