package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// withServers measures every case of so many replicas.
func withServers(ctx context.Context, o options, replicas int, r *report) (err error) {
	dir, err := os.MkdirTemp("", "auditstream-bench-store-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	servers, err := testenv.StartNATSCluster(ctx, dir, replicas)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, servers.Stop()) }()
	nc, err := nats.Connect(servers.URL())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(inFlight))
	if err != nil {
		return err
	}
	for _, storage := range o.storages {
		for _, entries := range o.sizes {
			if replicas > 1 && (storage != "file" || entries > o.maxR3) {
				continue
			}
			b := &bench{options: o, report: r, js: js, trail: newTrail(o.seed, entries, replicas, storage)}
			if err := b.measure(ctx); err != nil {
				return fmt.Errorf("%s: %w", b.trail, err)
			}
		}
	}
	return nil
}

// bench is one trail and what is measured on it.
type bench struct {
	options
	*report
	js    jetstream.JetStream
	trail *trail
}

// seeded is a source of numbers that the seed alone decides, whatever was drawn from the trail's own meanwhile.
func (b *bench) seeded(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(b.seed, stream)) }

func (b *bench) measure(ctx context.Context) (err error) {
	if err := b.trail.fill(ctx, b.js); err != nil {
		return fmt.Errorf("filling the stream: %w", err)
	}
	defer func() { err = errors.Join(err, b.js.DeleteStream(context.WithoutCancel(ctx), streamName)) }()
	steps := []struct {
		name string
		of   func(context.Context) error
	}{
		{"pages", b.pages}, {"get", b.get}, {"allocs", b.allocs}, {"export", b.exports}, {"pages", b.pagesWithHoles},
		{"write", b.write}, {"buffered", b.buffered},
	}
	for _, step := range steps {
		if !b.has(step.name) {
			continue
		}
		if err := step.of(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}
