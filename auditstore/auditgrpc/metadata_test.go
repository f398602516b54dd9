package auditgrpc_test

import (
	"context"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/auditgrpc"
)

// statusSink is a store that keeps nothing but the status.
type statusSink chan int

func (s statusSink) Write(_ context.Context, entry auditstore.Entry) error {
	s <- entry.ResponseCode
	return nil
}

// TestMetadataThatCannotBeSent has handlers set it, and go on or not: gRPC tells them at once, and so does a stream that is held back.
func TestMetadataThatCannotBeSent(t *testing.T) {
	for name, md := range map[string]metadata.MD{
		"good":               {"x-user": {"Zoe"}, "x_y.z-0": {" ~"}},
		"binary":             {"x-user-bin": {"Zo\xc3\xab"}},
		"nothing":            {},
		"reserved":           {":x": {"a"}},
		"not ASCII":          {"x-user": {"Zoë"}},
		"a control":          {"x-user": {"a\tb"}},
		"the second one":     {"x-user": {"a", "\x7f"}},
		"no key":             {"": {"a"}},
		"an upper-case key":  {"X-User": {"a"}},
		"a space in the key": {"x user": {"a"}},
	} {
		for what, set := range map[string]func(grpc.ServerStream) error{
			"SetHeader":  func(stream grpc.ServerStream) error { return stream.SetHeader(md) },
			"SendHeader": func(stream grpc.ServerStream) error { return stream.SendHeader(md) },
		} {
			for _, goesOn := range []bool{true, false} {
				got := map[string]outcome{}
				for mode, onFailure := range modes {
					got[mode] = outcomeOf(t, onFailure, goesOn, set)
				}
				if got["open"] != got["closed"] {
					t.Errorf("%s: %s (goes on: %t): %+v", name, what, goesOn, got)
				}
				if open := got["open"]; open.entry != auditgrpc.HTTPStatus(open.client) {
					t.Errorf("%s: %s (goes on: %t): the client got %v, recorded %d", name, what, goesOn, open.client, open.entry)
				}
			}
		}
	}
}

// outcome is what the handler and the client got, what the client saw of the metadata beside it, and what was recorded.
type outcome struct {
	handler, client codes.Code
	beside          string
	entry           int
}

func outcomeOf(t *testing.T, mode auditgrpc.FailureMode, goesOn bool, set func(grpc.ServerStream) error) outcome {
	t.Helper()
	recorded, handled := make(statusSink, 1), make(chan error, 1)
	client := serve(t, recorded, auditgrpc.Config{OnFailure: mode}, &service{
		output: func(stream grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
			if err := stream.SetHeader(metadata.Pairs("x-beside", "1")); err != nil {
				t.Error(err)
			}
			err := set(stream)
			handled <- err
			if err != nil && !goesOn {
				return err
			}
			return stream.Send(&testpb.StreamingOutputCallResponse{})
		},
	})
	stream, err := client.StreamingOutputCall(within(t), &testpb.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	header, _ := stream.Header()
	beside := ""
	if values := header.Get("x-beside"); len(values) > 0 {
		beside = values[0]
	}
	return outcome{status.Code(<-handled), status.Code(err), beside, <-recorded}
}

// TestMetadataThatComesTooLate has an interceptor further out send the header first. The handler's is lost, and its answer is not.
func TestMetadataThatComesTooLate(t *testing.T) {
	for mode, onFailure := range modes {
		recorded := make(statusSink, 1)
		audit := interceptor(t, recorded, auditgrpc.Config{OnFailure: onFailure})
		server := grpc.NewServer(grpc.ChainStreamInterceptor(
			func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				if err := ss.SendHeader(nil); err != nil {
					t.Error(err)
				}
				return handler(srv, ss)
			}, audit.Stream))
		testpb.RegisterTestServiceServer(server, &service{
			output: func(stream grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
				_ = stream.SetHeader(metadata.Pairs("x-late", "1"))
				return stream.Send(&testpb.StreamingOutputCallResponse{})
			},
		})
		client := testpb.NewTestServiceClient(connect(t, listen(t, server)))
		stream, err := client.StreamingOutputCall(within(t), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Errorf("%s: the client got %v", mode, err)
		}
		if got := <-recorded; got != http.StatusOK {
			t.Errorf("%s: recorded %d", mode, got)
		}
	}
}
