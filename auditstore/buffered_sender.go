package auditstore

import (
	"context"
	"fmt"
	"reflect"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func (s *StreamStore) streamStore(context.Context) (*StreamStore, error) { return s, s.opened() }

func (s *StreamStore) handle() (jetstream.JetStream, string) { return s.js, s.name }

// direct says whether messages may go past the publisher: it is the JetStream handle itself, or the one that Open puts before it,
// and not somebody's own.
func (s *StreamStore) direct() bool {
	publisher := s.publisher
	if linked, is := publisher.(*linkedPublisher); is {
		publisher = linked.Publisher
	}
	return reflect.ValueOf(publisher).Comparable() && publisher == Publisher(s.js)
}

// offline says why there is no connection.
func (s *StreamStore) offline() error {
	cause := s.js.Conn().LastError()
	if linked, is := s.publisher.(*linkedPublisher); is {
		cause = linked.link.fault()
	}
	if cause == nil {
		cause = nats.ErrDisconnected
	}
	return fmt.Errorf("%w: there is no connection: %w", ErrNotReady, cause)
}

// sender has what the ways of forwarding into a stream share: a subscription that takes the stream's answers, and the way of
// storing one record for certain.
type sender struct {
	b  *Buffered
	s  *StreamStore
	nc *nats.Conn

	sub     *nats.Subscription
	inbox   string // with its last dot
	room    int    // for how many answers: late ones of what was given up must not keep out others
	replies chan *nats.Msg
	// disconnected yields once the connection is lost: what was under way then may be lost, too.
	disconnected chan nats.Status
}

// renew takes the store's connection: one that Open has made is replaced where it was closed for good.
func (f *sender) renew() {
	if nc := f.s.js.Conn(); nc != f.nc {
		f.unsubscribe()
		f.sub, f.nc = nil, nc
	}
}

func (f *sender) subscribe() bool {
	if f.sub != nil {
		return true
	}
	inbox := f.nc.NewInbox()
	replies := make(chan *nats.Msg, f.room)
	sub, err := f.nc.ChanSubscribe(inbox+".*", replies)
	if err != nil {
		f.b.counts.fail(err)
		return false
	}
	f.sub, f.inbox, f.replies = sub, inbox+".", replies
	f.disconnected = f.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	return true
}

func (f *sender) unsubscribe() {
	if f.sub != nil {
		f.nc.RemoveStatusListener(f.disconnected)
		_ = f.sub.Unsubscribe()
	}
}

// takeOne waits for one record and stores it without the window.
func (f *sender) takeOne(ctx context.Context) bool {
	rec, more := f.b.receive(ctx)
	switch {
	case !more:
		return false
	case rec.corrupt != nil:
		f.b.corrupted(rec)
		return true
	}
	return f.deliver(ctx, rec)
}

func (f *sender) deliver(ctx context.Context, rec record) bool {
	return f.b.deliver(ctx, rec, func(ctx context.Context) error {
		if err := f.connected(ctx); err != nil {
			return err
		}
		return f.s.publishUntil(ctx, f.s.prefix+rec.id, rec.data)
	})
}

// connected waits for the connection. Otherwise every try would add a copy of the message to what the client keeps for later.
func (f *sender) connected(ctx context.Context) error {
	f.renew()
	changed := f.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer f.nc.RemoveStatusListener(changed)
	for !f.nc.IsConnected() {
		if f.nc.IsClosed() {
			return fmt.Errorf("%w: %w", ErrNotReady, nats.ErrConnectionClosed)
		}
		f.b.counts.fail(f.s.offline())
		select {
		case <-changed:
		case <-ctx.Done():
			return f.s.offline()
		}
	}
	return nil
}
