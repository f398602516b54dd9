package auditgrpc

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/internal/attribute"
	"github.com/osapi-io/auditstream-operator/auditstore/internal/clientip"
)

// Writer is what the interceptors need of a store. Every auditstore.Store is a Writer.
type Writer interface {
	// Write stores the entry, or returns an error.
	Write(ctx context.Context, entry auditstore.Entry) error
}

// Interceptor audits the calls of a gRPC server. New makes it; it is safe for concurrent use, also by several servers.
type Interceptor struct {
	store Writer
	cfg   Config
}

var (
	_ grpc.UnaryServerInterceptor  = (*Interceptor)(nil).Unary
	_ grpc.StreamServerInterceptor = (*Interceptor)(nil).Stream
)

// New returns the interceptors that write an entry to the store for each call. It returns ErrInvalidConfig where the store is
// nil or Config cannot be right.
func New(store Writer, cfg Config) (*Interceptor, error) {
	if store == nil {
		return nil, invalid("the store is nil")
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	cfg.TrustedProxies, cfg.Exclude = slices.Clone(cfg.TrustedProxies), slices.Clone(cfg.Exclude)
	for i, name := range cfg.Exclude {
		cfg.Exclude[i] = strings.TrimPrefix(name, "/")
	}
	return &Interceptor{store: store, cfg: cfg}, nil
}

// ServerOptions are the options of grpc.NewServer that have every call audited, unary or not. Interceptors of options that come
// later are further in.
func (i *Interceptor) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(i.Unary), grpc.ChainStreamInterceptor(i.Stream)}
}

// Observe makes the interceptor around the handler give ctx to Config's functions, with all that authentication has put into it, and
// take the trace from it. It does nothing where the call is not audited.
func Observe(ctx context.Context) {
	if ctx == nil {
		return
	}
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.observed.Store(&ctx)
	}
}

type callKey struct{}

// call is one call and its answer.
type call struct {
	*Interceptor
	start      time.Time
	fullMethod string
	entry      auditstore.Entry // what is known before the handler runs
	ctx        context.Context  // what the handler gets
	observed   atomic.Pointer[context.Context]
	hold       *hold // nil with FailOpen
}

// Unary is the interceptor of calls with one request and one response, a grpc.UnaryServerInterceptor.
func (i *Interceptor) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	if i == nil || i.store == nil {
		return nil, errNotNew
	}
	if i.excluded(info.FullMethod) {
		return handler(ctx, req)
	}
	c := i.begin(ctx, info.FullMethod, MethodUnary)
	if i.cfg.OnFailure == FailClosed {
		c.holdBack(grpc.ServerTransportStreamFromContext(ctx), true)
	}
	returned := false
	// Without recover a panic goes on by itself and keeps its stack.
	defer func() { c.ended(returned) }()
	resp, err = handler(c.ctx, req)
	returned = true
	if withheld := c.answered(err); withheld != nil {
		return nil, withheld
	}
	return resp, err
}

// Stream is the interceptor of all other calls, a grpc.StreamServerInterceptor.
func (i *Interceptor) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if i == nil || i.store == nil {
		return errNotNew
	}
	if i.excluded(info.FullMethod) {
		return handler(srv, ss)
	}
	c := i.begin(ss.Context(), info.FullMethod, MethodStream)
	returned := false
	defer func() { c.ended(returned) }()
	if i.cfg.OnFailure == FailOpen {
		err := handler(srv, &stream{ss, c})
		returned = true
		_ = c.answered(err)
		return err
	}
	c.holdBack(streamMetadata{ss, info.FullMethod}, false)
	held := &heldStream{stream: stream{ss, c}, single: !info.IsServerStream}
	err := handler(srv, held)
	returned = true
	if withheld := c.answered(err); withheld != nil {
		return withheld
	}
	if err != nil {
		return err
	}
	return held.sendHeld()
}

var errNotNew = status.Error(codes.Internal, "auditgrpc: the interceptor was not made by New")

func (i *Interceptor) begin(ctx context.Context, fullMethod, method string) *call {
	c := &call{Interceptor: i, start: time.Now(), fullMethod: fullMethod}
	c.entry = auditstore.Entry{
		Timestamp: c.start.UTC(), Method: method, Path: attribute.Cut(fullMethod, attribute.MaxValue), SourceIP: i.clientAddress(ctx),
	}
	c.ctx = context.WithValue(ctx, callKey{}, c)
	return c
}

// answered writes the entry of a handler that has returned. Its error is what the client gets in place of the answer.
func (c *call) answered(err error) error {
	if c.hold != nil {
		return c.hold.release(codeOf(err))
	}
	_ = c.record(codeOf(err))
	return nil
}

// ended writes the entry of a handler that has not returned: it panicked, and the client gets no answer of its.
func (c *call) ended(returned bool) {
	switch {
	case returned:
	case c.hold != nil:
		c.hold.abandon()
	default:
		_ = c.record(codes.Internal)
	}
}

// excluded says whether the method is one of Config.Exclude or below it.
func (i *Interceptor) excluded(fullMethod string) bool {
	name := strings.TrimPrefix(fullMethod, "/")
	// A handler of unknown services, such as a proxy, may read what has more slashes in another way.
	if strings.Count(name, "/") != 1 {
		return false
	}
	return slices.ContainsFunc(i.cfg.Exclude, func(prefix string) bool {
		rest, found := strings.CutPrefix(name, prefix)
		return found && (rest == "" || rest[0] == '/' || rest[0] == '.')
	})
}

// clientAddress is the address of the connection, or, where that is a trusted proxy's, what the trusted proxies say.
func (i *Interceptor) clientAddress(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	hops := clientip.XForwardedFor(metadata.ValueFromIncomingContext(ctx, "x-forwarded-for"))
	if i.cfg.ProxyHeader == Forwarded {
		hops = clientip.Forwarded(metadata.ValueFromIncomingContext(ctx, "forwarded"))
	}
	return clientip.Find(p.Addr.String(), i.cfg.TrustedProxies, hops)
}
