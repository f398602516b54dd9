package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
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
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	var ours, bare []time.Duration
	var cost writes
	var requests int64
	for i := range opts.runs {
		before, err := b.writes(ctx)
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
		if err := sleep(ctx, settle); err != nil {
			return err
		}
		after, err := b.writes(ctx)
		if err != nil {
			return err
		}
		spent := after.minus(before)
		cost.auditStreams, cost.events = cost.auditStreams+spent.auditStreams, cost.events+spent.events

		began := time.Now()
		if _, err := b.js.CreateStream(ctx, jetstream.StreamConfig{Name: fmt.Sprintf("bare-%d", i), Subjects: []string{fmt.Sprintf("bare.%d.>", i)}}); err != nil {
			return err
		}
		bare = append(bare, time.Since(began))
	}
	runs := float64(opts.runs)
	f.ReadyMS = milliseconds(quantile(ours, 0.5))
	f.APIWritesToReady, f.NATSRequestsToReady = cost.auditStreams/runs, float64(requests)/runs
	fmt.Printf("Creation to Ready, no migration: %.1f ms (p50 of %d); the bare request to NATS alone: %.1f ms (ratio %.1f)\n",
		f.ReadyMS, opts.runs, milliseconds(quantile(bare, 0.5)), f.ReadyMS/milliseconds(quantile(bare, 0.5)))
	fmt.Printf("Writes to the API server for one resource: %.1f of the AuditStream, %.1f events; requests to the JetStream API until Ready: %.1f\n",
		f.APIWritesToReady, cost.events/runs, f.NATSRequestsToReady)
	return nil
}

// ready10k measures from creation to Ready with a legacy bucket, beside the same copy key by key.
func (b *bench) ready10k(ctx context.Context, opts options, f *figures) error {
	var ours, naive []time.Duration
	for i := range min(opts.runs, 3) {
		name := fmt.Sprintf("legacy-%d", i)
		if err := testenv.FillLegacyBucket(ctx, b.js, testenv.LegacyBucket{Name: name, Entries: legacyEntries, Seed: uint64(i + 1)}); err != nil {
			return err
		}
		obj := auditStream("ready-10k-" + strconv.Itoa(i))
		obj.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: name}}
		took, err := b.createReady(ctx, obj)
		if err != nil {
			return err
		}
		ours = append(ours, took)
		stream, err := b.js.Stream(ctx, obj.Spec.Stream)
		if err != nil {
			return err
		}
		if got := stream.CachedInfo().State.Msgs; got != legacyEntries {
			return fmt.Errorf("stream %s is Ready with %d of %d entries", obj.Spec.Stream, got, legacyEntries)
		}
		if took, err = b.copyNaively(ctx, name); err != nil {
			return err
		}
		naive = append(naive, took)
	}
	f.Ready10kMS = milliseconds(quantile(ours, 0.5))
	fmt.Printf("Creation to Ready with %d entries to migrate: %.0f ms (p50 of %d); list, get and publish one by one: %.0f ms (ratio %.2f)\n",
		legacyEntries, f.Ready10kMS, len(ours), milliseconds(quantile(naive, 0.5)), f.Ready10kMS/milliseconds(quantile(naive, 0.5)))
	return nil
}

// copyNaively is what a hand-written script does: list the keys, get each, publish it.
func (b *bench) copyNaively(ctx context.Context, bucket string) (time.Duration, error) {
	target := "naive-" + bucket
	if _, err := b.js.CreateStream(ctx, jetstream.StreamConfig{Name: target, Subjects: []string{target + ".>"}}); err != nil {
		return 0, err
	}
	kv, err := b.js.KeyValue(ctx, bucket)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	keys, err := kv.ListKeys(ctx)
	if err != nil {
		return 0, err
	}
	for key := range keys.Keys() {
		entry, err := kv.Get(ctx, key)
		if err != nil {
			return 0, errors.Join(err, keys.Stop())
		}
		if _, err := b.js.Publish(ctx, target+"."+key, entry.Value()); err != nil {
			return 0, errors.Join(err, keys.Stop())
		}
	}
	return time.Since(began), nil
}

// drift measures from a change out of band to its being healed, by the server's own advisories.
func (b *bench) drift(ctx context.Context, opts options, f *figures) error {
	const stream = "ready-0"
	updates, err := b.js.Conn().SubscribeSync("$JS.EVENT.ADVISORY.STREAM.UPDATED." + stream)
	if err != nil {
		return err
	}
	defer func() { _ = updates.Unsubscribe() }()
	info, err := b.js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	declared := info.CachedInfo().Config
	var took []time.Duration
	for range opts.drifts {
		changed := declared
		changed.MaxAge = declared.MaxAge / 2
		began := time.Now()
		if _, err := b.js.UpdateStream(ctx, changed); err != nil {
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
	if err := sleep(ctx, 10*time.Second); err != nil {
		return err
	}
	before, err := b.writes(ctx)
	if err != nil {
		return err
	}
	requests := b.requests.Load()
	fmt.Printf("Watching the idle operator for %s\n", opts.idle)
	if err := sleep(ctx, opts.idle); err != nil {
		return err
	}
	after, err := b.writes(ctx)
	if err != nil {
		return err
	}
	spent := after.minus(before)
	f.IdleAPIWrites, f.IdleNATSRequests = spent.auditStreams+spent.events, float64(b.requests.Load()-requests)
	if f.RSSMB100, err = residentMB(b.manager.Pid()); err != nil {
		return err
	}
	fmt.Printf("Idle for %s with %d resources: %.0f writes to the API server, %.0f requests to the JetStream API; the operator's memory is %.0f MB\n",
		opts.idle, opts.objects, f.IdleAPIWrites, f.IdleNATSRequests, f.RSSMB100)
	return nil
}

// residentMB is the resident set size of a process, from /proc.
func residentMB(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if kb, found := strings.CutPrefix(line, "VmRSS:"); found {
			n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 64)
			return n / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmRSS", pid)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func quantile(values []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
