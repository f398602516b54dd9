package otlptest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlptrace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Span is a span that has arrived, with the resource that sent it.
type Span struct {
	*otlptrace.Span
	Resource map[string]string
}

// Attributes are the span's attributes as text.
func (s Span) Attributes() map[string]string { return texts(s.Span.Attributes) }

// Receiver is a running receiver. It is safe for concurrent use.
type Receiver struct {
	collector.UnimplementedTraceServiceServer
	// GRPC and HTTP are the URLs to send to.
	GRPC, HTTP string

	mu       sync.Mutex
	spans    []Span
	headers  []http.Header
	requests int
}

// Start starts a receiver on free ports, which the test's end stops.
func Start(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{}
	grpcListener, httpListener := listen(t), listen(t)
	r.GRPC, r.HTTP = "http://"+grpcListener.Addr().String(), "http://"+httpListener.Addr().String()

	grpcServer := grpc.NewServer()
	collector.RegisterTraceServiceServer(grpcServer, r)
	httpServer := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	var servers sync.WaitGroup
	servers.Go(func() { _ = grpcServer.Serve(grpcListener) })
	servers.Go(func() { _ = httpServer.Serve(httpListener) })
	t.Cleanup(func() {
		grpcServer.Stop()
		_ = httpServer.Close()
		servers.Wait()
	})
	return r
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// Export implements the gRPC service.
func (r *Receiver) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.take(request, nil)
	return &collector.ExportTraceServiceResponse{}, nil
}

// ServeHTTP implements the HTTP service at /v1/traces.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	message := &collector.ExportTraceServiceRequest{}
	if err = errors.Join(err, proto.Unmarshal(body, message)); err != nil || request.URL.Path != "/v1/traces" {
		http.Error(w, "not a request for traces", http.StatusBadRequest)
		return
	}
	r.take(message, request.Header)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (r *Receiver) take(request *collector.ExportTraceServiceRequest, header http.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	r.headers = append(r.headers, header)
	for _, resource := range request.GetResourceSpans() {
		of := texts(resource.GetResource().GetAttributes())
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				r.spans = append(r.spans, Span{Span: span, Resource: of})
			}
		}
	}
}

// Spans are the spans that have arrived so far.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// Headers are the headers of the HTTP requests so far.
func (r *Receiver) Headers() []http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.headers)
}

// Requests is how many requests have arrived.
func (r *Receiver) Requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

func texts(attributes []*common.KeyValue) map[string]string {
	m := make(map[string]string, len(attributes))
	for _, a := range attributes {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			m[a.GetKey()] = v.StringValue
		default:
			m[a.GetKey()] = a.GetValue().String()
		}
	}
	return m
}
