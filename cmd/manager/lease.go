package main

import (
	"context"
	"os"
	"sync/atomic"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/leaderelection"
	"sigs.k8s.io/controller-runtime/pkg/recorder"
)

// fencedLock is a lock whose holder ends at once when it sees that another one has it. client-go would let a leader that was
// frozen for longer than its lease work on beside its successor until the deadline for renewing has passed once more.
type fencedLock struct {
	resourcelock.Interface
	held atomic.Bool
	lost func(holder string)
	// waitedFor is who leads while this operator waits, as it was logged last.
	waitedFor string
}

func newFencedLock(config *rest.Config, opts *options) (resourcelock.Interface, error) {
	lock, err := leaderelection.NewResourceLock(config, noEvents{}, leaderelection.Options{
		LeaderElection:          opts.leaderElect,
		LeaderElectionID:        leaseName,
		LeaderElectionNamespace: opts.leaderElectionNamespace,
	})
	if err != nil || lock == nil {
		return nil, err
	}
	return &fencedLock{Interface: lock, lost: func(holder string) {
		ctrl.Log.WithName("setup").Info("Stopped the operator because another one leads", "leader", holder)
		os.Exit(1)
	}}, nil
}

func (l *fencedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	lease, raw, err := l.Interface.Get(ctx)
	if err != nil || lease.HolderIdentity == "" || lease.HolderIdentity == l.Identity() {
		return lease, raw, err
	}
	if l.held.Load() {
		l.lost(lease.HolderIdentity)
	} else if l.waitedFor != lease.HolderIdentity {
		l.waitedFor = lease.HolderIdentity
		ctrl.Log.WithName("setup").Info("Another operator leads; this one waits", "leader", lease.HolderIdentity, "lease", l.Describe())
	}
	return lease, raw, err
}

func (l *fencedLock) Create(ctx context.Context, lease resourcelock.LeaderElectionRecord) error {
	return l.note(lease, l.Interface.Create(ctx, lease))
}

func (l *fencedLock) Update(ctx context.Context, lease resourcelock.LeaderElectionRecord) error {
	return l.note(lease, l.Interface.Update(ctx, lease))
}

func (l *fencedLock) note(lease resourcelock.LeaderElectionRecord, err error) error {
	if err == nil {
		l.held.Store(lease.HolderIdentity == l.Identity())
	}
	return err
}

// noEvents has the lock write no events: the lease says itself who has it, and since when.
type noEvents struct{ recorder.Provider }

func (noEvents) GetEventRecorderFor(string) record.EventRecorder { return nil }
