package auditstore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers and a code of an atomic batch publish (ADR-50 of NATS), for which nats.go has no names.
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"

	codeBatchTooLarge jetstream.ErrorCode = 10199
)

// What one batch holds at most. The server takes no more messages, and keeps them in memory until it has them all.
const (
	batchMessages = 1000
	batchBytes    = 4 << 20
)

// batcher publishes what is there in atomic batches, one after the other: the stream stores a batch whole and in order, or not
// at all. So the order stays when a leader or the connection is lost in the middle, and also when the client sends again, on its
// next connection, what it had kept of the last one. Whatever is not stored as a batch is decided one by one, oldest first.
type batcher struct {
	sender
	most   int // how many messages the server takes in a batch
	number uint64
	held   record // what did not fit into the last batch
	holds  bool
}

func newBatcher(b *Buffered, s *StreamStore) *batcher {
	return &batcher{sender: sender{b: b, s: s, nc: s.js.Conn(), room: 16}, most: batchMessages}
}

func (p *batcher) run(ctx context.Context) {
	defer func() { p.unsubscribe() }()
	for {
		records, more := p.collect(ctx)
		for len(records) > 0 {
			n, err := p.store(ctx, records)
			if err != nil && !p.decide(ctx, records[:n]) {
				return
			}
			records = records[n:]
		}
		if !more {
			return
		}
	}
}

// collect waits for a record and takes those that are there already, up to a batch.
func (p *batcher) collect(ctx context.Context) (records []record, more bool) {
	size := 0
	for len(records) < p.most {
		rec, more := p.held, true
		switch {
		case p.holds:
			p.holds = false
		case len(records) == 0:
			rec, more = p.b.receive(ctx)
		case len(p.b.room.records()) == 0:
			return records, true
		default:
			rec, more = <-p.b.room.records()
		}
		switch {
		case !more:
			return records, false
		case rec.corrupt != nil:
			p.b.corrupted(rec)
			continue
		case len(records) > 0 && size+len(rec.data) > batchBytes:
			p.held, p.holds = rec, true
			return records, true
		}
		records, size = append(records, rec), size+len(rec.data)
	}
	return records, true
}

// store stores the first n of the records as one batch, or fails and has stored none of them, or does not know.
func (p *batcher) store(ctx context.Context, records []record) (n int, err error) {
	n = min(len(records), p.most)
	records = records[:n]
	p.b.counts.oldest.Store(records[0].accepted)
	p.renew()
	if n == 1 || !p.subscribe() || !p.nc.IsConnected() {
		return n, errUnanswered
	}
	err = p.commit(ctx, records)
	var refused *jetstream.APIError
	if errors.As(err, &refused) && refused.ErrorCode == codeBatchTooLarge {
		p.most = max(1, n/2)
	}
	if err == nil {
		for _, rec := range records {
			p.b.written(rec)
		}
	}
	return n, err
}

// commit publishes the batch and waits for the answer to its last message.
func (p *batcher) commit(ctx context.Context, records []record) error {
	for len(p.disconnected) > 0 {
		<-p.disconnected
	}
	p.number++
	reply := p.inbox + strconv.FormatUint(p.number, 10)
	header := nats.Header{
		jetstream.ExpectedLastSubjSeqHeader: {"0"}, jetstream.ExpectedStreamHeader: {p.s.name}, headerBatchID: {rand.Text()},
	}
	for i, rec := range records {
		msg := &nats.Msg{Subject: p.s.prefix + rec.id, Data: rec.data, Header: header}
		header[headerBatchSequence] = []string{strconv.Itoa(i + 1)}
		if i == len(records)-1 {
			msg.Reply = reply
			header[headerBatchCommit] = []string{"1"}
		}
		if err := p.nc.PublishMsg(msg); err != nil {
			return err
		}
	}
	patience := time.NewTimer(p.s.limits.request)
	defer patience.Stop()
	for {
		select {
		case msg := <-p.replies:
			if msg.Subject == reply { // and not the late answer of a batch that was given up
				return p.committed(msg, len(records))
			}
		case <-p.disconnected:
			return errUnanswered
		case <-patience.C:
			return errUnanswered
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *batcher) committed(msg *nats.Msg, n int) error {
	var ack acknowledgement
	if err := json.Unmarshal(msg.Data, &ack); err != nil {
		return fmt.Errorf("reading the acknowledgement: %w", err)
	}
	switch {
	case ack.Error != nil:
		return ack.Error
	case ack.Stream != p.s.name || ack.Count != n:
		return fmt.Errorf("stream %q acknowledged %d messages of a batch of %d", ack.Stream, ack.Count, n)
	}
	p.s.acknowledged(ack.Sequence)
	return nil
}

// decide stores or refuses the records one by one.
func (p *batcher) decide(ctx context.Context, records []record) bool {
	for _, rec := range records {
		if !p.deliver(ctx, rec) {
			return false
		}
	}
	return true
}
