package auditgrpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/auditgrpc"
)

type userKey struct{}

// authenticated stands further in than the audit and makes a context of its own.
func authenticated(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, userKey{}, "ada")
	auditgrpc.Observe(ctx)
	return ctx
}

type authenticatedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s authenticatedStream) Context() context.Context { return s.ctx }

func TestAnEntrySaysWhatWasAskedAndAnswered(t *testing.T) {
	for mode, onFailure := range modes {
		t.Run(mode, func(t *testing.T) {
			store := newStore(t)
			cfg := auditgrpc.Config{
				OnFailure: onFailure,
				User:      func(ctx context.Context) string { user, _ := ctx.Value(userKey{}).(string); return user },
				Roles:     func(context.Context) []string { return []string{"admin", "auditor"} },
			}
			client := serve(t, store, cfg, &service{
				unaryAnswers: "hi",
				output: func(stream grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
					return stream.Send(&testpb.StreamingOutputCallResponse{})
				},
			}, grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				return handler(authenticated(ctx), req)
			}), grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				return handler(srv, authenticatedStream{ss, authenticated(ss.Context())})
			}))
			before := time.Now()
			if got, err := client.UnaryCall(within(t), &testpb.SimpleRequest{}); err != nil || got.GetUsername() != "hi" {
				t.Fatalf("%v, %v", got, err)
			}
			stream, err := client.StreamingOutputCall(within(t), &testpb.StreamingOutputCallRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
			for i, got := range await(t, store, 2) {
				if got.Timestamp.Before(before.Truncate(time.Millisecond)) || got.Timestamp.After(time.Now()) || got.DurationMs < 0 {
					t.Errorf("time %v, duration %d", got.Timestamp, got.DurationMs)
				}
				want := auditstore.Entry{
					ID: got.ID, Timestamp: got.Timestamp, DurationMs: got.DurationMs, User: "ada", Roles: []string{"admin", "auditor"},
					SourceIP: "127.0.0.1", ResponseCode: http.StatusOK, Method: auditgrpc.MethodStream, Path: serverStream, OperationID: serverStream,
				}
				if i == 1 {
					want.Method, want.Path, want.OperationID = auditgrpc.MethodUnary, unaryCall, unaryCall
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
			}
		})
	}
}

func TestOperationID(t *testing.T) {
	for mode, onFailure := range modes {
		store := newStore(t)
		client := serve(t, store, auditgrpc.Config{OnFailure: onFailure, OperationID: func(ctx context.Context, fullMethod string) string {
			method, _ := grpc.Method(ctx)
			return method + "+" + fullMethod
		}}, &service{})
		if _, err := client.UnaryCall(within(t), &testpb.SimpleRequest{}); err != nil {
			t.Fatal(err)
		}
		if got := await(t, store, 1)[0].OperationID; got != unaryCall+"+"+unaryCall {
			t.Errorf("%s: %q", mode, got)
		}
	}
}

// codeTable is the one in the package's description.
var codeTable = map[codes.Code]int{
	codes.OK: 200, codes.Canceled: 499, codes.Unknown: 500, codes.InvalidArgument: 400, codes.DeadlineExceeded: 504, codes.NotFound: 404,
	codes.AlreadyExists: 409, codes.PermissionDenied: 403, codes.ResourceExhausted: 429, codes.FailedPrecondition: 400, codes.Aborted: 409,
	codes.OutOfRange: 400, codes.Unimplemented: 501, codes.Internal: 500, codes.Unavailable: 503, codes.DataLoss: 500, codes.Unauthenticated: 401,
	99: 500,
}

func TestEveryCodeHasAStatus(t *testing.T) {
	for mode, onFailure := range modes {
		store := newStore(t)
		var code codes.Code
		client := serve(t, store, auditgrpc.Config{OnFailure: onFailure}, &service{unary: func(context.Context) error { return status.Error(code, "") }})
		for code = range codeTable {
			if _, err := client.UnaryCall(within(t), &testpb.SimpleRequest{}); status.Code(err) != code {
				t.Fatalf("%s: the client got %v, want %v", mode, err, code)
			}
			entries, _, err := store.List(t.Context(), 1, 0)
			if err != nil || entries[0].ResponseCode != codeTable[code] || auditgrpc.HTTPStatus(code) != codeTable[code] {
				t.Errorf("%s: %v is recorded as %+v, %v", mode, code, entries, err)
			}
		}
	}
}

