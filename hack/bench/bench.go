package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	namespace   = "bench"
	waitTimeout = 2 * time.Minute
)

// bench is what is measured, and what it is measured with.
type bench struct {
	dir      string
	plane    *testenv.ControlPlane
	nats     *testenv.NATSServer
	manager  *testenv.Manager
	k8s      client.WithWatch
	raw      *kubernetes.Clientset
	js       jetstream.JetStream
	requests atomic.Int64
	cleanup  []func() error
}

func start(ctx context.Context) (_ *bench, err error) {
	b := &bench{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop())
		}
	}()
	if b.dir, err = os.MkdirTemp("", "auditstream-bench-"); err != nil {
		return nil, err
	}
	b.cleanup = append(b.cleanup, func() error { return os.RemoveAll(b.dir) })
	fmt.Println("Starting the control plane and nats-server")
	b.plane, err = testenv.StartControlPlane(ctx, testenv.ControlPlaneOptions{Dir: filepath.Join(b.dir, "k8s"), InstallCRDs: true})
	if err != nil {
		return nil, err
	}
	b.cleanup = append(b.cleanup, b.plane.Stop)
	if b.nats, err = testenv.StartNATS(ctx, testenv.NATSOptions{Dir: filepath.Join(b.dir, "nats")}); err != nil {
		return nil, err
	}
	b.cleanup = append(b.cleanup, b.nats.Stop)
	if err := testenv.InstallOperator(ctx, b.plane); err != nil {
		return nil, err
	}
	return b, errors.Join(b.connect(ctx), b.startManager(ctx))
}

func (b *bench) connect(ctx context.Context) error {
	if err := v1alpha1.AddToScheme(clientgoscheme.Scheme); err != nil {
		return err
	}
	var err error
	if b.k8s, err = client.NewWithWatch(b.plane.Config(), client.Options{}); err != nil {
		return err
	}
	if b.raw, err = kubernetes.NewForConfig(b.plane.Config()); err != nil {
		return err
	}
	nc, err := nats.Connect(b.nats.URL())
	if err != nil {
		return err
	}
	b.cleanup = append(b.cleanup, func() error { nc.Close(); return nil })
	if b.js, err = jetstream.New(nc); err != nil {
		return err
	}
	// Requests to the JetStream API are messages, so a subscription of an own connection counts them.
	counter, err := nats.Connect(b.nats.URL())
	if err != nil {
		return err
	}
	b.cleanup = append(b.cleanup, func() error { counter.Close(); return nil })
	if _, err := counter.Subscribe("$JS.API.>", func(*nats.Msg) { b.requests.Add(1) }); err != nil {
		return err
	}
	return errors.Join(counter.Flush(), b.k8s.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
}

func (b *bench) startManager(ctx context.Context) error {
	kubeconfig, err := b.plane.ServiceAccountKubeconfig(ctx, testenv.OperatorNamespace, testenv.OperatorServiceAccount)
	if err != nil {
		return err
	}
	b.manager, err = testenv.StartManager(ctx, testenv.ManagerOptions{
		Kubeconfig: kubeconfig, NATSURL: b.nats.URL(), LogFile: filepath.Join(b.dir, "manager.log"),
	})
	if err != nil {
		return err
	}
	b.cleanup = append(b.cleanup, func() error { return b.manager.Stop(context.Background()) })
	return nil
}

func (b *bench) stop() error {
	var errs []error
	for _, f := range slices.Backward(b.cleanup) {
		errs = append(errs, f())
	}
	b.cleanup = nil
	return errors.Join(errs...)
}

func auditStream(name string) *v1alpha1.AuditStream {
	return &v1alpha1.AuditStream{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.AuditStreamSpec{Stream: name, Subject: "bench." + name, MaxAge: "30d"},
	}
}

// createReady creates the resource and returns how long it took until its Ready condition was True.
func (b *bench) createReady(ctx context.Context, obj *v1alpha1.AuditStream) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	watch, err := b.k8s.Watch(ctx, &v1alpha1.AuditStreamList{}, client.InNamespace(namespace), client.MatchingFields{"metadata.name": obj.Name})
	if err != nil {
		return 0, err
	}
	defer watch.Stop()
	began := time.Now()
	if err := b.k8s.Create(ctx, obj); err != nil {
		return 0, err
	}
	for event := range watch.ResultChan() {
		seen, ok := event.Object.(*v1alpha1.AuditStream)
		if ok && meta.IsStatusConditionTrue(seen.Status.Conditions, v1alpha1.ConditionReady) {
			return time.Since(began), nil
		}
	}
	return 0, fmt.Errorf("AuditStream %s was not Ready within %s", obj.Name, waitTimeout)
}

// writes counts, from the API server's own metrics, the writes of the operator: to AuditStreams, but for their creation,
// which is the bench's, and to events.
type writes struct{ auditStreams, events float64 }

func (w writes) minus(before writes) writes {
	return writes{w.auditStreams - before.auditStreams, w.events - before.events}
}

func (b *bench) writes(ctx context.Context) (writes, error) {
	text, err := b.raw.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return writes{}, err
	}
	var w writes
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "apiserver_request_total{") || strings.Contains(line, `verb="GET"`) ||
			strings.Contains(line, `verb="LIST"`) || strings.Contains(line, `verb="WATCH"`) {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
		if err != nil {
			return writes{}, fmt.Errorf("reading the metric %q: %w", line, err)
		}
		creation := strings.Contains(line, `verb="POST"`)
		switch {
		case strings.Contains(line, `resource="auditstreams"`) && !creation:
			w.auditStreams += value
		case strings.Contains(line, `resource="events"`):
			w.events += value
		}
	}
	return w, nil
}
