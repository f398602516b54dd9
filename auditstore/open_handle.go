package auditstore

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// session is a connection and what hangs on it.
type session struct {
	nc *nats.Conn
	js jetstream.JetStream

	ended bool // guarded by the link

	mu     sync.Mutex
	stream jetstream.Stream
}

func newSession(nc *nats.Conn, domain string) (*session, error) {
	s := &session{nc: nc}
	var err error
	if domain == "" {
		s.js, err = jetstream.New(nc)
	} else {
		s.js, err = jetstream.NewWithDomain(nc, domain)
	}
	return s, err
}

// handle is the stream on this connection. It is asked for once.
func (s *session) handle(ctx context.Context, name string) (jetstream.Stream, error) {
	s.mu.Lock()
	stream := s.stream
	s.mu.Unlock()
	if stream != nil {
		return stream, nil
	}
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream = stream
	return stream, nil
}

// linkedHandle is the JetStream handle of a store that Open made. What StreamStore uses of it goes to the connection of the
// moment, because nats.go cannot open a connection again that it has closed. The rest is that of the first connection.
type linkedHandle struct {
	jetstream.JetStream
	link *link
}

// Conn returns the connection of the moment.
func (h *linkedHandle) Conn() *nats.Conn { return h.link.now().nc }

// PublishMsg publishes on the connection of the moment.
func (h *linkedHandle) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return h.link.now().js.PublishMsg(ctx, msg, opts...)
}

// CreateConsumer makes the consumer on the connection of the moment.
func (h *linkedHandle) CreateConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	return h.link.now().js.CreateConsumer(ctx, stream, cfg)
}

// OrderedConsumer makes the consumer on the connection of the moment.
func (h *linkedHandle) OrderedConsumer(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig) (jetstream.Consumer, error) {
	return h.link.now().js.OrderedConsumer(ctx, stream, cfg)
}

// DeleteConsumer deletes the consumer by way of the connection of the moment.
func (h *linkedHandle) DeleteConsumer(ctx context.Context, stream, consumer string) error {
	return h.link.now().js.DeleteConsumer(ctx, stream, consumer)
}

// Stream returns a handle whose Info goes to the connection of the moment.
func (h *linkedHandle) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	stream, err := h.link.now().handle(ctx, name)
	if err != nil {
		return nil, err
	}
	return &linkedStream{Stream: stream, link: h.link, name: name}, nil
}

type linkedStream struct {
	jetstream.Stream
	link *link
	name string
}

// Info asks by way of the connection of the moment.
func (s *linkedStream) Info(ctx context.Context, opts ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	stream, err := s.link.now().handle(ctx, s.name)
	if err != nil {
		return nil, err
	}
	return stream.Info(ctx, opts...)
}

// linkedPublisher fails at once, and with the reason, while there is no connection. nats.go says "outbound buffer limit exceeded",
// and may first wait for a server that is being dialed.
type linkedPublisher struct {
	Publisher
	link *link
}

// PublishMsg publishes, or says why there is no connection.
func (p *linkedPublisher) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if err := p.link.fault(); err != nil {
		return nil, err
	}
	ack, err := p.Publisher.PublishMsg(ctx, msg, opts...)
	if errors.Is(err, nats.ErrConnectionClosed) {
		// Another connection follows, unless it was the store that was closed: a write may go on.
		if err = p.link.fault(); err == nil {
			err = nats.ErrDisconnected
		}
	}
	return ack, err
}
