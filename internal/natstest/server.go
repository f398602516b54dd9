package natstest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/freeport"
)

const (
	startTimeout = time.Minute
	// requestTimeout bounds one request, which a server may never answer, askTimeout all that are made until one does.
	requestTimeout = 5 * time.Second
	askTimeout     = 2 * time.Minute
	pollInterval   = 10 * time.Millisecond
)

// Server is a nats-server with JetStream on a port of its own. Stop and Restart keep its port and its files.
type Server struct {
	tb   testing.TB
	opts *server.Options
	srv  *server.Server
}

// Option changes the options of a server before it starts.
type Option func(*server.Options)

// Run starts a lone server, which is stopped at the end of the test.
func Run(tb testing.TB, options ...Option) *Server {
	tb.Helper()
	opts := baseOptions(tb)
	for _, option := range options {
		option(opts)
	}
	s := &Server{tb: tb, opts: opts}
	s.start()
	tb.Cleanup(s.Stop)
	return s
}

// RunCluster starts a cluster of three servers and waits until JetStream has elected its leader.
func RunCluster(tb testing.TB, options ...Option) []*Server {
	tb.Helper()
	const size = 3
	ports, routes := make([]int, size), make([]*url.URL, size)
	for i := range routes {
		ports[i] = freePort(tb)
		routes[i] = &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])}
	}
	servers := make([]*Server, size)
	for i := range servers {
		opts := baseOptions(tb)
		opts.ServerName = fmt.Sprintf("n%d", i+1)
		opts.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}
		opts.Routes = routes
		for _, option := range options {
			option(opts)
		}
		servers[i] = &Server{tb: tb, opts: opts}
		servers[i].launch()
		tb.Cleanup(servers[i].Stop)
	}
	for _, s := range servers {
		s.awaitReady()
	}
	await(tb, "a JetStream meta leader", func() bool {
		for _, s := range servers {
			if s.srv.JetStreamIsLeader() && len(s.srv.JetStreamClusterPeers()) == size {
				return true
			}
		}
		return false
	})
	return servers
}

// URL is the address clients connect to.
func (s *Server) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.opts.Port) }

// Name is the server's name, which is how a cluster names a leader.
func (s *Server) Name() string { return s.opts.ServerName }

// Stop stops the server and keeps its files. Stopping it again does nothing.
func (s *Server) Stop() {
	if s.srv == nil {
		return
	}
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
	s.srv = nil
}

// Restart starts the server again on the same port with the same files.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	s.start()
}

// Connect opens a connection that the test closes at its end.
func (s *Server) Connect(options ...nats.Option) *nats.Conn {
	s.tb.Helper()
	nc, err := nats.Connect(s.URL(), append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond)}, options...)...)
	if err != nil {
		s.tb.Fatalf("connecting to the test server: %v", err)
	}
	s.tb.Cleanup(nc.Close)
	return nc
}

// JetStream opens a connection as Connect does and returns its JetStream context.
func (s *Server) JetStream(options ...nats.Option) jetstream.JetStream {
	s.tb.Helper()
	js, err := jetstream.New(s.Connect(options...))
	if err != nil {
		s.tb.Fatalf("opening JetStream: %v", err)
	}
	return js
}

func (s *Server) start() {
	s.tb.Helper()
	s.launch()
	s.awaitReady()
}

func (s *Server) launch() {
	s.tb.Helper()
	srv, err := server.NewServer(s.opts.Clone())
	if err != nil {
		s.tb.Fatalf("configuring the test server: %v", err)
	}
	s.srv = srv
	go srv.Start()
}

func (s *Server) awaitReady() {
	s.tb.Helper()
	if !s.srv.ReadyForConnections(startTimeout) {
		s.tb.Fatalf("the test server was not ready within %s", startTimeout)
	}
}

func baseOptions(tb testing.TB) *server.Options {
	tb.Helper()
	return &server.Options{
		Host:      "127.0.0.1",
		Port:      freePort(tb),
		JetStream: true,
		StoreDir:  storeDir(tb),
		NoSigs:    true,
		NoLog:     true,
	}
}

// storeDir is a directory that goes with the test. Other than with TempDir, what a server that is stopped still writes for a moment
// does not fail the test.
func storeDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "natstest-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { await(tb, "the end of "+dir, func() bool { return os.RemoveAll(dir) == nil }) })
	return dir
}

// Ask asks the servers of a cluster again that have not answered: while they are busy electing their leaders they drop requests, or
// say that they have none.
func Ask(ctx context.Context, tb testing.TB, what string, ask func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for {
		requestCtx, cancel := context.WithTimeout(ctx, requestTimeout)
		err := ask(requestCtx)
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() != nil || !Passes(err) {
			tb.Fatalf("%s: %v", what, err)
		}
		time.Sleep(pollInterval)
	}
}

// Passes says whether a cluster that gives this answer, or none, may give another one soon.
func Passes(err error) bool {
	const noLeader = 10008 // JetStream system temporarily unavailable
	for _, target := range []error{context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, jetstream.ErrNoStreamResponse} {
		if errors.Is(err, target) {
			return true
		}
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == noLeader
}

func freePort(tb testing.TB) int {
	tb.Helper()
	port, err := freeport.Next()
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

func await(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(pollInterval) {
		if done() {
			return
		}
	}
	tb.Fatalf("waited %s for %s", startTimeout, what)
}
