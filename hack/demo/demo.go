package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// stopTimeout is what the operator gets to end by itself.
const stopTimeout = 30 * time.Second

type demo struct {
	opts  options
	out   io.Writer
	began time.Time

	dir      string
	cleanUps []func() error
	cp       *testenv.ControlPlane
	k8s      client.Client
	nats     *testenv.NATSServer
	js       jetstream.JetStream
	manager  *testenv.Manager
	workload *workload
}

func newDemo(opts options, out io.Writer) *demo {
	return &demo{opts: opts, out: out, began: time.Now()}
}

// say prints a line with the seconds since the beginning.
func (d *demo) say(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "[%5.1fs] %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) print(text string) {
	_, _ = fmt.Fprintln(d.out, strings.TrimRight(text, "\n"))
}

// show does everything that the demo shows. Its error says what did not come true.
func (d *demo) show(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.makeDir,
		d.startNATS,
		d.fillBucket,
		d.startControlPlane,
		d.startOperator,
		d.applySamples,
		d.awaitReady,
		d.showEntries,
		d.compare,
		d.startService,
		d.showService,
		d.stayUp,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) makeDir(context.Context) (err error) {
	if d.opts.keepDir {
		d.dir, err = os.MkdirTemp("", "auditstream-demo-")
		return err
	}
	dir, remove, err := testenv.TempDir("auditstream-demo-")
	if err != nil {
		return err
	}
	d.dir = dir
	d.atEnd(remove)
	return nil
}

func (d *demo) startNATS(ctx context.Context) error {
	d.say("Starting nats-server with JetStream on file storage")
	server, err := testenv.StartNATS(ctx, testenv.NATSOptions{Dir: filepath.Join(d.dir, "nats")})
	if err != nil {
		return err
	}
	d.nats = server
	d.atEnd(server.Stop)
	nc, err := nats.Connect(server.URL(), nats.Name("auditstream-demo"), nats.MaxReconnects(-1))
	if err != nil {
		return fmt.Errorf("connecting to nats-server: %w", err)
	}
	d.atEnd(func() error { nc.Close(); return nil })
	d.js, err = jetstream.New(nc)
	return err
}

func (d *demo) fillBucket(ctx context.Context) error {
	d.say("Filling the legacy bucket %s with %d entries", testenv.LegacyBucketName, d.opts.entries)
	return testenv.FillLegacyBucket(ctx, d.js, testenv.LegacyBucket{
		Entries:  d.opts.entries,
		MaxBytes: max(50<<20, int64(d.opts.entries)*1024),
		Newest:   time.Now().UTC().Truncate(time.Second),
	})
}

func (d *demo) startControlPlane(ctx context.Context) error {
	d.say("Starting etcd, kube-apiserver and kube-controller-manager")
	cp, err := testenv.StartControlPlane(ctx, testenv.ControlPlaneOptions{
		Dir:               filepath.Join(d.dir, "control-plane"),
		ControllerManager: true,
		IgnoreExisting:    true,
	})
	if err != nil {
		return err
	}
	d.cp = cp
	d.atEnd(cp.Stop)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return err
	}
	d.say("Installing the CRD and the operator's roles from config/default")
	if err := testenv.InstallOperator(ctx, cp); err != nil {
		return err
	}
	d.k8s, err = client.New(cp.Config(), client.Options{Scheme: scheme})
	return err
}

func (d *demo) startOperator(ctx context.Context) error {
	account := testenv.OperatorNamespace + "/" + testenv.OperatorServiceAccount
	d.say("Starting the operator as the service account %s", account)
	kubeconfig, err := d.cp.ServiceAccountKubeconfig(ctx, testenv.OperatorNamespace, testenv.OperatorServiceAccount)
	if err != nil {
		return err
	}
	manager, err := testenv.StartManager(ctx, testenv.ManagerOptions{
		Kubeconfig: kubeconfig,
		NATSURL:    d.nats.URL(),
		LogFile:    filepath.Join(d.dir, "manager.log"),
	})
	if err != nil {
		return err
	}
	d.manager = manager
	d.atEnd(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		return manager.Stop(ctx)
	})
	return nil
}

func (d *demo) applySamples(ctx context.Context) error {
	d.say("Applying the samples: kubectl apply -k config/samples")
	root, err := testenv.RepoRoot()
	if err != nil {
		return err
	}
	out, err := d.cp.Kubectl(ctx, "apply", "-k", filepath.Join(root, "config", "samples"))
	d.print(out)
	return err
}

// atEnd has f called by cleanUp, the last one first.
func (d *demo) atEnd(f func() error) { d.cleanUps = append(d.cleanUps, f) }

func (d *demo) cleanUp() error {
	var errs []error
	for _, f := range slices.Backward(d.cleanUps) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// explain is what one needs to understand a failure besides the error.
func (d *demo) explain() string {
	const lines = 30
	switch {
	case d.workload != nil && !ended(d.manager.Done()):
		return fmt.Sprintf("\nThe last lines of the service's log:\n%s\n", testenv.LogTail(d.workload.log, lines))
	case d.manager != nil:
		return fmt.Sprintf("\nThe last lines of the operator's log:\n%s\n", testenv.LogTail(d.manager.LogFile, lines))
	}
	return ""
}

func ended(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

func (d *demo) kept() string {
	if !d.opts.keepDir {
		return ""
	}
	return " but " + d.dir
}
