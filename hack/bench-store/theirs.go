package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// consumerReader reads a page through a consumer that starts at a computed sequence, as a careful person would: a consumer with
// the configuration of nats.go's ordered one, since that itself is made twice for one fetch; a pull of the right size; and the
// consumer is deleted once the page is there, which the page does not wait for.
type consumerReader struct {
	js      jetstream.JetStream
	stream  jetstream.Stream
	used    []string
	entries []auditstore.Entry
	// newest is the sequence of the first of the entries.
	newest uint64
}

// page reads limit entries after offset, newest first.
func (c *consumerReader) page(ctx context.Context, limit, offset int) error {
	info, err := c.stream.Info(ctx)
	if err != nil {
		return err
	}
	// A replica that lags behind does not have the newest entries yet.
	for {
		if err := c.from(ctx, info.State, limit, offset); err != nil || offset > 0 || c.newest >= info.State.LastSeq {
			return err
		}
	}
}

func (c *consumerReader) from(ctx context.Context, state jetstream.StreamState, limit, offset int) error {
	c.entries, c.newest = nil, 0
	switch {
	case state.NumDeleted == 0:
		return c.read(ctx, state.LastSeq-uint64(offset+limit)+1, limit, limit)
	case offset == 0:
		// What is above the place is read, with so much more as the holes let expect, and more where that was not enough.
		for n := limit + limit*state.NumDeleted/int(state.Msgs) + 10; ; n *= 2 {
			start := max(state.FirstSeq, state.LastSeq-min(uint64(n), state.LastSeq)+1)
			holds := int(state.LastSeq - start + 1)
			if err := c.read(ctx, start, holds, limit); err != nil || len(c.entries) >= limit || start == state.FirstSeq {
				return err
			}
		}
	}
	info, err := c.stream.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return err
	}
	rank := info.State.Msgs - uint64(offset+limit)
	deleted := info.State.Deleted
	below := sort.Search(len(deleted), func(i int) bool { return deleted[i]-info.State.FirstSeq-uint64(i) > rank })
	return c.read(ctx, info.State.FirstSeq+rank+uint64(below), limit, limit)
}

// read takes up to n messages from start on, and keeps the newest limit of them.
func (c *consumerReader) read(ctx context.Context, start uint64, n, limit int) error {
	consumer, err := c.js.CreateConsumer(ctx, streamName, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: start, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: 5 * time.Minute,
	})
	if err != nil {
		return err
	}
	c.used = append(c.used, consumer.CachedInfo().Name)
	// The number of messages that are there is known: what is not is not waited for.
	n = min(n, int(consumer.CachedInfo().NumPending))
	entries, newest, err := fetch(consumer, n)
	for errors.Is(err, nats.ErrNoResponders) && ctx.Err() == nil { // the servers of a cluster hear of a new consumer one by one
		entries, newest, err = fetch(consumer, n)
	}
	c.newest = newest
	slices.Reverse(entries)
	c.entries = entries[:min(limit, len(entries))]
	return err
}

// fetch returns the entries of n messages, and the sequence of the last one.
func fetch(consumer jetstream.Consumer, n int) (entries []auditstore.Entry, newest uint64, err error) {
	batch, err := consumer.Fetch(n, jetstream.FetchMaxWait(10*time.Second))
	if err != nil {
		return nil, 0, err
	}
	entries = make([]auditstore.Entry, 0, n)
	var last jetstream.Msg
	for msg := range batch.Messages() {
		var entry auditstore.Entry
		if err := json.Unmarshal(msg.Data(), &entry); err != nil {
			return nil, 0, err
		}
		entries, last = append(entries, entry), msg
	}
	if last != nil {
		meta, err := last.Metadata()
		if err != nil {
			return nil, 0, err
		}
		newest = meta.Sequence.Stream
	}
	return entries, newest, batch.Error()
}

// clean deletes the consumers, and waits until the server is free again.
func (c *consumerReader) clean(ctx context.Context) error {
	for _, name := range c.used {
		if err := c.js.DeleteConsumer(ctx, streamName, name); err != nil {
			return err
		}
	}
	c.used = nil
	_, err := c.stream.Info(ctx)
	return err
}

const bucketName = "bench"

// bucketReader reads a page from a key-value bucket: it lists the keys with their revisions and gets those of the page, all at
// once.
type bucketReader struct {
	kv      jetstream.KeyValue
	entries []auditstore.Entry
}

// newBucket makes a bucket with the entries of the trail.
func newBucket(ctx context.Context, js jetstream.JetStream, t *trail) (*bucketReader, error) {
	storage := jetstream.FileStorage
	if t.storage == "memory" {
		storage = jetstream.MemoryStorage
	}
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucketName, Storage: storage, Replicas: t.replicas, MaxBytes: -1})
	if err != nil {
		return nil, err
	}
	for _, sequence := range t.alive {
		msg, err := t.message(t.ids[sequence-1], time.Now())
		if err != nil {
			return nil, err
		}
		key := strings.TrimPrefix(msg.Subject, subject+".")
		if _, err := js.PublishAsync("$KV."+bucketName+"."+key, msg.Data, jetstream.WithStallWait(time.Minute)); err != nil {
			return nil, err
		}
	}
	return &bucketReader{kv: kv}, settled(ctx, js)
}

type keyed struct {
	key      string
	revision uint64
}

func (b *bucketReader) page(ctx context.Context, limit, offset int) error {
	watch, err := b.kv.WatchAll(ctx, jetstream.MetaOnly(), jetstream.IgnoreDeletes())
	if err != nil {
		return err
	}
	defer func() { _ = watch.Stop() }()
	var all []keyed
	for entry := range watch.Updates() {
		if entry == nil {
			break
		}
		all = append(all, keyed{entry.Key(), entry.Revision()})
	}
	slices.SortFunc(all, func(a, b keyed) int { return cmp.Compare(b.revision, a.revision) })
	if offset >= len(all) {
		return fmt.Errorf("the bucket has %d keys", len(all))
	}
	all = all[offset:min(offset+limit, len(all))]
	b.entries = make([]auditstore.Entry, len(all))
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, k := range all {
		wg.Go(func() {
			value, err := b.kv.Get(ctx, k.key)
			if err == nil {
				err = json.Unmarshal(value.Value(), &b.entries[i])
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
