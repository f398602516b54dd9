package controller

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

// futile remembers the updates that a server took and did not apply. It announces them like any other, which wakes the resource at
// once: without a memory it would be sent the same again as fast as it answers. The zero value is ready for use, and it is safe
// for concurrent use.
type futile struct {
	mu   sync.Mutex
	last map[string]futileUpdate
}

type futileUpdate struct {
	when time.Time
	left string
}

// known returns the error of a stream whose differences are those that an update has just left.
func (f *futile) known(stream string, differences []jsbuilder.Difference, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, found := f.last[stream]
	wait := slowRetry - now.Sub(last.when)
	if left := describe(differences); !found || left != last.left || wait <= 0 {
		return nil
	}
	return notApplied(stream, last.left, wait)
}

// note records what an update of a stream has left, and returns the error for it.
func (f *futile) note(stream string, left []jsbuilder.Difference, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.last, func(_ string, u futileUpdate) bool { return now.Sub(u.when) >= slowRetry })
	delete(f.last, stream)
	if len(left) == 0 {
		return nil
	}
	if f.last == nil {
		f.last = map[string]futileUpdate{}
	}
	f.last[stream] = futileUpdate{when: now, left: describe(left)}
	return notApplied(stream, describe(left), slowRetry)
}

// notApplied is the error for what a server that does not know a field ignores.
func notApplied(stream, left string, after time.Duration) error {
	return &failure.Waiting{Reason: v1alpha1.ReasonServerTooOld, After: after, Err: fmt.Errorf(
		"the NATS server took the configuration of stream %s but did not apply %s; upgrade it to 2.12 or newer", stream, left)}
}
