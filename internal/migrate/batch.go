package migrate

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers and codes of an atomic batch publish (ADR-50), for which nats.go has no names.
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"

	codeBatchTooLarge jetstream.ErrorCode = 10199

	// statusNoResponders is the status of what the server answers where nobody listens.
	statusNoResponders = "503"
)

// publishBatch stores the items in their order: all of them, or none. It returns an error for which isConflict is true when
// the stream holds a message under one of the keys already.
func (c *copier) publishBatch(ctx context.Context, items []*item) error {
	nc := c.JetStream.Conn()
	id := rand.Text()
	last := len(items) - 1
	for i, it := range items[:last] {
		if err := nc.PublishMsg(c.batched(it, id, i+1)); err != nil {
			return fmt.Errorf("publishing entry %s: %w", it.key, err)
		}
	}
	msg := c.message(items[last])
	if last > 0 {
		msg = c.batched(items[last], id, last+1)
		msg.Header.Set(headerBatchCommit, "1")
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	reply, err := nc.RequestMsgWithContext(ctx, msg)
	if err == nil {
		err = c.acknowledged(reply, len(items))
	}
	if err != nil {
		return fmt.Errorf("publishing %d entries up to %s: %w", len(items), items[last].key, err)
	}
	return nil
}

// acknowledged reads the server's answer to a publish of n entries.
func (c *copier) acknowledged(reply *nats.Msg, n int) error {
	if n == 1 && bytes.HasPrefix(reply.Data, c.storedAnswer) && !bytes.Contains(reply.Data, []byte(`"error"`)) {
		return nil // the usual answer, without the work of decoding it
	}
	if len(reply.Data) == 0 && reply.Header.Get("Status") == statusNoResponders {
		return jetstream.ErrNoStreamResponse
	}
	var ack struct {
		Error  *jetstream.APIError `json:"error"`
		Stream string              `json:"stream"`
		Count  int                 `json:"count"`
	}
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return fmt.Errorf("reading the acknowledgement: %w", err)
	}
	switch {
	case ack.Error != nil:
		return ack.Error
	case ack.Stream != c.Stream || n > 1 && ack.Count != n:
		return fmt.Errorf("stream %q acknowledged %d", ack.Stream, ack.Count)
	}
	return nil
}

func (c *copier) batched(it *item, id string, sequence int) *nats.Msg {
	msg := c.message(it)
	msg.Header.Set(headerBatchID, id)
	msg.Header.Set(headerBatchSequence, strconv.Itoa(sequence))
	return msg
}

// publishInBatches publishes the items in batches as large as the server takes.
func (c *copier) publishInBatches(ctx context.Context, items []*item) error {
	for len(items) > 0 {
		n := min(len(items), c.batchSize)
		err := c.publishBatch(ctx, items[:n])
		if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == codeBatchTooLarge && n > 1 {
			c.batchSize = n / 2
			continue
		}
		if err != nil {
			return err
		}
		for _, it := range items[:n] {
			it.fate = fateCopied
		}
		items = items[n:]
	}
	return nil
}
