package auditgrpc

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// pushback is the trailer that tells a client's retry policy not to repeat the call, whose handler has run.
const pushback = "grpc-retry-pushback-ms"

var errHeaderSent = status.Error(codes.Internal, "auditgrpc: the handler has already sent the header")

// hold is an answer that waits for its entry. The handler finds it in its context in place of the transport stream, so that the
// metadata which it sets is held back too.
type hold struct {
	inner  grpc.ServerTransportStream // nil outside of a server
	method string
	unary  bool // whether the header can wait for the handler's return
	record func(code codes.Code) error

	once            sync.Once
	mu              sync.Mutex // guards what follows
	header, trailer metadata.MD
	headerSent      bool
	done            bool
	err             error
}

func (c *call) holdBack(inner grpc.ServerTransportStream, unary bool) {
	c.hold = &hold{inner: inner, method: c.fullMethod, unary: unary, record: c.record}
	if inner != nil {
		c.ctx = grpc.NewContextWithServerTransportStream(c.ctx, c.hold)
	}
}

// release writes the entry and lets the answer go, or returns what the client gets in its place. It does nothing, or returns the error
// again, the second time.
func (h *hold) release(code codes.Code) error {
	h.once.Do(func() {
		err := h.record(code)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.done = true
		switch {
		case err != nil:
			h.err = ErrWithheld
			if h.inner != nil {
				_ = h.inner.SetTrailer(metadata.Pairs(pushback, "-1"))
			}
		case h.inner != nil:
			// What the server does not take, since the header is out or the call over, costs the answer no more than it would have
			// cost the handler's.
			_, _ = h.inner.SetHeader(h.header), h.inner.SetTrailer(h.trailer)
		}
	})
	return h.err
}

// abandon writes the entry of a call that is not answered.
func (h *hold) abandon() { h.once.Do(func() { _ = h.record(codes.Internal) }) }

func (h *hold) released() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.done
}

// Method is the full method.
func (h *hold) Method() string { return h.method }

// SetHeader adds to the header, or to what is held back of it. What the server's stream would refuse is refused now: later the
// handler cannot be told.
func (h *hold) SetHeader(md metadata.MD) error {
	if err := h.sendable(md); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.err != nil:
		return h.err
	case h.done:
		return h.inner.SetHeader(md)
	case h.headerSent:
		return errHeaderSent
	}
	h.header = metadata.Join(h.header, md)
	return nil
}

// SendHeader sends the header, which needs the entry. The header of a unary call waits for the handler: it says nothing before the
// response does.
func (h *hold) SendHeader(md metadata.MD) error {
	if h.unary && !h.released() {
		err := h.SetHeader(md)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.headerSent = true
		return err
	}
	if err := h.sendable(md); err != nil {
		return err // nothing is sent, and the handler may yet answer with an error
	}
	if err := h.release(codes.OK); err != nil {
		return err
	}
	return h.inner.SendHeader(md)
}

// SetTrailer adds to the trailer, or to what is held back of it.
func (h *hold) SetTrailer(md metadata.MD) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.err != nil:
		return h.err
	case h.done:
		return h.inner.SetTrailer(md)
	}
	h.trailer = metadata.Join(h.trailer, md)
	return nil
}

// stream is what a handler gets in place of the server's stream: it has the call's context.
type stream struct {
	grpc.ServerStream
	call *call
}

// Context is the server's, and leads Observe to the call.
func (s *stream) Context() context.Context { return s.call.ctx }

// heldStream writes the entry before anything is sent.
type heldStream struct {
	stream
	single bool // whether the answer is one message, which can wait for the handler's return
	held   []any
}

// SendMsg writes the entry and sends the message, or holds it back.
func (s *heldStream) SendMsg(m any) error {
	if s.single && !s.call.hold.released() {
		s.held = append(s.held, m)
		return nil
	}
	if err := s.call.hold.release(codes.OK); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}

func (s *heldStream) sendHeld() error {
	for _, m := range s.held {
		if err := s.ServerStream.SendMsg(m); err != nil {
			return err
		}
	}
	return nil
}

// SetHeader is the held answer's.
func (s *heldStream) SetHeader(md metadata.MD) error { return s.call.hold.SetHeader(md) }

// SendHeader is the held answer's.
func (s *heldStream) SendHeader(md metadata.MD) error { return s.call.hold.SendHeader(md) }

// SetTrailer is the held answer's.
func (s *heldStream) SetTrailer(md metadata.MD) { _ = s.call.hold.SetTrailer(md) }
