package auditgrpc_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/auditgrpc"
)

// watched is a server's stream that says whether anything was sent.
type watched struct {
	grpc.ServerStream
	sent *atomic.Bool
}

func (w watched) SendMsg(m any) error {
	w.sent.Store(true)
	return w.ServerStream.SendMsg(m)
}

func (w watched) SendHeader(md metadata.MD) error {
	w.sent.Store(true)
	return w.ServerStream.SendHeader(md)
}

// TestFailClosedWritesBeforeTheFirstMessage looks at the server's stream while the entry is being written.
func TestFailClosedWritesBeforeTheFirstMessage(t *testing.T) {
	for name, first := range map[string]func(grpc.ServerStream) error{
		"SendMsg":    func(stream grpc.ServerStream) error { return stream.SendMsg(&testpb.StreamingOutputCallResponse{}) },
		"SendHeader": func(stream grpc.ServerStream) error { return stream.SendHeader(metadata.Pairs("x-told", "1")) },
	} {
		var sent atomic.Bool
		entries := make(chan auditstore.Entry, 1)
		looking := &faulty{newStore(t), func(_ context.Context, entry auditstore.Entry) error {
			if sent.Load() {
				t.Errorf("%s: something was sent before the entry was written", name)
			}
			entries <- entry
			return nil
		}}
		audit := interceptor(t, looking, auditgrpc.Config{OnFailure: auditgrpc.FailClosed})
		server := grpc.NewServer(grpc.ChainStreamInterceptor(
			func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				return handler(srv, watched{ss, &sent})
			}, audit.Stream))
		testpb.RegisterTestServiceServer(server, &service{
			output: func(stream grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
				if err := first(stream); err != nil {
					return err
				}
				return stream.Send(&testpb.StreamingOutputCallResponse{})
			},
		})
		client := testpb.NewTestServiceClient(connect(t, listen(t, server)))
		stream, err := client.StreamingOutputCall(within(t), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil || !sent.Load() {
			t.Errorf("%s: the client got %v, and something was sent is %t", name, err, sent.Load())
		}
		if entry := <-entries; entry.Path != serverStream || entry.ResponseCode != http.StatusOK {
			t.Errorf("%s: wrote %+v", name, entry)
		}
	}
}
