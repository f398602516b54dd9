// Command manager is the auditstream-operator: it keeps the JetStream streams of AuditStream resources as declared.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	// Credential plugins of kubeconfig files, for running outside a cluster.
	_ "k8s.io/client-go/plugin/pkg/client/auth"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/controller"
	"github.com/osapi-io/auditstream-operator/internal/jsclient"
	"github.com/osapi-io/auditstream-operator/internal/tracing/otlp"
)

// leaseName is the name of the leader election lease.
const leaseName = "auditstream-operator.audit.osapi.io"

func main() {
	var opts options
	opts.register(flag.CommandLine)
	registerVersion(flag.CommandLine)
	zapOpts := logOptions()
	zapOpts.BindFlags(flag.CommandLine)
	flag.Parse()
	setLogger(&zapOpts)

	if err := run(ctrl.SetupSignalHandler(), &opts); err != nil {
		ctrl.Log.WithName("setup").Error(err, "Stopped the operator")
		os.Exit(1)
	}
}

func run(ctx context.Context, opts *options) error {
	if err := opts.validate(); err != nil {
		return err
	}
	built, _ := buildVersion()
	traces := otlp.NewProvider(ctx, ctrl.Log.WithName("tracing"), built)
	defer traces.Shutdown() // once nothing is traced any more
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the Kubernetes API server: %w", err)
	}
	lock, err := newFencedLock(config, opts)
	if err != nil {
		return fmt.Errorf("setting up the leader election: %w", err)
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                              newScheme(),
		Metrics:                             metricsOptions(opts),
		HealthProbeBindAddress:              opts.probeAddr,
		Cache:                               opts.cacheOptions(),
		LeaderElection:                      opts.leaderElect,
		LeaderElectionID:                    leaseName, // names the lease in leader_election_master_status
		LeaderElectionReleaseOnCancel:       true,
		LeaderElectionResourceLockInterface: lock,
	})
	if err != nil {
		return fmt.Errorf("setting up the manager: %w", err)
	}

	reconciler := &controller.Reconciler{
		Client:                  mgr.GetClient(),
		APIReader:               mgr.GetAPIReader(),
		Recorder:                mgr.GetEventRecorder("auditstream-operator"),
		Connection:              opts.nats,
		ResyncInterval:          opts.resyncInterval,
		MaxConcurrentReconciles: opts.maxConcurrentReconciles,
		TracerProvider:          traces,
	}
	pool := jsclient.NewPool(jsclient.PoolOptions{
		Log:     ctrl.Log.WithName("nats"),
		OnEvent: reconciler.HandleEvent,
		Metrics: metrics.Registry,
	})
	defer pool.Close()
	reconciler.Pool = pool
	if err := reconciler.SetupWithManager(ctx, mgr); err != nil {
		return fmt.Errorf("setting up the controller: %w", err)
	}
	nats, err := pool.Get(opts.nats)
	if err != nil {
		return err
	}
	if err := errors.Join(addChecks(ctx, mgr, nats), mgr.Add(newRivals(mgr, lock))); err != nil {
		return err
	}
	ctrl.Log.WithName("setup").Info("Started the operator", "servers", opts.nats.String())
	return mgr.Start(ctx)
}

// addChecks has /healthz tell only whether the process lives, so that nothing restarts the operator because NATS is
// down, and /readyz whether the default connection and the caches are usable.
func addChecks(ctx context.Context, mgr ctrl.Manager, nats *jsclient.Client) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	caches := mgr.GetCache()
	return errors.Join(
		mgr.AddReadyzCheck("nats", func(*http.Request) error { return nats.Err() }),
		mgr.AddReadyzCheck("caches", func(req *http.Request) error {
			if !caches.WaitForCacheSync(req.Context()) {
				return errors.New("the caches have not synchronised")
			}
			return ctx.Err()
		}),
	)
}

func metricsOptions(opts *options) metricsserver.Options {
	metricsOpts := metricsserver.Options{
		BindAddress:   opts.metricsAddr,
		SecureServing: opts.metricsSecure,
		CertDir:       opts.metricsCertDir,
	}
	if opts.metricsSecure {
		metricsOpts.FilterProvider = filters.WithAuthenticationAndAuthorization
	}
	if !opts.enableHTTP2 {
		metricsOpts.TLSOpts = append(metricsOpts.TLSOpts, func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} })
	}
	return metricsOpts
}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	return scheme
}
