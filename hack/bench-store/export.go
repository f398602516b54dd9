package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"encoding/json"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// exportRounds is how often everything is exported at most.
const exportRounds = 15

// exports measures the export of the whole trail, and the memory that it takes.
func (b *bench) exports(ctx context.Context) error {
	store, err := b.store(ctx)
	if err != nil {
		return err
	}
	export := func(order auditstore.Order) func(context.Context) error {
		return func(ctx context.Context) error { return b.export(ctx, store, order) }
	}
	ours := &way{name: "Export, as stored", do: export(auditstore.AsStored)}
	theirs := &way{name: "consumer, Messages", do: b.bareMessages}
	consume := &way{name: "consumer, Consume", do: b.bareConsume}
	newest := &way{name: "Export, newest first", do: export(auditstore.NewestFirst), slow: true}
	if err := b.race(ctx, exportRounds, 4*b.budget, ours, theirs, consume); err != nil {
		return err
	}
	if err := b.race(ctx, 1, time.Minute, newest); err != nil {
		return err
	}
	b.rates("export of everything", len(b.trail.alive), ours, theirs, consume, newest)
	for _, w := range []*way{ours, theirs, consume, newest} {
		mb, err := peakMB(func() error { return w.do(ctx) })
		if err != nil {
			return err
		}
		fmt.Fprintf(b.out, "    peak of the live heap above the one before, %s: %.1f MB\n", w.name, mb)
	}
	b.worst("export_vs_consumer", max(ours.against(theirs), ours.against(consume)), b.trail.String())
	return nil
}

func (b *bench) export(ctx context.Context, store *auditstore.StreamStore, order auditstore.Order) error {
	written, err := store.Export(ctx, io.Discard, auditstore.ExportOptions{Query: auditstore.Query{Order: order}})
	if err == nil && written != len(b.trail.alive) {
		err = fmt.Errorf("%d of %d entries were exported", written, len(b.trail.alive))
	}
	return err
}

// ordered makes an ordered consumer of everything.
func (b *bench) ordered(ctx context.Context) (jetstream.Consumer, func(), error) {
	consumer, err := b.js.OrderedConsumer(ctx, streamName, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return nil, nil, err
	}
	return consumer, func() {
		_ = b.js.DeleteConsumer(context.WithoutCancel(ctx), streamName, consumer.CachedInfo().Name)
	}, nil
}

// readAhead is what suits the bare consumer best of what was tried.
const readAhead = 10_000

// bareMessages writes every message and a line end, and looks at nothing.
func (b *bench) bareMessages(ctx context.Context) error {
	consumer, remove, err := b.ordered(ctx)
	if err != nil {
		return err
	}
	defer remove()
	messages, err := consumer.Messages(jetstream.PullMaxMessages(readAhead))
	if err != nil {
		return err
	}
	defer messages.Stop()
	out := bufio.NewWriterSize(io.Discard, 64<<10)
	for range b.trail.alive {
		msg, err := messages.Next()
		if err != nil {
			return err
		}
		if err := writeLine(out, msg.Data()); err != nil {
			return err
		}
	}
	return out.Flush()
}

// bareConsume does so in a callback.
func (b *bench) bareConsume(ctx context.Context) error {
	consumer, remove, err := b.ordered(ctx)
	if err != nil {
		return err
	}
	defer remove()
	out := bufio.NewWriterSize(io.Discard, 64<<10)
	done, seen := make(chan error, 1), 0
	consuming, err := consumer.Consume(func(msg jetstream.Msg) {
		err := writeLine(out, msg.Data())
		if seen++; seen == len(b.trail.alive) || err != nil {
			done <- err
		}
	}, jetstream.PullMaxMessages(readAhead))
	if err != nil {
		return err
	}
	defer consuming.Stop()
	select {
	case err := <-done:
		return errors.Join(err, out.Flush())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func writeLine(out *bufio.Writer, data []byte) error {
	_, err := out.Write(data)
	return errors.Join(err, out.WriteByte('\n'))
}

// peakMB is how far what is alive on the heap has grown at most while f ran, as the collector has found it.
func peakMB(f func() error) (float64, error) {
	runtime.GC()
	before := liveMB()
	peak := before
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				peak = max(peak, liveMB())
			}
		}
	})
	err := f()
	close(stop)
	wg.Wait()
	return peak - before, err
}

func liveMB() float64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return float64(samples[0].Value.Uint64()) / (1 << 20)
}

// allocs counts what reading an entry allocates, with all that the connection does for it.
func (b *bench) allocs(ctx context.Context) error {
	if b.trail.entries != b.smallest() || b.trail.replicas > 1 {
		return nil
	}
	store, err := b.store(ctx)
	if err != nil {
		return err
	}
	body, err := json.Marshal(b.trail.entry(b.trail.ids[0], time.Now().UTC()))
	if err != nil {
		return err
	}
	var failed error
	count := func(entries int, f func() error) float64 {
		return testing.AllocsPerRun(10, func() { failed = errors.Join(failed, f()) }) / float64(entries)
	}
	decoding := count(1, func() error { var entry auditstore.Entry; return json.Unmarshal(body, &entry) })
	const below = 1000 // the newest entries, which a store does not read anew each time
	list := count(pageSize, func() error { _, _, err := store.List(ctx, pageSize, below); return err })
	large := count(1000, func() error { _, _, err := store.List(ctx, 1000, below); return err })
	export := count(len(b.trail.ids), func() error { return b.export(ctx, store, auditstore.AsStored) })
	bare := count(len(b.trail.ids), func() error { return b.bareMessages(ctx) })
	fmt.Fprintf(b.out, "  allocations per entry, with all that the connection does\n"+
		"    json.Unmarshal alone %.1f; List of %d: %.1f; List of 1000: %.1f; Export %.1f; bare consumer without decoding %.1f\n",
		decoding, pageSize, list, large, export, bare)
	b.worst("allocs_vs_json", max(list, large)/decoding, b.trail.String())
	return failed
}
