package auditstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// puller reads a stream in the order of its sequences, through a consumer that it makes and removes. nats.go's ordered consumer
// does the same with two timers and two parsed subjects for each message, which costs more than all else that an export does.
// What that would mend, by making its consumer anew, ends a puller: whoever reads makes the next one, and knows where.
type puller struct {
	store    *StreamStore
	consumer string
	next     string // where messages are asked for
	request  []byte
	half     int // how many messages a request is for
	asked    int // how many messages are still to come for what was asked for
	last     uint64
	unknown  int // how often a server did not know the consumer
	sub      *nats.Subscription
	inbox    string
	messages chan *nats.Msg
	quiet    *time.Timer
}

// How often a new consumer is asked while no server knows it, and the pauses between.
const (
	unknownTries = 100
	unknownPause = 5 * time.Millisecond
)

// errBroken is a puller that cannot go on.
var errBroken = errors.New("the consumer cannot go on")

// pull makes a puller that begins at the sequence.
func (s *StreamStore) pull(ctx context.Context, start uint64, headersOnly bool) (*puller, error) {
	setup, cancel := within(ctx, s.limits.request)
	defer cancel()
	consumer, err := s.js.CreateConsumer(setup, s.name, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: start, AckPolicy: jetstream.AckNonePolicy,
		HeadersOnly: headersOnly, MemoryStorage: true, Replicas: 1, InactiveThreshold: orphaned,
	})
	if err != nil {
		return nil, s.readError(err)
	}
	nc := s.js.Conn()
	p := &puller{
		store: s, consumer: consumer.CachedInfo().Name, half: walkMessages / 2, inbox: nc.NewInbox(),
		messages: make(chan *nats.Msg, 2*walkMessages), // with room to spare: the connection drops what finds none
		quiet:    time.NewTimer(idle),
	}
	p.next = s.api + "CONSUMER.MSG.NEXT." + s.name + "." + p.consumer
	// A limit below the largest message would end the read at it.
	p.request = fmt.Appendf(nil, `{"batch":%d,"max_bytes":%d}`, p.half, max(walkBytes/2, 2*nc.MaxPayload()))
	if p.sub, err = nc.ChanSubscribe(p.inbox, p.messages); err != nil {
		p.close(ctx)
		return nil, s.readError(err)
	}
	return p, nil
}

// read puts the next message into m, which is the reader's until the next read. It fails with nats.ErrTimeout when none has
// come for a while.
func (p *puller) read(ctx context.Context, m *message) error {
	for {
		// Two requests are under way, so that the server does not wait for the reader.
		for ; p.asked <= p.half; p.asked += p.half {
			if err := p.store.js.Conn().PublishRequest(p.next, p.inbox, p.request); err != nil {
				return err
			}
		}
		msg, err := p.wait(ctx)
		if err != nil {
			return err
		}
		if msg.Reply == "" {
			if err := p.status(ctx, msg); err != nil {
				return err
			}
			continue
		}
		p.asked--
		return p.message(m, msg)
	}
}

func (p *puller) wait(ctx context.Context) (*nats.Msg, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case msg := <-p.messages:
		return msg, nil
	default:
	}
	p.quiet.Reset(idle)
	select {
	case msg := <-p.messages:
		return msg, nil
	case <-p.quiet.C:
		return nil, nats.ErrTimeout
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// status takes what the server says in place of a message: that a request has ended, because it is fulfilled or the next message
// is too large for the rest of it. In a cluster, a server may not know a new consumer yet. Everything else is the end of the
// consumer.
func (p *puller) status(ctx context.Context, msg *nats.Msg) error {
	if msg.Header.Get("Status") == "503" && p.last == 0 && p.unknown < unknownTries && pause(ctx, unknownPause) {
		p.unknown++
		p.asked -= p.half
		return nil
	}
	description := msg.Header.Get("Description")
	left, err := strconv.Atoi(msg.Header.Get("Nats-Pending-Messages"))
	if err != nil || description != "Batch Completed" && description != "Message Size Exceeds MaxBytes" {
		return fmt.Errorf("%w: %s %s", errBroken, msg.Header.Get("Status"), description)
	}
	p.asked -= left
	return nil
}

// message fails where a message was lost on its way.
func (p *puller) message(m *message, msg *nats.Msg) error {
	at, ok := parseReply(msg.Reply)
	if !ok {
		return fmt.Errorf("the place of a message cannot be read: %q", msg.Reply)
	}
	if p.last++; at.delivered != p.last {
		return fmt.Errorf("%w: message %d came in place of %d", errBroken, at.delivered, p.last)
	}
	*m = message{subject: msg.Subject, sequence: at.sequence, stored: at.stored, header: msg.Header, data: msg.Data}
	if msg.Header == nil && msg.Size() > len(msg.Subject)+len(msg.Reply)+len(msg.Data) {
		m.damage = errHeaders // nats.go leaves out those that it cannot read
	}
	return nil
}

// close removes the consumer also when the context has ended. Should that fail, the server does it after orphaned.
func (p *puller) close(ctx context.Context) {
	p.quiet.Stop()
	if p.sub != nil {
		_ = p.sub.Unsubscribe()
	}
	p.store.remove(ctx, p.consumer)
}

// delivery is what the subject for the acknowledgement of a message says about it.
type delivery struct {
	sequence, delivered uint64
	stored              time.Time
}

// parseReply reads $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<tries>.<sequence>.<delivered>.<time>.<pending>[.<random>].
func parseReply(reply string) (delivery, bool) {
	rest, ok := strings.CutPrefix(reply, "$JS.ACK.")
	token := -3
	if strings.Count(rest, ".") > 6 {
		token = -5
	}
	var numbers [3]uint64 // each is at least 1
	for i := 0; i < len(rest) && token < len(numbers); i++ {
		switch c := rest[i]; {
		case c == '.':
			token++
		case token < 0:
		case c < '0' || c > '9':
			return delivery{}, false
		default:
			numbers[token] = 10*numbers[token] + uint64(c-'0')
		}
	}
	if !ok || numbers[0] == 0 || numbers[1] == 0 || numbers[2] == 0 {
		return delivery{}, false
	}
	return delivery{numbers[0], numbers[1], time.Unix(0, int64(numbers[2]))}, true
}
