package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// get measures the reading of one entry.
func (b *bench) get(ctx context.Context) error {
	store, err := b.store(ctx)
	if err != nil {
		return err
	}
	stream, err := b.js.Stream(ctx, streamName)
	if err != nil {
		return err
	}
	// Both get the same entries, at different turns.
	mine, others := b.turns(), b.turns()
	ours := &way{name: "Get", do: func(ctx context.Context) error {
		id := mine()
		entry, err := store.Get(ctx, id)
		if err == nil && entry.ID != id {
			err = fmt.Errorf("got %q in place of %q", entry.ID, id)
		}
		return err
	}}
	theirs := &way{name: "direct get", do: func(ctx context.Context) error {
		id := others()
		msg, err := stream.GetLastMsgForSubject(ctx, subject+"."+id)
		if err != nil {
			return err
		}
		var entry auditstore.Entry
		if err = json.Unmarshal(msg.Data, &entry); err == nil && entry.ID != id {
			err = fmt.Errorf("got %q in place of %q", entry.ID, id)
		}
		return err
	}}
	if err := b.race(ctx, 5*b.rounds, b.budget, ours, theirs); err != nil {
		return err
	}
	b.table("one entry by its id", ours, theirs)
	b.worst("get_vs_direct", ours.against(theirs), b.trail.String())
	return nil
}

// turns draws ids of the trail. The seed decides which, so that all who call it get the same.
func (b *bench) turns() func() string {
	drawn := b.seeded(1)
	return func() string { return b.trail.ids[b.trail.alive[drawn.IntN(len(b.trail.alive))]-1] }
}

// write measures the writing of one entry at a time.
func (b *bench) write(ctx context.Context) error {
	store, err := b.store(ctx)
	if err != nil {
		return err
	}
	// What is written is made beforehand: it is the same work for both.
	now := time.Now()
	rounds := 2*b.rounds + 1
	entries, messages := make([]auditstore.Entry, 0, rounds), make([]*nats.Msg, 0, rounds)
	for range rounds {
		entries = append(entries, b.trail.entry(b.trail.newID(now), now))
		msg, err := b.trail.message(b.trail.newID(now), now)
		if err != nil {
			return err
		}
		messages = append(messages, msg)
	}
	wrote, published := 0, 0
	ours := &way{name: "Write", do: func(ctx context.Context) error {
		wrote++
		return store.Write(ctx, entries[wrote-1])
	}}
	theirs := &way{name: "publish", do: func(ctx context.Context) error {
		published++
		_, err := b.js.PublishMsg(ctx, messages[published-1])
		return err
	}}
	if err := b.race(ctx, rounds-1, b.budget, ours, theirs); err != nil {
		return err
	}
	b.table("one entry written, acknowledged", ours, theirs)
	b.worst("write_vs_publish", ours.against(theirs), b.trail.String())
	return nil
}

// bufferedEntries is how many entries are written without waiting; bufferedRuns how often, of which the median counts.
const (
	bufferedEntries = 200_000
	bufferedRuns    = 3
)

// buffered measures writing without waiting, until every entry is stored. Beside it is nats.go's own asynchronous publish.
func (b *bench) buffered(ctx context.Context) error {
	if b.trail.replicas > 1 || b.trail.storage != "file" || b.trail.entries != b.smallest() {
		return nil
	}
	store, err := b.store(ctx)
	if err != nil {
		return err
	}
	n := min(bufferedEntries, 10*b.trail.entries)
	ways := []*way{
		{name: "Block, 1 writer", do: func(ctx context.Context) error { return b.writeBuffered(ctx, store, n, 1) }},
		{name: "Block, 16 writers", do: func(ctx context.Context) error { return b.writeBuffered(ctx, store, n, 16) }},
		{name: "PublishMsgAsync", do: func(ctx context.Context) error { return b.publishAsync(ctx, n) }},
	}
	if err := b.race(ctx, bufferedRuns, time.Minute, ways...); err != nil {
		return err
	}
	b.rates(fmt.Sprintf("%d entries written without waiting, until all are stored", n), n, ways...)
	for _, w := range ways[:2] {
		b.least("buffered_per_second", float64(n)/w.quantile(50).Seconds(), b.trail.String()+", "+w.name)
	}
	return nil
}

func (b *bench) writeBuffered(ctx context.Context, store *auditstore.StreamStore, n, writers int) error {
	buffered, err := auditstore.NewBuffered(store, auditstore.BufferedConfig{Policy: auditstore.Block, BlockTimeout: time.Minute})
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	template := b.trail.entry("", now)
	var wg sync.WaitGroup
	errs := make([]error, writers, writers+1)
	for i := range writers {
		wg.Go(func() {
			for range n / writers {
				entry := template
				if errs[i] = buffered.Write(ctx, entry); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	err = errors.Join(append(errs, buffered.Close(ctx))...)
	if written := buffered.Stats().Written; err == nil && written != int64(n/writers*writers) {
		err = fmt.Errorf("%d of %d entries were stored", written, n)
	}
	return err
}

// publishAsync does the same with nats.go: an id, a body and a header for each, and as many under way as it takes.
func (b *bench) publishAsync(ctx context.Context, n int) error {
	template := b.trail.entry("", time.Now().UTC())
	for range n {
		entry := template
		entry.ID = auditstore.NewID()
		data, err := json.Marshal(entry)
		if err != nil {
			return err
		}
		msg := nats.NewMsg(subject + "." + entry.ID)
		msg.Data = data
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
		msg.Header.Set(jetstream.ExpectedStreamHeader, streamName)
		if _, err := b.js.PublishMsgAsync(msg, jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	return settled(ctx, b.js)
}
