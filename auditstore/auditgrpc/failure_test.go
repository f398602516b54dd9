package auditgrpc_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/auditgrpc"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

func TestFailOpenAnswersAndReports(t *testing.T) {
	store := newStore(t)
	var reported failures
	client := serve(t, failing(store), auditgrpc.Config{OnError: reported.add}, &service{unaryAnswers: "hi"})
	if got, err := client.UnaryCall(within(t), &testpb.SimpleRequest{}); err != nil || got.GetUsername() != "hi" {
		t.Errorf("the client got %v, %v", got, err)
	}
	errs, entries := reported.all()
	if len(errs) != 1 || !errors.Is(errs[0], errFault) || entries[0].ResponseCode != http.StatusOK {
		t.Fatalf("%v, %+v", errs, entries)
	}
	// What was reported can be written later.
	if err := store.Write(t.Context(), entries[0]); err != nil {
		t.Fatal(err)
	}
	if got := await(t, store, 1)[0]; got.ID != entries[0].ID {
		t.Errorf("%+v", got)
	}
}

func TestFailuresAreLoggedByDefault(t *testing.T) {
	var logged bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	_, _ = interceptor(t, failing(nil), auditgrpc.Config{}).Unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: unaryCall},
		func(context.Context, any) (any, error) { return 1, nil })
	if !strings.Contains(logged.String(), errFault.Error()) {
		t.Errorf("logged %q", logged.String())
	}
}

const secret = "the secret"

// leak puts the secret wherever a handler can.
func leak(t *testing.T, ctx context.Context) { //nolint:revive // as helpers go: t first
	t.Helper()
	if err := errors.Join(grpc.SetHeader(ctx, metadata.Pairs("x-secret", secret)), grpc.SetTrailer(ctx, metadata.Pairs("x-secret", secret))); err != nil {
		t.Error(err)
	}
}

func withheld(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, auditgrpc.ErrWithheld) {
		t.Errorf("the handler got %v", err)
	}
}

// secretive is a service whose every kind of handler answers with a secret, or tries to.
func secretive(t *testing.T) *service {
	t.Helper()
	message := &testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: []byte(secret)}}
	return &service{
		unaryAnswers: secret,
		unary: func(ctx context.Context) error {
			leak(t, ctx)
			if err := grpc.SendHeader(ctx, metadata.Pairs("x-secret", secret)); err != nil {
				t.Error(err)
			}
			return nil
		},
		output: func(stream grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
			leak(t, stream.Context())
			stream.SetTrailer(metadata.Pairs("x-secret", secret))
			withheld(t, stream.Send(message))
			withheld(t, stream.Send(message))
			withheld(t, stream.SetHeader(metadata.Pairs("x-secret", secret)))
			withheld(t, grpc.SetTrailer(stream.Context(), metadata.Pairs("x-secret", secret)))
			return errors.New(secret)
		},
		input: func(stream grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error {
			leak(t, stream.Context())
			return stream.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: 42})
		},
		duplex: func(stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
			leak(t, stream.Context())
			withheld(t, stream.SendHeader(metadata.Pairs("x-secret", secret)))
			withheld(t, grpc.SendHeader(stream.Context(), metadata.Pairs("x-secret", secret)))
			return nil
		},
	}
}

// ending is what a client has of a call.
type ending struct {
	err             error
	header, trailer metadata.MD
}

func endingOf(err error, stream grpc.ClientStream) ending {
	header, _ := stream.Header()
	return ending{err, header, stream.Trailer()}
}