func TestErrorsWithoutACode(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		code codes.Code
	}{
		"plain":    {errors.New("plain"), codes.Unknown},
		"wrapped":  {fmt.Errorf("wrapped: %w", status.Error(codes.NotFound, "")), codes.NotFound},
		"canceled": {fmt.Errorf("wrapped: %w", context.Canceled), codes.Canceled},
		"deadline": {context.DeadlineExceeded, codes.DeadlineExceeded},
	} {
		store := newStore(t)
		client := serve(t, store, auditgrpc.Config{}, &service{unary: func(context.Context) error { return test.err }})
		if _, err := client.UnaryCall(within(t), &testpb.SimpleRequest{}); status.Code(err) != test.code {
			t.Errorf("%s: the client got %v", name, err)
		}
		if got := await(t, store, 1)[0].ResponseCode; got != codeTable[test.code] {
			t.Errorf("%s: recorded %d", name, got)
		}
	}
}

func TestStreamsOfEveryKind(t *testing.T) {
	const n = 3
	for mode, onFailure := range modes {
		t.Run(mode, func(t *testing.T) {
			store := newStore(t)
			conflict := status.Error(codes.AlreadyExists, "late")
			client := serve(t, store, auditgrpc.Config{OnFailure: onFailure}, &service{
				output: func(stream grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
					for range n {
						if err := stream.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
							return err
						}
					}
					return conflict
				},
				input: func(stream grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error {
					for count := int32(0); ; count++ {
						if _, err := stream.Recv(); errors.Is(err, io.EOF) {
							return stream.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: count})
						} else if err != nil {
							return err
						}
					}
				},
				duplex: func(stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
					for {
						if _, err := stream.Recv(); errors.Is(err, io.EOF) {
							return nil
						} else if err != nil {
							return err
						}
						if err := stream.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
							return err
						}
					}
				},
			})
			receiveAll(t, client, n, conflict)
			if got := sendAll(t, client, n); got != n {
				t.Errorf("the handler counted %d", got)
			}
			pingPong(t, client, n)
			want := []string{fullDuplexCall + " 200", clientStream + " 200", serverStream + " 409"}
			if onFailure == auditgrpc.FailClosed { // the entry was written before the first message
				want[2] = serverStream + " 200"
			}
			var got []string
			for _, entry := range await(t, store, len(want)) {
				got = append(got, fmt.Sprint(entry.Path, " ", entry.ResponseCode))
				if entry.Method != auditgrpc.MethodStream {
					t.Errorf("%+v", entry)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func receiveAll(t *testing.T, client testpb.TestServiceClient, n int, want error) {
	t.Helper()
	stream, err := client.StreamingOutputCall(within(t), &testpb.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.Recv(); status.Code(err) != status.Code(want) {
		t.Errorf("the stream ended with %v", err)
	}
}

func sendAll(t *testing.T, client testpb.TestServiceClient, n int) int {
	t.Helper()
	stream, err := client.StreamingInputCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := stream.Send(&testpb.StreamingInputCallRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		t.Fatal(err)
	}
	return int(answer.GetAggregatedPayloadSize())
}

// pingPong waits for each answer before it sends on.
func pingPong(t *testing.T, client testpb.TestServiceClient, n int) {
	t.Helper()
	stream, err := client.FullDuplexCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := stream.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

// recovered are interceptors further out that save the server from panics.
func recovered(values chan<- any) []grpc.ServerOption {
	save := func(err *error) {
		value := recover()
		if *err == nil && value != nil {
			values <- value
			*err = status.Error(codes.Internal, "recovered")
		}
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
			defer save(&err)
			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
			defer save(&err)
			return handler(srv, ss)
		}),
	}
}

func TestPanicsAreRecordedAndGoOn(t *testing.T) {
	for mode, onFailure := range modes {
		t.Run(mode, func(t *testing.T) {
			store := newStore(t)
			values := make(chan any, 2)
			audit := interceptor(t, store, auditgrpc.Config{OnFailure: onFailure})
			server := grpc.NewServer(append(recovered(values), audit.ServerOptions()...)...)
			testpb.RegisterTestServiceServer(server, &service{
				unary: func(context.Context) error { panic("unary") },
				input: func(stream grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error {
					if err := stream.SendMsg(&testpb.StreamingInputCallResponse{}); err != nil {
						return err
					}
					panic("stream")
				},
			})
			client := testpb.NewTestServiceClient(connect(t, listen(t, server)))
			if _, err := client.UnaryCall(within(t), &testpb.SimpleRequest{}); status.Code(err) != codes.Internal {
				t.Errorf("the client got %v", err)
			}
			stream, err := client.StreamingInputCall(within(t))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.CloseAndRecv(); status.Code(err) != codes.Internal {
				t.Errorf("the client got %v", err)
			}
			if got := []any{<-values, <-values}; !reflect.DeepEqual(got, []any{"unary", "stream"}) {
				t.Errorf("recovered %v", got)
			}
			for _, entry := range await(t, store, 2) {
				if entry.ResponseCode != http.StatusInternalServerError {
					t.Errorf("%+v", entry)
				}
			}
		})
	}
}

func TestGoexitIsAPanic(t *testing.T) {
	for mode, onFailure := range modes {
		store := newStore(t)
		audit := interceptor(t, store, auditgrpc.Config{OnFailure: onFailure})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = audit.Unary(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: unaryCall}, func(context.Context, any) (any, error) {
				runtime.Goexit()
				return nil, nil
			})
		}()
		<-done
		if got := await(t, store, 1)[0].ResponseCode; got != http.StatusInternalServerError {
			t.Errorf("%s: recorded %d", mode, got)
		}
	}
}

func TestExclude(t *testing.T) {
	for name, test := range map[string]struct {
		exclude []string
		method  string
		audited bool
	}{
		"health":                   {nil, "/grpc.health.v1.Health/Check", false},
		"reflection":               {nil, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", false},
		"only the same beginning":  {nil, "/grpc.health.v1.HealthAdmin/Check", true},
		"further slashes":          {nil, "/grpc.health.v1.Health/../shop.Orders/Cancel", true},
		"a method":                 {[]string{"shop.Orders/List"}, "/shop.Orders/List", false},
		"another method":           {[]string{"shop.Orders/List"}, "/shop.Orders/ListAll", true},
		"a constant":               {[]string{unaryCall}, unaryCall, false},
		"in place of the default":  {[]string{"shop"}, "/grpc.health.v1.Health/Check", true},
		"nothing":                  {[]string{}, "/grpc.health.v1.Health/Check", true},
		"a package":                {[]string{"shop"}, "/shop.Orders/List", false},
		"a package, by its prefix": {[]string{"shop"}, "/shopping.Orders/List", true},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			audit := interceptor(t, store, auditgrpc.Config{Exclude: test.exclude})
			for _, method := range []string{test.method, "/last.Service/Call"} {
				_, _ = audit.Unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) { return 1, nil })
			}
			want := []string{"/last.Service/Call"}
			if test.audited {
				want = append(want, test.method)
			}
			var got []string
			for _, entry := range await(t, store, len(want)) {
				got = append(got, entry.Path)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// TestHealthAndReflectionAreNotAudited uses the services that grpc-go brings.
func TestHealthAndReflectionAreNotAudited(t *testing.T) {
	store := newStore(t)
	server := grpc.NewServer(interceptor(t, store, auditgrpc.Config{OnFailure: auditgrpc.FailClosed}).ServerOptions()...)
	healthpb.RegisterHealthServer(server, health.NewServer())
	testpb.RegisterTestServiceServer(server, &service{})
	reflection.Register(server)
	conn := connect(t, listen(t, server))
	if _, err := healthpb.NewHealthClient(conn).Check(within(t), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(within(t))
	if err != nil {
		t.Fatal(err)
	}
	request := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if _, err := testpb.NewTestServiceClient(conn).UnaryCall(within(t), &testpb.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := await(t, store, 1)[0].Path; got != unaryCall {
		t.Errorf("audited %s", got)
	}
}

func TestRejections(t *testing.T) {
	for mode, onFailure := range modes {
		for rejections, want := range map[auditgrpc.Rejections][]int{
			auditgrpc.AuditRejections: {404, 403, 401}, auditgrpc.SkipRejections: {404},
		} {
			store := newStore(t)
			var code codes.Code
			client := serve(t, store, auditgrpc.Config{Rejections: rejections, OnFailure: onFailure},
				&service{unary: func(context.Context) error { return status.Error(code, "") }})
			for _, code = range []codes.Code{codes.Unauthenticated, codes.PermissionDenied, codes.NotFound} {
				if _, err := client.UnaryCall(within(t), &testpb.SimpleRequest{}); status.Code(err) != code {
					t.Errorf("the client got %v", err)
				}
			}
			var got []int
			for _, entry := range await(t, store, len(want)) {
				got = append(got, entry.ResponseCode)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, %d: %v, want %v", mode, rejections, got, want)
			}
		}
	}
}

type address string

func (a address) Network() string { return "test" }
func (a address) String() string  { return string(a) }

func TestClientAddress(t *testing.T) {
	store := newStore(t)
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	const proxy = "10.0.0.1:4000"
	tests := []struct {
		name, remote string
		trusted      []netip.Prefix
		header       auditgrpc.ProxyHeader
		values       []string
		want         string
	}{
		{"the connection's", "192.0.2.1:1234", nil, auditgrpc.XForwardedFor, nil, "192.0.2.1"},
		{"nobody is trusted by default", proxy, nil, auditgrpc.XForwardedFor, []string{"192.0.2.1"}, "10.0.0.1"},
		{"a stranger is not believed", "192.0.2.1:1", trusted, auditgrpc.XForwardedFor, []string{"198.51.100.1"}, "192.0.2.1"},
		{"a proxy is", proxy, trusted, auditgrpc.XForwardedFor, []string{"203.0.113.7, 198.51.100.1", "10.9.9.9"}, "198.51.100.1"},
		{"Forwarded", proxy, trusted, auditgrpc.Forwarded, []string{"for=203.0.113.7, for=198.51.100.1;proto=https"}, "198.51.100.1"},
		{"no header", proxy, trusted, auditgrpc.XForwardedFor, nil, "10.0.0.1"},
		{"bufconn", "bufconn", trusted, auditgrpc.XForwardedFor, []string{"198.51.100.1"}, ""},
		{"no address", "", trusted, auditgrpc.XForwardedFor, []string{"198.51.100.1"}, ""},
	}
	for _, test := range tests {
		audit := interceptor(t, store, auditgrpc.Config{TrustedProxies: test.trusted, ProxyHeader: test.header})
		name, other := "x-forwarded-for", "forwarded"
		if test.header == auditgrpc.Forwarded {
			name, other = other, name
		}
		ctx := metadata.NewIncomingContext(t.Context(), metadata.MD{name: test.values, other: {"for=203.0.113.99"}})
		p := &peer.Peer{}
		if test.remote != "" {
			p.Addr = address(test.remote)
		}
		_, _ = audit.Unary(peer.NewContext(ctx, p), nil, &grpc.UnaryServerInfo{FullMethod: unaryCall},
			func(context.Context, any) (any, error) { return 1, nil })
	}
	for i, entry := range await(t, store, len(tests)) {
		if test := tests[len(tests)-1-i]; entry.SourceIP != test.want {
			t.Errorf("%s: %q, want %q", test.name, entry.SourceIP, test.want)
		}
	}
}

// TestAProxyIsBelievedOverTheWire has the client be the proxy.
func TestAProxyIsBelievedOverTheWire(t *testing.T) {
	store := newStore(t)
	client := serve(t, store, auditgrpc.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, &service{})
	ctx := metadata.AppendToOutgoingContext(within(t), "X-Forwarded-For", "203.0.113.7, 198.51.100.1")
	if _, err := client.UnaryCall(ctx, &testpb.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := await(t, store, 1)[0].SourceIP; got != "198.51.100.1" {
		t.Errorf("%q", got)
	}
}

func TestTraceID(t *testing.T) {
	store := newStore(t)
	span := func(ctx context.Context, first byte) context.Context {
		return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{first, 15: 1}, SpanID: trace.SpanID{1}}))
	}
	audit := interceptor(t, store, auditgrpc.Config{})
	for _, test := range []struct{ outer, inner byte }{{}, {outer: 0xab}, {outer: 0xab, inner: 0xcd}} {
		ctx := t.Context()
		if test.outer != 0 {
			ctx = span(ctx, test.outer)
		}
		_, _ = audit.Unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: unaryCall}, func(ctx context.Context, _ any) (any, error) {
			if test.inner != 0 {
				auditgrpc.Observe(span(ctx, test.inner))
			}
			return 1, nil
		})
	}
	var got []string
	for _, entry := range await(t, store, 3) {
		got = append(got, entry.TraceID)
	}
	if want := []string{"cd000000000000000000000000000001", "ab000000000000000000000000000001", ""}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestObserveOutsideOfACall(t *testing.T) {
	auditgrpc.Observe(t.Context())
	auditgrpc.Observe(nil) //nolint:staticcheck // a nil context is what this is about
}

func TestLongValuesAreCut(t *testing.T) {
	store := newStore(t)
	long := strings.Repeat("é", 300<<10)
	audit := interceptor(t, store, auditgrpc.Config{
		User:  func(context.Context) string { return long },
		Roles: func(context.Context) []string { return slices.Repeat([]string{long}, 1000) },
	})
	_, _ = audit.Unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/" + strings.Repeat("\x01", 1<<20)},
		func(context.Context, any) (any, error) { return 1, nil })
	got := await(t, store, 1)[0]
	for name, value := range map[string]string{"user": got.User, "role": got.Roles[0], "operation": got.OperationID, "path": got.Path} {
		if !strings.HasSuffix(value, "…") || len(value) > 4<<10 || strings.ContainsRune(value, '\uFFFD') {
			t.Errorf("%s has %d bytes", name, len(value))
		}
	}
	if len(got.Roles) != 128 {
		t.Errorf("%d roles", len(got.Roles))
	}
}
