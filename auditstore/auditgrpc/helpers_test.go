package auditgrpc_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/auditgrpc"
	"github.com/osapi-io/auditstream-operator/auditstore/auditstoretest"
)

const patience = 30 * time.Second

const (
	unaryCall      = "/grpc.testing.TestService/UnaryCall"
	serverStream   = "/grpc.testing.TestService/StreamingOutputCall"
	clientStream   = "/grpc.testing.TestService/StreamingInputCall"
	fullDuplexCall = "/grpc.testing.TestService/FullDuplexCall"
)

var modes = map[string]auditgrpc.FailureMode{"open": auditgrpc.FailOpen, "closed": auditgrpc.FailClosed}

func newStore(tb testing.TB) *auditstore.StreamStore {
	tb.Helper()
	store, _ := auditstoretest.Run(tb)
	return store
}

// service answers with what a test gives it.
type service struct {
	testpb.UnimplementedTestServiceServer
	unary        func(ctx context.Context) error
	output       func(stream grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error
	input        func(stream grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error
	duplex       func(stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error
	unaryAnswers string
}

func (s *service) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if s.unary != nil {
		if err := s.unary(ctx); err != nil {
			return nil, err
		}
	}
	return &testpb.SimpleResponse{Username: s.unaryAnswers}, nil
}

func (s *service) StreamingOutputCall(_ *testpb.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
	return s.output(stream)
}

func (s *service) StreamingInputCall(stream grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error {
	return s.input(stream)
}

func (s *service) FullDuplexCall(stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	return s.duplex(stream)
}

func interceptor(t *testing.T, store auditgrpc.Writer, cfg auditgrpc.Config) *auditgrpc.Interceptor {
	t.Helper()
	if cfg.User == nil {
		cfg.User = nobody
	}
	audit, err := auditgrpc.New(store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return audit
}

// serve runs the service behind the interceptors in a server on the loopback interface and connects a client.
func serve(t *testing.T, store auditgrpc.Writer, cfg auditgrpc.Config, s *service, further ...grpc.ServerOption) testpb.TestServiceClient {
	t.Helper()
	return testpb.NewTestServiceClient(connect(t, start(t, interceptor(t, store, cfg), s, further...)))
}

func start(t *testing.T, audit *auditgrpc.Interceptor, s *service, further ...grpc.ServerOption) (address string) {
	t.Helper()
	server := grpc.NewServer(append(audit.ServerOptions(), further...)...)
	testpb.RegisterTestServiceServer(server, s)
	return listen(t, server)
}

func listen(t *testing.T, server *grpc.Server) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func connect(t *testing.T, address string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// faulty is a store whose writes can be made to fail, panic or wait.
type faulty struct {
	auditstore.Store
	before func(ctx context.Context, entry auditstore.Entry) error
}

func (f *faulty) Write(ctx context.Context, entry auditstore.Entry) error {
	if f.before != nil {
		if err := f.before(ctx, entry); err != nil {
			return err
		}
	}
	return f.Store.Write(ctx, entry)
}

var errFault = errors.New("the trail is away")

func failing(store auditstore.Store) *faulty {
	return &faulty{store, func(context.Context, auditstore.Entry) error { return errFault }}
}

// failures collects what OnError gets.
type failures struct {
	mu      sync.Mutex
	errs    []error
	entries []auditstore.Entry
}

func (f *failures) add(_ context.Context, entry auditstore.Entry, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs, f.entries = append(f.errs, err), append(f.entries, entry)
}

func (f *failures) all() ([]error, []auditstore.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errs, f.entries
}

func nobody(context.Context) string { return "" }

// await returns the entries of the trail, newest first, once there are n.
func await(t *testing.T, store auditstore.Store, n int) []auditstore.Entry {
	t.Helper()
	var entries []auditstore.Entry
	eventually(t, "the entries", func() bool {
		var err error
		if entries, err = store.ListAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(entries) >= n
	})
	if len(entries) != n {
		t.Fatalf("%d entries, want %d: %+v", len(entries), n, entries)
	}
	return entries
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !done(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no sign of %s", what)
		}
	}
}