// callEach calls every kind of method and returns what each ends with.
func callEach(t *testing.T, client testpb.TestServiceClient) map[string]ending {
	t.Helper()
	ends := map[string]ending{}
	var unary ending
	_, unary.err = client.UnaryCall(within(t), &testpb.SimpleRequest{}, grpc.Header(&unary.header), grpc.Trailer(&unary.trailer))
	ends[unaryCall] = unary
	output, err := client.StreamingOutputCall(within(t), &testpb.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = output.Recv()
	ends[serverStream] = endingOf(err, output)
	input, err := client.StreamingInputCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = input.CloseAndRecv()
	ends[clientStream] = endingOf(err, input)
	duplex, err := client.FullDuplexCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = duplex.Recv()
	ends[fullDuplexCall] = endingOf(err, duplex)
	return ends
}

func TestFailClosedGivesNothingAway(t *testing.T) {
	var reported failures
	client := serve(t, failing(nil), auditgrpc.Config{OnFailure: auditgrpc.FailClosed, OnError: reported.add}, secretive(t))
	ends := callEach(t, client)
	for method, end := range ends {
		if status.Code(end.err) != codes.Unavailable || strings.Contains(end.err.Error(), secret) {
			t.Errorf("%s: the client got %v", method, end.err)
		}
		if len(end.header.Get("x-secret")) > 0 || len(end.trailer.Get("x-secret")) > 0 {
			t.Errorf("%s: the client got header %v, trailer %v", method, end.header, end.trailer)
		}
	}
	if errs, _ := reported.all(); len(errs) != len(ends) || !errors.Is(errs[0], errFault) {
		t.Errorf("reported %v", errs)
	}
}

// TestFailClosedAnswersAsTheHandlerMeantIt compares with a server that does not audit.
func TestFailClosedAnswersAsTheHandlerMeantIt(t *testing.T) {
	pairs := func(value string) metadata.MD { return metadata.Pairs("x-told", value) }
	told := &service{
		unary: func(ctx context.Context) error {
			for _, err := range []error{grpc.SetHeader(ctx, pairs("1")), grpc.SendHeader(ctx, pairs("2")), grpc.SetTrailer(ctx, pairs("3"))} {
				if err != nil {
					t.Error(err)
				}
			}
			if grpc.SetHeader(ctx, pairs("late")) == nil || grpc.SendHeader(ctx, pairs("late")) == nil {
				t.Error("a header after the header")
			}
			return nil
		},
		output: func(stream grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
			if err := stream.SetHeader(pairs("1")); err != nil {
				t.Error(err)
			}
			if err := stream.SendHeader(pairs("2")); err != nil {
				t.Error(err)
			}
			stream.SetTrailer(pairs("3"))
			return stream.Send(&testpb.StreamingOutputCallResponse{})
		},
	}
	plain := grpc.NewServer()
	testpb.RegisterTestServiceServer(plain, told)
	for name, client := range map[string]testpb.TestServiceClient{
		"plain":  testpb.NewTestServiceClient(connect(t, listen(t, plain))),
		"closed": serve(t, newStore(t), auditgrpc.Config{OnFailure: auditgrpc.FailClosed}, told),
	} {
		var header, trailer metadata.MD
		if _, err := client.UnaryCall(within(t), &testpb.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
			t.Fatal(err)
		}
		check := func(method string) {
			t.Helper()
			if h, tr := strings.Join(header["x-told"], " "), strings.Join(trailer["x-told"], " "); h != "1 2" || tr != "3" {
				t.Errorf("%s: %s: header %q, trailer %q", name, method, h, tr)
			}
		}
		check(unaryCall)
		stream, err := client.StreamingOutputCall(within(t), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if header, err = stream.Header(); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = stream.Recv()
		}
		trailer = stream.Trailer()
		check(serverStream)
	}
}

// TestARetryPolicyDoesNotRepeatWhatWasWithheld has a client that repeats what is Unavailable.
func TestARetryPolicyDoesNotRepeatWhatWasWithheld(t *testing.T) {
	const policy = `{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.001s",
		"maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`
	for name, test := range map[string]struct {
		store auditgrpc.Writer
		fails bool
		runs  int64
	}{
		"of the service":    {newStore(t), true, 4},
		"of the trail":      {failing(nil), false, 1},
		"of both":           {failing(nil), true, 1},
		"none, it answered": {newStore(t), false, 1},
	} {
		var runs atomic.Int64
		audit := interceptor(t, test.store, auditgrpc.Config{OnFailure: auditgrpc.FailClosed, OnError: (&failures{}).add})
		conn := connect(t, start(t, audit, &service{unary: func(context.Context) error {
			runs.Add(1)
			if test.fails {
				return status.Error(codes.Unavailable, "busy")
			}
			return nil
		}}), grpc.WithDefaultServiceConfig(policy))
		_, _ = testpb.NewTestServiceClient(conn).UnaryCall(within(t), &testpb.SimpleRequest{})
		if runs.Load() != test.runs {
			t.Errorf("%s: the handler ran %d times, want %d", name, runs.Load(), test.runs)
		}
	}
}

func TestFailClosedPanicsGoOn(t *testing.T) {
	audit := interceptor(t, failing(nil), auditgrpc.Config{OnFailure: auditgrpc.FailClosed, OnError: (&failures{}).add})
	defer func() {
		if value := recover(); value != "on purpose" {
			t.Errorf("recovered %v", value)
		}
	}()
	_, _ = audit.Unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: unaryCall}, func(context.Context, any) (any, error) { panic("on purpose") })
}

func TestTheEntryOutlivesTheClient(t *testing.T) {
	for mode, onFailure := range modes {
		t.Run(mode, func(t *testing.T) {
			store := newStore(t)
			arrived := make(chan struct{}, 2)
			gone := func(ctx context.Context) error {
				arrived <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			}
			client := serve(t, store, auditgrpc.Config{OnFailure: onFailure}, &service{
				unary: gone,
				duplex: func(stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
					return gone(stream.Context())
				},
			})
			ctx, cancel := context.WithCancel(within(t))
			if _, err := client.FullDuplexCall(ctx); err != nil {
				t.Fatal(err)
			}
			go func() { <-arrived; <-arrived; cancel() }()
			if _, err := client.UnaryCall(ctx, &testpb.SimpleRequest{}); status.Code(err) != codes.Canceled {
				t.Errorf("the client got %v", err)
			}
			for _, entry := range await(t, store, 2) {
				if entry.ResponseCode != 499 {
					t.Errorf("%+v", entry)
				}
			}
		})
	}
}

