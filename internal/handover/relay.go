package handover

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

// relayLimit is how many puts are kept at most. What comes beyond fails as it would without a relay.
const relayLimit = 4096

// relay keeps what is put into the bucket while nobody stores it, and passes it on to whoever does then, who answers the
// writer. Without it, a put that is on its way between two servers when the fence goes up is never answered: its writer
// waits for a time-out, and one that does not try again has lost an entry.
//
// It may keep what the bucket has taken before the fence. So everything is passed on with an expected last sequence of 0 on
// its subject, and refused where it is stored already; the writer has its answer then, and takes no second one. It keeps
// nothing that the stream itself takes: it ends before the stream is asked to.
type relay struct {
	nc     *nats.Conn
	prefix string
	sub    *nats.Subscription
	puts   chan *nats.Msg
}

// openRelay returns once the server knows of the relay.
func openRelay(ctx context.Context, nc *nats.Conn, bucket string) (*relay, error) {
	subject := jsbuilder.BucketSubjects(bucket)
	r := &relay{nc: nc, prefix: strings.TrimSuffix(subject, ">"), puts: make(chan *nats.Msg, relayLimit)}
	var err error
	if r.sub, err = nc.ChanSubscribe(subject, r.puts); err != nil {
		return nil, fmt.Errorf("keeping what is put into bucket %s: %w", bucket, err)
	}
	if err := nc.FlushWithContext(ctx); err != nil {
		_ = r.sub.Unsubscribe()
		return nil, fmt.Errorf("keeping what is put into bucket %s: %w", bucket, err)
	}
	return r, nil
}

// end returns once the relay has all that it gets.
func (r *relay) end(ctx context.Context) {
	// Drain, other than Unsubscribe, takes what arrives until the server knows of the end.
	if r.sub.Drain() == nil {
		_ = r.nc.FlushWithContext(ctx)
	}
}

// passOn publishes what the relay has kept with another prefix than the bucket's, and returns how many puts that were.
func (r *relay) passOn(prefix string) (n int) {
	for {
		select {
		case put := <-r.puts:
			msg := nats.NewMsg(prefix + strings.TrimPrefix(put.Subject, r.prefix))
			msg.Reply, msg.Data = put.Reply, put.Data
			if put.Header != nil {
				msg.Header = put.Header
			}
			if msg.Header.Get(jetstream.ExpectedLastSubjSeqHeader) == "" {
				msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
			}
			if r.nc.PublishMsg(msg) == nil {
				n++
			}
		default:
			return n
		}
	}
}
