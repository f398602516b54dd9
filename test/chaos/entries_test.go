package chaos

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// readTimeout is how long the next message of a stream that has more may take.
const readTimeout = 30 * time.Second

// entry is a live entry of a bucket, or what a stream holds of one.
type entry struct {
	key   string
	value []byte
	// sequence and stored are where and when the bucket recorded it.
	sequence uint64
	stored   time.Time
}

// liveEntries are those of a bucket, in the order of their sequences, read from its backing stream.
func liveEntries(ctx context.Context, js jetstream.JetStream, bucket string) ([]entry, error) {
	live := map[string]entry{}
	err := readAll(ctx, js, "KV_"+bucket, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		key := strings.TrimPrefix(msg.Subject(), "$KV."+bucket+".")
		if msg.Headers().Get("KV-Operation") != "" {
			delete(live, key)
			return nil
		}
		live[key] = entry{key: key, value: msg.Data(), sequence: meta.Sequence.Stream, stored: meta.Timestamp}
		return nil
	})
	inOrder := func(a, b entry) int { return cmp.Compare(a.sequence, b.sequence) }
	return slices.SortedFunc(maps.Values(live), inOrder), err
}

// copiedEntries are those of a stream, in its order.
func copiedEntries(ctx context.Context, js jetstream.JetStream, stream, subject, bucket string) ([]entry, error) {
	var copied []entry
	err := readAll(ctx, js, stream, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		e, err := copiedEntry(msg, subject, bucket)
		if err != nil {
			return fmt.Errorf("sequence %d, subject %s: %w", meta.Sequence.Stream, msg.Subject(), err)
		}
		copied = append(copied, e)
		return nil
	})
	return copied, err
}

func copiedEntry(msg jetstream.Msg, subject, bucket string) (entry, error) {
	key, under := strings.CutPrefix(msg.Subject(), subject+".")
	if !under {
		return entry{}, fmt.Errorf("not under %s", subject)
	}
	if from := msg.Headers().Get("Audit-Source-Bucket"); from != bucket {
		return entry{}, fmt.Errorf("is said to come from bucket %q", from)
	}
	sequence, err := strconv.ParseUint(msg.Headers().Get("Audit-Source-Sequence"), 10, 64)
	if err != nil {
		return entry{}, err
	}
	stored, err := time.Parse(time.RFC3339Nano, msg.Headers().Get("Audit-Source-Time"))
	return entry{key: key, value: msg.Data(), sequence: sequence, stored: stored}, err
}

// readAll gives every message to visit, up to the last one that the stream's leader knows of: the replica that is read may
// lag behind it.
func readAll(ctx context.Context, js jetstream.JetStream, name string, visit func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", name, err)
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		return nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", name, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(5000))
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", name, err)
	}
	defer messages.Stop()
	for read := uint64(1); ; read++ {
		msg, err := messages.Next(jetstream.NextMaxWait(readTimeout))
		if err != nil {
			return fmt.Errorf("reading stream %s: after %d of %d messages: %w", name, read-1, state.Msgs, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		if err := visit(msg, meta); err != nil {
			return fmt.Errorf("reading stream %s: %w", name, err)
		}
		if meta.Sequence.Stream >= state.LastSeq {
			if read != state.Msgs {
				return fmt.Errorf("reading stream %s: it has %d messages and gave %d", name, state.Msgs, read)
			}
			return nil
		}
	}
}

// difference is nil when copied holds exactly the live entries: each once, with its bytes and its origin, in their order.
func difference(live, copied []entry) error {
	byKey := map[string]entry{}
	for _, e := range live {
		byKey[e.key] = e
	}
	var errs []error
	seen := map[string]bool{}
	last := entry{}
	for i, e := range copied {
		original, known := byKey[e.key]
		fault := ""
		switch {
		case !known:
			fault = "is no live entry of the bucket"
		case seen[e.key]:
			fault = "is there for the second time"
		case !bytes.Equal(e.value, original.value):
			fault = "has other bytes than in the bucket"
		case e.sequence != original.sequence || !e.stored.Equal(original.stored):
			fault = fmt.Sprintf("is said to be sequence %d of %s, and is sequence %d of %s",
				e.sequence, e.stored, original.sequence, original.stored)
		case e.sequence < last.sequence:
			fault = fmt.Sprintf("of sequence %d follows %s of sequence %d", e.sequence, last.key, last.sequence)
		}
		seen[e.key] = true
		last = e
		if fault != "" {
			errs = append(errs, fmt.Errorf("message %d: entry %s %s", i+1, e.key, fault))
		}
	}
	for _, e := range live {
		if !seen[e.key] {
			errs = append(errs, fmt.Errorf("entry %s of sequence %d is missing", e.key, e.sequence))
		}
	}
	if n := len(errs); n > 5 {
		errs = append(errs[:5], fmt.Errorf("and %d more", n-5))
	}
	return errors.Join(errs...)
}

// digest is that of status.migration[].digest as its documentation gives it, made another way.
func digest(entries []entry) string {
	sum := new(big.Int)
	for _, e := range entries {
		text := binary.BigEndian.AppendUint64(nil, uint64(len(e.key)))
		text = append(append(text, e.key...), e.value...)
		hash := sha256.Sum256(text)
		sum.Add(sum, new(big.Int).SetBytes(hash[:]))
	}
	sum.Mod(sum, new(big.Int).Lsh(big.NewInt(1), 256))
	return fmt.Sprintf("%064x", sum)
}
