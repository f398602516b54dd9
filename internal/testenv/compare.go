package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// readTimeout is how long the next message of a stream that has more may take.
const readTimeout = 30 * time.Second

// Comparison is what the live entries of a bucket and the entries of a stream have in common.
type Comparison struct {
	// BucketEntries are the live keys of the bucket, StreamEntries the messages of the stream.
	BucketEntries, StreamEntries int
	// Missing are keys that the stream does not hold, Doubled those it holds more than once, and Different those it
	// holds with other bytes.
	Missing, Doubled, Different []string
}

// Err is nil when every live key of the bucket is in the stream exactly once with the same bytes.
func (c Comparison) Err() error {
	var errs []error
	for _, fault := range []struct {
		what string
		keys []string
	}{
		{"missing from the stream", c.Missing},
		{"more than once in the stream", c.Doubled},
		{"in the stream with other bytes", c.Different},
	} {
		if n := len(fault.keys); n > 0 {
			errs = append(errs, fmt.Errorf("%d of the bucket's %d keys are %s, such as %s", n, c.BucketEntries, fault.what, fault.keys[0]))
		}
	}
	return errors.Join(errs...)
}

// Compare reads a bucket and the stream whose base subject is given, whole.
func Compare(ctx context.Context, js jetstream.JetStream, bucket, stream, subject string) (Comparison, error) {
	entries, err := readBucket(ctx, js, bucket)
	if err != nil {
		return Comparison{}, fmt.Errorf("reading the bucket %s: %w", bucket, err)
	}
	stored, total, err := readStream(ctx, js, stream, subject)
	if err != nil {
		return Comparison{}, fmt.Errorf("reading the stream %s: %w", stream, err)
	}
	result := Comparison{BucketEntries: len(entries), StreamEntries: total}
	for key, value := range entries {
		switch copies := stored[key]; {
		case len(copies) == 0:
			result.Missing = append(result.Missing, key)
		case len(copies) > 1:
			result.Doubled = append(result.Doubled, key)
		case !bytes.Equal(copies[0], value):
			result.Different = append(result.Different, key)
		}
	}
	return result, nil
}

func readBucket(ctx context.Context, js jetstream.JetStream, bucket string) (map[string][]byte, error) {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return nil, err
	}
	watcher, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, err
	}
	defer func() { _ = watcher.Stop() }()
	entries := map[string][]byte{}
	for {
		select {
		case entry, open := <-watcher.Updates():
			if !open {
				return nil, errors.New("the watch has ended before the last entry")
			}
			if entry == nil {
				return entries, nil
			}
			entries[entry.Key()] = entry.Value()
		case <-time.After(readTimeout):
			return nil, fmt.Errorf("no entry for %s after %d", readTimeout, len(entries))
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// readStream returns the bodies by the part of the subject that follows the base subject, and the number of messages.
func readStream(ctx context.Context, js jetstream.JetStream, name, subject string) (map[string][][]byte, int, error) {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, 0, err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return nil, 0, err
	}
	stored := map[string][][]byte{}
	if info.NumPending == 0 {
		return stored, 0, nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, 0, err
	}
	defer messages.Stop()
	for total := 1; ; total++ {
		message, err := messages.Next(jetstream.NextMaxWait(readTimeout))
		if err != nil {
			return nil, 0, fmt.Errorf("after %d messages: %w", total-1, err)
		}
		key := strings.TrimPrefix(message.Subject(), subject+".")
		stored[key] = append(stored[key], message.Data())
		metadata, err := message.Metadata()
		if err != nil {
			return nil, 0, err
		}
		if metadata.NumPending == 0 {
			return stored, total, nil
		}
	}
}
