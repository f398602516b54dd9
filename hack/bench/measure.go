package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/hack/internal/rig"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	legacyEntries = 10_000
	// settle is how long what follows Ready (its event) is given before writes are counted.
	settle = 2 * time.Second
)

// ready measures from creation to Ready without a migration, beside the bare request that creates such a stream, and
// counts what it cost.
func (b *bench) ready(ctx context.Context, opts options, f *figures) error {
	if _, err := b.createReady(ctx, auditStream("warm-up")); err != nil {
		return err
	}
	if err := rig.Sleep(ctx, settle); err != nil {
		return err
	}
	var ours, bare []time.Duration
	var cost rig.Writes
	var requests int64
	for i := range opts.runs {
		before, err := b.Writes(ctx)
		if err != nil {
			return err
		}
		requestsBefore := b.requests.Load()
		took, err := b.createReady(ctx, auditStream(fmt.Sprintf("ready-%d", i)))
		if err != nil {
			return err
		}
		ours = append(ours, took)
		requests += b.requests.Load() - requestsBefore
		if err := rig.Sleep(ctx, settle); err != nil {
			return err
		}
		after, err := b.Writes(ctx)
		if err != nil {
			return err
		}
		spent := after.Minus(before)
		cost.AuditStreams, cost.Events = cost.AuditStreams+spent.AuditStreams, cost.Events+spent.Events

		began := time.Now()
		bareStream := jetstream.StreamConfig{Name: fmt.Sprintf("bare-%d", i), Subjects: []string{fmt.Sprintf("bare.%d.>", i)}}
		if _, err := b.JS.CreateStream(ctx, bareStream); err != nil {
			return err
		}
		bare = append(bare, time.Since(began))
	}
	runs := float64(opts.runs)
	f.ReadyMS = milliseconds(quantile(ours, 0.5))
	f.APIWritesToReady, f.NATSRequestsToReady = cost.AuditStreams/runs, float64(requests)/runs
	fmt.Printf("Creation to Ready, no migration: %.1f ms (p50 of %d); the bare request to NATS alone: %.1f ms (ratio %.1f)\n",
		f.ReadyMS, opts.runs, milliseconds(quantile(bare, 0.5)), f.ReadyMS/milliseconds(quantile(bare, 0.5)))
	fmt.Printf("Writes to the API server for one resource: %.1f of the AuditStream, %.1f events; requests to the JetStream API until Ready: %.1f\n",
		f.APIWritesToReady, cost.Events/runs, f.NATSRequestsToReady)
	return nil
}

// ready10k measures from creation to Ready with a legacy bucket, beside the same copy key by key.
func (b *bench) ready10k(ctx context.Context, opts options, f *figures) error {
	var ours, naive []time.Duration
	for i := range min(opts.runs, 3) {
		name := fmt.Sprintf("legacy-%d", i)
		if err := testenv.FillLegacyBucket(ctx, b.JS, testenv.LegacyBucket{Name: name, Entries: legacyEntries, Seed: uint64(i + 1)}); err != nil {
			return err
		}
		obj := auditStream("ready-10k-" + strconv.Itoa(i))
		obj.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: name}}
		took, err := b.createReady(ctx, obj)
		if err != nil {
			return err
		}
		ours = append(ours, took)
		stream, err := b.JS.Stream(ctx, obj.Spec.Stream)
		if err != nil {
			return err
		}
		if got := stream.CachedInfo().State.Msgs; got != legacyEntries {
			return fmt.Errorf("stream %s is Ready with %d of %d entries", obj.Spec.Stream, got, legacyEntries)
		}
		began := time.Now()
		if err := b.CopyNaively(ctx, name, "naive-"+name, 1); err != nil {
			return err
		}
		naive = append(naive, time.Since(began))
	}
	f.Ready10kMS = milliseconds(quantile(ours, 0.5))
	fmt.Printf("Creation to Ready with %d entries to migrate: %.0f ms (p50 of %d); list, get and publish one by one: %.0f ms (ratio %.2f)\n",
		legacyEntries, f.Ready10kMS, len(ours), milliseconds(quantile(naive, 0.5)), f.Ready10kMS/milliseconds(quantile(naive, 0.5)))
	return nil
}

// drift measures from a change out of band to its being healed, by the server's own advisories.
func (b *bench) drift(ctx context.Context, opts options, f *figures) error {
	const stream = "ready-0"
	updates, err := b.JS.Conn().SubscribeSync("$JS.EVENT.ADVISORY.STREAM.UPDATED." + stream)
	if err != nil {
		return err
	}
	defer func() { _ = updates.Unsubscribe() }()
	info, err := b.JS.Stream(ctx, stream)
	if err != nil {
		return err
	}
	declared := info.CachedInfo().Config
	var took []time.Duration
	for range opts.drifts {
		changed := declared
		changed.MaxAge = declared.MaxAge / 2
		began := time.Now()
		if _, err := b.JS.UpdateStream(ctx, changed); err != nil {
			return err
		}
		// The first advisory is of the change itself, the second of the healing.
		for range 2 {
			if _, err := updates.NextMsgWithContext(ctx); err != nil {
				return fmt.Errorf("waiting for the drift to be healed: %w", err)
			}
		}
		took = append(took, time.Since(began))
		now, err := info.Info(ctx)
		if err != nil {
			return err
		}
		if now.Config.MaxAge != declared.MaxAge {
			return fmt.Errorf("max_age is %s after healing, want %s", now.Config.MaxAge, declared.MaxAge)
		}
	}
	f.DriftP50MS, f.DriftP95MS = milliseconds(quantile(took, 0.5)), milliseconds(quantile(took, 0.95))
	fmt.Printf("Drift healed, from the change out of band: p50 %.1f ms, p95 %.1f ms (%d changes)\n", f.DriftP50MS, f.DriftP95MS, len(took))
	return nil
}

// idle watches an operator with many resources do nothing.
func (b *bench) idle(ctx context.Context, opts options, f *figures) error {
	existing := 1 + opts.runs + min(opts.runs, 3)
	for i := existing; i < opts.objects; i++ {
		if _, err := b.createReady(ctx, auditStream(fmt.Sprintf("idle-%d", i))); err != nil {
			return err
		}
	}
	// Copies linger for late writers, and events are written behind.
	if err := rig.Sleep(ctx, 10*time.Second); err != nil {
		return err
	}
	before, err := b.Writes(ctx)
	if err != nil {
		return err
	}
	requests := b.requests.Load()
	fmt.Printf("Watching the idle operator for %s\n", opts.idle)
	if err := rig.Sleep(ctx, opts.idle); err != nil {
		return err
	}
	after, err := b.Writes(ctx)
	if err != nil {
		return err
	}
	spent := after.Minus(before)
	f.IdleAPIWrites, f.IdleNATSRequests = spent.Sum(), float64(b.requests.Load()-requests)
	if f.RSSMB100, err = rig.ResidentMB(b.manager.Pid()); err != nil {
		return err
	}
	fmt.Printf("Idle for %s with %d resources: %.0f writes to the API server, %.0f requests to the JetStream API; the operator's memory is %.0f MB\n",
		opts.idle, opts.objects, f.IdleAPIWrites, f.IdleNATSRequests, f.RSSMB100)
	return nil
}

func quantile(values []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
