package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/hack/internal/rig"
)

const (
	target      = "bench-target"
	base        = "bench"
	copyTimeout = 10 * time.Minute
	poll        = 100 * time.Millisecond
	// settle is how long an operator is given to come to rest, and its last events to be written.
	settle = 3 * time.Second
)

// sample is one copy, measured.
type sample struct {
	// copying is from the first to the last entry that the stream has stored, by the times the server gave them.
	copying time.Duration
	// whole is from the request to the end: with the operator until Migrated is True, which is after every entry was
	// read back and compared.
	whole time.Duration
	// memory is the operator's largest resident set size above the idle one, in MB; writes what it wrote to the API server.
	memory float64
	writes rig.Writes
	// servers and operator are the processor time of the nats-servers and of the operator, for the whole.
	servers, operator time.Duration
}

// bench is a rig and the bucket that is copied.
type bench struct {
	*rig.Rig
	options
	replicas int
	bucket   string
	entries  int
}

// measure makes all copies between streams of so many replicas.
func measure(ctx context.Context, opts options, replicas int) (results []result, err error) {
	fmt.Printf("Starting the control plane and %d nats-server\n", replicas)
	r, err := rig.Start(ctx, replicas)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Stop()) }()
	for _, entries := range opts.sizes {
		b := &bench{Rig: r, options: opts, replicas: replicas, bucket: fmt.Sprintf("legacy-%d", entries), entries: entries}
		some, err := b.measure(ctx)
		if err != nil {
			return nil, fmt.Errorf("%d entries: %w", entries, err)
		}
		results = append(results, some...)
	}
	return results, nil
}

// measure makes all copies of one bucket.
func (b *bench) measure(ctx context.Context) ([]result, error) {
	fmt.Printf("Filling a bucket of %d replicas with %d entries\n", b.replicas, b.entries)
	if err := b.fill(ctx); err != nil {
		return nil, err
	}
	ways := []struct {
		name string
		copy func(context.Context) (sample, error)
	}{{wayOperator, b.operator}, {waySource, b.source}, {wayNaive, b.oneByOne}}
	var results []result
	for _, way := range ways {
		if way.name == wayNaive && b.entries > b.naive {
			continue
		}
		result := result{way: way.name, replicas: b.replicas, entries: b.entries}
		for range b.runs {
			s, err := b.once(ctx, way.copy)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", way.name, err)
			}
			result.samples = append(result.samples, s)
			fmt.Printf("R%d, %d entries, %s: %.1f s, %.0f a second; to the end %.1f s\n",
				b.replicas, b.entries, way.name, s.copying.Seconds(), rate(b.entries, s.copying), s.whole.Seconds())
		}
		results = append(results, result)
	}
	return results, b.JS.DeleteKeyValue(ctx, b.bucket)
}

// once makes one copy, takes the times from the stream, and deletes it.
func (b *bench) once(ctx context.Context, copy func(context.Context) (sample, error)) (sample, error) {
	before, err := b.ServersProcessorTime()
	if err != nil {
		return sample{}, err
	}
	s, err := copy(ctx)
	if err != nil {
		return sample{}, err
	}
	after, err := b.ServersProcessorTime()
	if err != nil {
		return sample{}, err
	}
	s.servers = after - before
	stream, err := b.JS.Stream(ctx, target)
	if err != nil {
		return sample{}, err
	}
	state := stream.CachedInfo().State
	if state.Msgs != uint64(b.entries) {
		return sample{}, fmt.Errorf("the stream holds %d of %d entries", state.Msgs, b.entries)
	}
	s.copying = state.LastTime.Sub(state.FirstTime)
	return s, b.JS.DeleteStream(ctx, target)
}

// operator has an operator that has just been started copy the bucket.
func (b *bench) operator(ctx context.Context) (s sample, err error) {
	manager, err := b.StartManager(ctx)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, manager.Stop(context.WithoutCancel(ctx))) }()
	obj := b.auditStream()
	s, err = b.cost(ctx, manager.Pid(), func() (time.Duration, error) {
		return b.CreateUntil(ctx, obj, v1alpha1.ConditionMigrated, copyTimeout)
	})
	if err != nil {
		return sample{}, err
	}
	return s, b.remove(ctx, obj)
}

// cost notes what a copy takes of the process that makes it, beyond what it takes when idle.
func (b *bench) cost(ctx context.Context, pid int, copy func() (time.Duration, error)) (s sample, err error) {
	if err := rig.Sleep(ctx, settle); err != nil {
		return sample{}, err
	}
	idle, err := rig.ResidentMB(pid)
	if err != nil {
		return sample{}, err
	}
	if err := rig.ResetPeak(pid); err != nil {
		return sample{}, err
	}
	before, err := b.Writes(ctx)
	if err != nil {
		return sample{}, err
	}
	began, err := rig.ProcessorTime(pid)
	if err != nil {
		return sample{}, err
	}
	if s.whole, err = copy(); err != nil {
		return sample{}, err
	}
	ended, err := rig.ProcessorTime(pid)
	if err != nil {
		return sample{}, err
	}
	s.operator = ended - began
	peak, err := rig.PeakResidentMB(pid)
	if err != nil {
		return sample{}, err
	}
	if err := rig.Sleep(ctx, settle); err != nil {
		return sample{}, err
	}
	after, err := b.Writes(ctx)
	s.memory, s.writes = peak-idle, after.Minus(before)
	return s, err
}

func (b *bench) auditStream() *v1alpha1.AuditStream {
	return &v1alpha1.AuditStream{
		ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: target},
		Spec: v1alpha1.AuditStreamSpec{
			Stream: target, Subject: base, MaxAge: b.maxAge, Replicas: int32(b.replicas),
			MigrateFrom: []v1alpha1.MigrationSource{{Bucket: b.bucket}},
		},
	}
}

// remove deletes the resource, which keeps its stream, and waits until it is gone.
func (b *bench) remove(ctx context.Context, obj *v1alpha1.AuditStream) error {
	if err := b.K8s.Delete(ctx, obj); err != nil {
		return err
	}
	return until(ctx, "the AuditStream to be deleted", func() (bool, error) {
		err := b.K8s.Get(ctx, client.ObjectKeyFromObject(obj), obj)
		return err != nil, client.IgnoreNotFound(err)
	})
}

// source has the server copy the bucket by itself. It cannot keep the entries' times, skip what is no entry, or see what is
// there already.
func (b *bench) source(ctx context.Context) (sample, error) {
	began := time.Now()
	stream, err := b.JS.CreateStream(ctx, jetstream.StreamConfig{
		Name: target, Replicas: b.replicas, AllowDirect: true, MaxAge: 30 * 24 * time.Hour,
		Sources: []*jetstream.StreamSource{{
			Name:              "KV_" + b.bucket,
			SubjectTransforms: []jetstream.SubjectTransformConfig{{Source: "$KV." + b.bucket + ".>", Destination: base + ".>"}},
		}},
	})
	if err != nil {
		return sample{}, err
	}
	err = until(ctx, "the source to be through", func() (bool, error) {
		info, err := stream.Info(ctx)
		return err == nil && info.State.Msgs >= uint64(b.entries), err
	})
	return sample{whole: time.Since(began)}, err
}

func (b *bench) oneByOne(ctx context.Context) (sample, error) {
	began := time.Now()
	err := b.CopyNaively(ctx, b.bucket, target, b.replicas)
	return sample{whole: time.Since(began)}, err
}

func until(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, copyTimeout, fmt.Errorf("waiting for %s took more than %s", what, copyTimeout))
	defer cancel()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if err := rig.Sleep(ctx, poll); err != nil {
			return err
		}
	}
}
