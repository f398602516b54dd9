package handover

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// relayMessages and relayBytes bound what is kept. A put that comes beyond fails as it would without a relay.
const (
	relayMessages = 4096
	relayBytes    = 64 << 20
)

// relay keeps what is put into the bucket while nobody stores it, and passes it on to whoever does then, who answers the
// writer. Without it, a put that is on its way between two servers when the fence goes up is never answered: its writer
// waits for a time-out, and one that does not try again has lost an entry.
//
// What the bucket has taken all the same, before the fence, is left out. And everything is passed on with an expected last
// sequence of 0 on its subject, so that nothing is stored twice. It keeps nothing that the stream itself takes: it ends
// before the stream is asked to.
type relay struct {
	js     jetstream.JetStream
	bucket string
	// since is a sequence of the bucket's backing stream below which the relay has nothing of.
	since  uint64
	prefix string
	sub    *nats.Subscription
}

// openRelay returns once the server knows of the relay.
func openRelay(ctx context.Context, js jetstream.JetStream, bucket string, since uint64) (*relay, error) {
	nc, subject := js.Conn(), jsbuilder.BucketSubjects(bucket)
	r := &relay{js: js, bucket: bucket, since: since, prefix: strings.TrimSuffix(subject, ">")}
	var err error
	if r.sub, err = nc.SubscribeSync(subject); err == nil {
		err = errors.Join(r.sub.SetPendingLimits(relayMessages, relayBytes), nc.FlushWithContext(ctx))
	}
	if err != nil {
		r.end(ctx)
		return nil, fmt.Errorf("keeping what is put into bucket %s: %w", bucket, err)
	}
	return r, nil
}

// end returns once the relay has all that it gets.
func (r *relay) end(ctx context.Context) {
	// Drain, other than Unsubscribe, takes what arrives until the server knows of the end, and can be read after.
	if r.sub != nil && r.sub.Drain() == nil {
		_ = r.js.Conn().FlushWithContext(ctx)
	}
}

// passOn publishes what the relay has kept with another prefix than the bucket's, and returns how many puts that were.
func (r *relay) passOn(ctx context.Context, prefix string) (n int) {
	for {
		put, err := r.sub.NextMsg(0)
		switch {
		case errors.Is(err, nats.ErrSlowConsumer):
			continue // it says once that something came beyond the bounds
		case err != nil:
			return n
		case r.taken(ctx, put.Subject):
			continue
		}
		msg := nats.NewMsg(prefix + strings.TrimPrefix(put.Subject, r.prefix))
		msg.Reply, msg.Data = put.Reply, put.Data
		if put.Header != nil {
			msg.Header = put.Header
		}
		if msg.Header.Get(jetstream.ExpectedLastSubjSeqHeader) == "" {
			msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
		}
		if r.js.Conn().PublishMsg(msg) == nil {
			n++
		}
	}
}

// taken says whether the bucket has a message of the key since the relay was opened: it took the put, and may have taken its
// deletion after it. Where it cannot be asked, the expected sequence has to do.
func (r *relay) taken(ctx context.Context, subject string) bool {
	sequence, err := migrate.FirstAfter(ctx, r.js, migrate.StreamName(r.bucket), r.since, subject)
	return err == nil && sequence > 0
}
