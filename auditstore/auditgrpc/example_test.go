package auditgrpc_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/osapi-io/auditstream-operator/auditstore/auditgrpc"
	"github.com/osapi-io/auditstream-operator/auditstore/auditstoretest"
)

// exampleTB lets an example, which has no testing.T, run the test server.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (e *exampleTB) Helper()                           {}
func (e *exampleTB) Cleanup(f func())                  { e.cleanups = append(e.cleanups, f) }
func (e *exampleTB) Fatalf(format string, args ...any) { log.Panicf(format, args...) }

func (e *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "auditgrpc")
	if err != nil {
		log.Panic(err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (e *exampleTB) close() {
	for _, cleanup := range slices.Backward(e.cleanups) {
		cleanup()
	}
}

type accountKey struct{}

// authenticate stands for the service's own authentication.
func authenticate(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	account := metadata.ValueFromIncomingContext(ctx, "account")
	if len(account) != 1 {
		return nil, status.Error(codes.Unauthenticated, "who are you?")
	}
	ctx = context.WithValue(ctx, accountKey{}, account[0])
	// The audit stands outside, to record the refused calls too. This tells it who made the others.
	auditgrpc.Observe(ctx)
	return handler(ctx, req)
}

type shop struct {
	testpb.UnimplementedTestServiceServer
}

func (shop) UnaryCall(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{}, nil
}

func ExampleNew() {
	tb := &exampleTB{}
	defer tb.close()
	store, _ := auditstoretest.Run(tb) // auditstore.New on the service's own connection

	audit, err := auditgrpc.New(store, auditgrpc.Config{
		User: func(ctx context.Context) string {
			account, _ := ctx.Value(accountKey{}).(string)
			return account
		},
		OnFailure: auditgrpc.FailClosed,
	})
	if err != nil {
		log.Panic(err)
	}

	// The audit's options come first: the interceptors of later ones are further in.
	server := grpc.NewServer(append(audit.ServerOptions(), grpc.ChainUnaryInterceptor(authenticate))...)
	testpb.RegisterTestServiceServer(server, shop{})
	listener := bufconn.Listen(1 << 20)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	client, err := grpc.NewClient("passthrough:shop", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		log.Panic(err)
	}
	defer func() { _ = client.Close() }()
	for _, ctx := range []context.Context{
		metadata.AppendToOutgoingContext(context.Background(), "account", "ada"), context.Background(),
	} {
		_, err := testpb.NewTestServiceClient(client).UnaryCall(ctx, &testpb.SimpleRequest{})
		fmt.Println(status.Code(err))
	}

	entries, err := store.ListAll(context.Background())
	if err != nil {
		log.Panic(err)
	}
	for _, entry := range slices.Backward(entries) {
		fmt.Printf("%q %s %s: %d\n", entry.User, entry.Method, entry.Path, entry.ResponseCode)
	}
	// Output:
	// OK
	// Unauthenticated
	// "ada" UNARY /grpc.testing.TestService/UnaryCall: 200
	// "" UNARY /grpc.testing.TestService/UnaryCall: 401
}

// To find the calls that were answered with a code, filter by its status.
func ExampleHTTPStatus() {
	for _, code := range []codes.Code{codes.OK, codes.PermissionDenied, codes.Unavailable} {
		fmt.Println(code, auditgrpc.HTTPStatus(code))
	}
	// Output:
	// OK 200
	// PermissionDenied 403
	// Unavailable 503
}
