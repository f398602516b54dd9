package migrate

import (
	"fmt"

	"github.com/nats-io/nats.go"
)

// acks receives the acknowledgements of messages that are published ahead of them. nats.go's own asynchronous publish does
// the same with a future, a timer and an inbox for each message, at three times the cost, and sends a message that nobody
// has answered once more, behind later ones.
type acks struct {
	nc      *nats.Conn
	sub     *nats.Subscription
	inbox   string
	replies chan *nats.Msg
	// disconnected yields once the connection is lost: what was under way then may be lost, too.
	disconnected chan nats.Status
}

// openAcks receives acknowledgements, of which at most n are waited for at a time.
func openAcks(nc *nats.Conn, n int) (*acks, error) {
	a := &acks{nc: nc, inbox: nc.NewInbox(), replies: make(chan *nats.Msg, n)}
	var err error
	if a.sub, err = nc.ChanSubscribe(a.inbox, a.replies); err != nil {
		return nil, fmt.Errorf("subscribing to acknowledgements: %w", err)
	}
	a.disconnected = nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	return a, nil
}

func (a *acks) close() {
	a.nc.RemoveStatusListener(a.disconnected)
	_ = a.sub.Unsubscribe()
}
