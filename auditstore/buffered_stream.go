package auditstore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// windowSize is how many messages are under way at once, unless a test says otherwise.
const windowSize = 512

// headerBytes is the size of the header that every message has.
func headerBytes(stream string) int {
	return len("NATS/1.0\r\n" + jetstream.ExpectedLastSubjSeqHeader + ": 0\r\n" + jetstream.ExpectedStreamHeader + ": \r\n\r\n" + stream)
}

// window publishes ahead of the acknowledgements. nats.go's own asynchronous publish does the same with a future, a timer and
// an inbox for each message, at three times the cost, and sends a message that nobody has answered once more, behind later
// ones. Here one inbox takes all answers, and whatever is not a plain acknowledgement in time stops the window: what it holds
// is then decided one by one, oldest first, as Write does it.
type window struct {
	sender
	header   nats.Header
	stored   []byte      // how the usual acknowledgement begins
	patience *time.Timer // runs out when the oldest message is not answered in time

	flight     []flying // a ring; message n is at n % len
	base, next uint64   // the numbers of the oldest message under way, and of the next one
	answered   uint64   // how many of those under way have an answer
	broken     bool     // nothing new is published
	ended      bool     // there is nothing more to come
}

type flying struct {
	rec      record
	answered bool
	stored   bool
}

func newWindow(b *Buffered, s *StreamStore) *window {
	return &window{
		sender: sender{b: b, s: s, nc: s.js.Conn(), room: 2 * windowSize}, flight: make([]flying, windowSize),
		header: nats.Header{jetstream.ExpectedLastSubjSeqHeader: {"0"}, jetstream.ExpectedStreamHeader: {s.name}},
		stored: fmt.Appendf(nil, `{"stream":%q,"seq":`, s.name),
	}
}

func (w *window) run(ctx context.Context) {
	w.patience = time.NewTimer(w.s.limits.try)
	defer w.patience.Stop()
	defer w.unsubscribe()
	for {
		w.renew()
		w.broken = !w.subscribe()
		if w.stream(ctx); ctx.Err() != nil {
			return
		}
		if !w.decide(ctx) || w.ended {
			return
		}
		if w.broken && w.sub == nil && !w.takeOne(ctx) {
			return
		}
	}
}

func (w *window) underWay() int { return int(w.next - w.base) }

// stream publishes and settles until something is odd, there is nothing more to come, or the context ends. After something odd
// it waits for the answers that are still on their way.
func (w *window) stream(ctx context.Context) {
	for !w.over() {
		select {
		case rec, more := <-w.source():
			w.take(rec, more)
			for n := min(len(w.flight)-w.underWay(), len(w.source())); n > 0 && !w.broken && !w.ended; n-- {
				rec, more := <-w.b.room.records()
				w.take(rec, more)
			}
		case msg := <-w.replies:
			w.answer(msg)
			for range len(w.replies) {
				w.answer(<-w.replies)
			}
			w.advance()
		case <-w.disconnected:
			w.broken = true
			return
		case <-w.patience.C:
			if w.underWay() > 0 {
				w.broken = true
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (w *window) over() bool {
	if w.broken {
		return int(w.answered) == w.underWay()
	}
	return w.ended && w.underWay() == 0
}

// source is where the next record comes from, and nil while none may be taken.
func (w *window) source() <-chan record {
	if w.broken || w.ended || w.underWay() == len(w.flight) {
		return nil
	}
	return w.b.room.records()
}

func (w *window) take(rec record, more bool) {
	switch {
	case !more:
		w.ended = true
	case rec.corrupt != nil:
		w.b.corrupted(rec)
	default:
		w.publish(rec)
	}
}

func (w *window) publish(rec record) {
	if w.underWay() == 0 {
		w.b.counts.oldest.Store(rec.accepted)
		w.patience.Reset(w.s.limits.try)
	}
	w.flight[w.next%uint64(len(w.flight))] = flying{rec: rec}
	msg := &nats.Msg{
		Subject: w.s.prefix + rec.id, Reply: w.inbox + strconv.FormatUint(w.next, 10), Header: w.header, Data: rec.data,
	}
	w.next++
	// While it is not connected, the client would keep the message and send it whenever it is back, behind what comes later.
	if len(w.disconnected) > 0 || !w.nc.IsConnected() || w.nc.PublishMsg(msg) != nil {
		w.at(w.next - 1).answered = true
		w.answered++
		w.broken = true
	}
}

func (w *window) at(n uint64) *flying { return &w.flight[n%uint64(len(w.flight))] }

func (w *window) answer(msg *nats.Msg) {
	n, err := strconv.ParseUint(msg.Subject[len(w.inbox):], 10, 64)
	if err != nil || n < w.base || n >= w.next || w.at(n).answered {
		return // a late answer of a message that was decided otherwise
	}
	f := w.at(n)
	f.answered, f.stored = true, w.takes(msg)
	w.answered++
	w.broken = w.broken || !f.stored
}

// acknowledgement is the stream's answer to a message, or to the last one of a batch.
type acknowledgement struct {
	jetstream.PubAck
	Error *jetstream.APIError `json:"error"`
	Count int                 `json:"count"` // of a batch
}

// takes notes where the stream has stored the message, if it has. Every other answer is left to a second try.
func (w *window) takes(msg *nats.Msg) bool {
	if rest, usual := bytes.CutPrefix(msg.Data, w.stored); usual && !bytes.Contains(rest, []byte(`"error"`)) {
		w.s.acknowledged(leadingNumber(rest)) // without the work of decoding it
		return true
	}
	var ack acknowledgement
	if json.Unmarshal(msg.Data, &ack) != nil || ack.Error != nil || ack.Stream != w.s.name {
		return false
	}
	w.s.acknowledged(ack.Sequence)
	return true
}

func leadingNumber(text []byte) (n uint64) {
	for _, digit := range text {
		if digit < '0' || digit > '9' {
			break
		}
		n = n*10 + uint64(digit-'0')
	}
	return n
}

// advance settles what is stored, up to the first message that is not.
func (w *window) advance() {
	if w.underWay() == 0 || !w.at(w.base).stored {
		return
	}
	for w.underWay() > 0 && w.at(w.base).stored {
		w.b.written(w.pop())
	}
	if w.underWay() > 0 {
		w.b.counts.oldest.Store(w.at(w.base).rec.accepted)
	}
	w.patience.Reset(w.s.limits.try)
}

func (w *window) pop() record {
	f := w.at(w.base)
	rec := f.rec
	if f.answered {
		w.answered--
	}
	*f = flying{}
	w.base++
	return rec
}

// decide stores or refuses, one by one, what was under way when the window stopped.
func (w *window) decide(ctx context.Context) bool {
	for w.underWay() > 0 {
		if w.at(w.base).stored {
			w.b.written(w.pop())
			continue
		}
		if !w.deliver(ctx, w.at(w.base).rec) {
			return false
		}
		w.pop()
	}
	for len(w.disconnected) > 0 {
		<-w.disconnected
	}
	return true
}
