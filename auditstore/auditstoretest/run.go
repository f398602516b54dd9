package auditstoretest

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server" //nolint:depguard // this package is for tests, and starting a server is what it does
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// The stream that Run makes where no option says otherwise.
const (
	DefaultStream  = "AUDIT"
	DefaultSubject = "audit"
)

const (
	startTimeout    = 20 * time.Second
	duplicateWindow = 2 * time.Minute
)

// Option changes what Run starts.
type Option func(*settings)

type settings struct {
	stream, subject string
	changes         []func(*jetstream.StreamConfig)
}

// WithStream names the stream and its base subject, which are DefaultStream and DefaultSubject otherwise.
func WithStream(stream, subject string) Option {
	return func(s *settings) { s.stream, s.subject = stream, subject }
}

// WithConfig changes the configuration of the stream before it is made, for instance to set what spec.maxAge or spec.maxBytes
// of an AuditStream would, or to let the test delete messages, which an append-only stream refuses. It may be given several
// times.
func WithConfig(change func(*jetstream.StreamConfig)) Option {
	return func(s *settings) { s.changes = append(s.changes, change) }
}

// Run starts a nats-server on a free port of the loopback interface, with file storage in a directory of the test, makes the
// stream as the operator makes it for an AuditStream that names nothing but stream and subject, and opens a store on it.
//
// The connection is the store's own. Further ones, those of a service that is tested as a whole for example, go to
// nc.ConnectedUrl(). At the end of the test the connection is closed, the server stopped and its files removed. Every call
// starts a server of its own. What goes wrong ends the test.
func Run(tb testing.TB, options ...Option) (store *auditstore.StreamStore, nc *nats.Conn) {
	tb.Helper()
	chosen := settings{stream: DefaultStream, subject: DefaultSubject}
	for _, option := range options {
		option(&chosen)
	}
	nc = connect(tb, startServer(tb))
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatalf("auditstoretest: opening JetStream: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cfg := streamConfig(chosen.stream, chosen.subject)
	for _, change := range chosen.changes {
		change(&cfg)
	}
	if _, err := js.CreateStream(ctx, cfg); err != nil {
		tb.Fatalf("auditstoretest: making the stream %q: %v", cfg.Name, err)
	}
	store, err = auditstore.New(ctx, js, auditstore.Config{Stream: cfg.Name, Subject: chosen.subject})
	if err != nil {
		tb.Fatalf("auditstoretest: opening the store: %v", err)
	}
	return store, nc
}

// streamConfig is what the operator builds from a spec that holds nothing but stream and subject.
func streamConfig(stream, subject string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               stream,
		Description:        "Audit trail of a test",
		Subjects:           []string{subject + ".>"},
		Retention:          jetstream.LimitsPolicy,
		MaxConsumers:       -1,
		MaxMsgs:            -1,
		MaxBytes:           -1,
		MaxMsgsPerSubject:  -1,
		MaxMsgSize:         -1,
		Discard:            jetstream.DiscardOld,
		Storage:            jetstream.FileStorage,
		Replicas:           1,
		Duplicates:         duplicateWindow,
		AllowDirect:        true,
		AllowMsgTTL:        true,
		AllowAtomicPublish: true,
		DenyDelete:         true,
		DenyPurge:          true,
	}
}

func startServer(tb testing.TB) *server.Server {
	tb.Helper()
	srv, err := server.NewServer(&server.Options{
		Host:      "127.0.0.1",
		Port:      server.RANDOM_PORT,
		JetStream: true,
		StoreDir:  tb.TempDir(),
		NoSigs:    true,
		NoLog:     true,
	})
	if err != nil {
		tb.Fatalf("auditstoretest: configuring the server: %v", err)
	}
	tb.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown() // the directory is removed next, and has to be at rest
	})
	go srv.Start()
	if !srv.ReadyForConnections(startTimeout) {
		tb.Fatalf("auditstoretest: the server was not ready within %s", startTimeout)
	}
	return srv
}

func connect(tb testing.TB, srv *server.Server) *nats.Conn {
	tb.Helper()
	//nolint:forbidigo // the server that was just started is nobody else's to dial
	nc, err := nats.Connect(srv.ClientURL(), nats.Name("auditstoretest"), nats.MaxReconnects(-1))
	if err != nil {
		tb.Fatalf("auditstoretest: connecting to the server: %v", err)
	}
	tb.Cleanup(nc.Close)
	return nc
}
