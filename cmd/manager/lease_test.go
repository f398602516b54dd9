package main

import (
	"context"
	"slices"
	"testing"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaseOf is a lock in memory. The other methods are not called.
type leaseOf struct {
	resourcelock.Interface
	holder string
}

func (l *leaseOf) Identity() string { return "me" }

func (l *leaseOf) Describe() string { return "system/lease" }

func (l *leaseOf) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	return &resourcelock.LeaderElectionRecord{HolderIdentity: l.holder}, nil, nil
}

func (l *leaseOf) Update(_ context.Context, record resourcelock.LeaderElectionRecord) error {
	l.holder = record.HolderIdentity
	return nil
}

func TestALeaderEndsWhenAnotherOneHoldsTheLease(t *testing.T) {
	lease := &leaseOf{}
	var lost []string
	lock := &fencedLock{Interface: lease, lost: func(holder string) { lost = append(lost, holder) }}
	get := func(holder string) {
		t.Helper()
		lease.holder = holder
		if _, _, err := lock.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	hold := func(holder string) {
		t.Helper()
		if err := lock.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: holder}); err != nil {
			t.Fatal(err)
		}
	}
	get("other") // it waits for the lease
	hold("me")
	get("me")
	get("") // released by hand
	if len(lost) > 0 {
		t.Fatalf("lost to %q", lost)
	}
	get("other")
	if !slices.Equal(lost, []string{"other"}) {
		t.Errorf("lost to %q, want other", lost)
	}
	hold("") // it gives the lease up itself
	get("next")
	if len(lost) != 1 {
		t.Errorf("lost to %q after the lease was given up", lost)
	}
}
