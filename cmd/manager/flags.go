package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/osapi-io/auditstream-operator/internal/jsclient"
)

const (
	defaultNATSURL        = "nats://127.0.0.1:4222"
	defaultResyncInterval = 10 * time.Minute
	minResyncInterval     = 10 * time.Second
	defaultWorkers        = 8
	maxWorkers            = 256
)

// options are what the command line and the environment set.
type options struct {
	metricsAddr             string
	metricsSecure           bool
	metricsCertDir          string
	probeAddr               string
	enableHTTP2             bool
	leaderElect             bool
	leaderElectionNamespace string
	namespaces              string
	maxConcurrentReconciles int
	resyncInterval          time.Duration
	nats                    jsclient.Config
}

// register defines the flags. Where an environment variable is named, it is the flag's default.
func (o *options) register(fs *flag.FlagSet) {
	fs.StringVar(&o.metricsAddr, "metrics-bind-address", "0", "Address the metrics endpoint binds to, such as :8443; 0 turns it off.")
	fs.BoolVar(&o.metricsSecure, "metrics-secure", true, "Serve metrics over HTTPS, to clients that authenticate and are authorised.")
	fs.StringVar(&o.metricsCertDir, "metrics-cert-path", "", "Directory with tls.crt and tls.key of the metrics endpoint; empty makes a self-signed certificate.")
	fs.StringVar(&o.probeAddr, "health-probe-bind-address", ":8081", "Address that /healthz and /readyz bind to.")
	fs.BoolVar(&o.enableHTTP2, "enable-http2", false, "Offer HTTP/2 on the metrics endpoint.")
	fs.BoolVar(&o.leaderElect, "leader-elect", false, "Have one of several operators lead and the others wait.")
	fs.StringVar(&o.leaderElectionNamespace, "leader-election-namespace", "", "Namespace of the leader election lease; empty is the operator's own.")
	fs.StringVar(&o.namespaces, "namespaces", "", "Namespaces whose AuditStreams are reconciled, separated by commas; empty is all of them.")
	fs.IntVar(&o.maxConcurrentReconciles, "max-concurrent-reconciles", defaultWorkers, "How many AuditStreams are reconciled at once.")
	fs.DurationVar(&o.resyncInterval, "resync-interval", defaultResyncInterval, "How often all streams are looked at without an event, at least 10s.")

	file := func(p *string, name, env, usage string) {
		fs.StringVar(p, name, os.Getenv(env), usage+" ($"+env+")")
	}
	file(&o.nats.URL, "nats-url", "NATS_URL", "URL of NATS, or several separated by commas; "+defaultNATSURL+" if empty")
	file(&o.nats.CredsFile, "nats-creds", "NATS_CREDS", "File with the user's credentials (JWT and seed)")
	file(&o.nats.CAFile, "nats-ca", "NATS_CA", "File with the certificate authorities that the NATS servers are verified with")
	file(&o.nats.CertFile, "nats-cert", "NATS_CERT", "File with the client certificate; needs --nats-key")
	file(&o.nats.KeyFile, "nats-key", "NATS_KEY", "File with the client certificate's key; needs --nats-cert")
	file(&o.nats.User, "nats-user", "NATS_USER", "User name; needs --nats-password-file")
	file(&o.nats.PasswordFile, "nats-password-file", "NATS_PASSWORD_FILE", "File with the user's password")
	file(&o.nats.TokenFile, "nats-token-file", "NATS_TOKEN_FILE", "File with the token")
	file(&o.nats.Domain, "nats-domain", "NATS_DOMAIN", "JetStream domain")
}

// validate says everything that is wrong with the options, naming the flags.
func (o *options) validate() error {
	if o.nats.URL == "" {
		o.nats.URL = defaultNATSURL
	}
	var errs []error
	if o.maxConcurrentReconciles < 1 || o.maxConcurrentReconciles > maxWorkers {
		errs = append(errs, fmt.Errorf("--max-concurrent-reconciles is %d: give 1 to %d", o.maxConcurrentReconciles, maxWorkers))
	}
	if o.resyncInterval < minResyncInterval {
		errs = append(errs, fmt.Errorf("--resync-interval is %s: give at least %s", o.resyncInterval, minResyncInterval))
	}
	return errors.Join(append(errs, o.validateNamespaces(), o.nats.Validate())...)
}