func TestTheWriteHasADeadline(t *testing.T) {
	for mode, want := range map[auditgrpc.FailureMode]codes.Code{auditgrpc.FailOpen: codes.OK, auditgrpc.FailClosed: codes.Unavailable} {
		var reported failures
		hanging := &faulty{nil, func(ctx context.Context, _ auditstore.Entry) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-t.Context().Done():
				return errFault
			}
		}}
		client := serve(t, hanging, auditgrpc.Config{OnFailure: mode, OnError: reported.add, WriteTimeout: time.Millisecond}, &service{})
		if _, err := client.UnaryCall(within(t), &testpb.SimpleRequest{}); status.Code(err) != want {
			t.Errorf("%d: the client got %v", mode, err)
		}
		if errs, _ := reported.all(); len(errs) != 1 || !errors.Is(errs[0], context.DeadlineExceeded) {
			t.Errorf("%d: reported %v", mode, errs)
		}
	}
}

func TestPanicsOfTheServicesFunctions(t *testing.T) {
	for mode, onFailure := range modes {
		t.Run(mode, func(t *testing.T) {
			store := newStore(t)
			var reported failures
			client := serve(t, store, auditgrpc.Config{
				OnFailure:   onFailure,
				User:        func(context.Context) string { panic("no user") },
				Roles:       func(context.Context) []string { panic("no roles") },
				OperationID: func(context.Context, string) string { return "op" },
				OnError: func(ctx context.Context, entry auditstore.Entry, err error) {
					reported.add(ctx, entry, err)
					panic("no report")
				},
			}, &service{})
			if _, err := client.UnaryCall(within(t), &testpb.SimpleRequest{}); err != nil {
				t.Errorf("the client got %v", err)
			}
			if got := await(t, store, 1)[0]; got.User != "" || got.OperationID != "op" {
				t.Errorf("%+v", got)
			}
			errs, _ := reported.all()
			var panicked *auditgrpc.PanicError
			if len(errs) != 2 || !errors.As(errs[0], &panicked) || panicked.Func != "User" || panicked.Value != "no user" || len(panicked.Stack) == 0 {
				t.Errorf("reported %v", errs)
			}
		})
	}
}

// TestAPanicOfTheStoreLeavesTheHandlersAlone has both panic at once.
func TestAPanicOfTheStoreLeavesTheHandlersAlone(t *testing.T) {
	var reported failures
	broken := &faulty{nil, func(context.Context, auditstore.Entry) error { panic("the store's") }}
	audit := interceptor(t, broken, auditgrpc.Config{OnError: reported.add})
	defer func() {
		if value := recover(); value != "the handler's" {
			t.Errorf("recovered %v", value)
		}
		var panicked *auditgrpc.PanicError
		if errs, _ := reported.all(); len(errs) != 1 || !errors.As(errs[0], &panicked) || panicked.Func != "Write" {
			t.Errorf("reported %v", errs)
		}
	}()
	_, _ = audit.Unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: unaryCall}, func(context.Context, any) (any, error) { panic("the handler's") })
}

// TestFailClosedWithTheServerGone stops a real nats-server between two calls.
func TestFailClosedWithTheServerGone(t *testing.T) {
	server := natstest.Run(t)
	cfg := jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}, AllowDirect: true}
	if _, err := server.JetStream().CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	store, err := auditstore.New(t.Context(), server.JetStream(), auditstore.Config{Stream: "AUDIT", Subject: "audit"})
	if err != nil {
		t.Fatal(err)
	}
	var reported failures
	closed := auditgrpc.Config{OnFailure: auditgrpc.FailClosed, OnError: reported.add}
	client := serve(t, store, closed, &service{unaryAnswers: "hi"})
	if _, err := client.UnaryCall(within(t), &testpb.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	closed.WriteTimeout = time.Second
	if got, err := serve(t, store, closed, &service{unaryAnswers: "hi"}).UnaryCall(within(t), &testpb.SimpleRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("the client got %v, %v", got, err)
	}
	if errs, _ := reported.all(); len(errs) != 1 || !errors.Is(errs[0], auditstore.ErrNotReady) {
		t.Errorf("reported %v", errs)
	}
	server.Restart()
	eventually(t, "the service's recovery", func() bool {
		got, err := client.UnaryCall(within(t), &testpb.SimpleRequest{})
		return err == nil && got.GetUsername() == "hi"
	})
}

// TestAResponseThatCannotBeSent has a held response that the server refuses. What is further out has to know.
func TestAResponseThatCannotBeSent(t *testing.T) {
	outer := make(chan error, 1)
	client := serve(t, newStore(t), auditgrpc.Config{OnFailure: auditgrpc.FailClosed}, &service{
		input: func(stream grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error {
			return stream.SendMsg(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: 1})
		},
	}, grpc.MaxSendMsgSize(1), grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		err := handler(srv, ss)
		outer <- err
		return err
	}))
	stream, err := client.StreamingInputCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CloseAndRecv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the client got %v", err)
	}
	if err := <-outer; status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the interceptor further out got %v", err)
	}
}
