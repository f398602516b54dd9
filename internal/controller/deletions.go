package controller

import (
	"fmt"
	"sync"
	"time"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
)

// deletionSettle is how long after the deletion of a stream none of its name is created. A server (seen with 2.15.2)
// forgets the stream and sends the advisory first, and moves the stream's directory away at the end: a stream that is
// created in between loses its files, answers to everything, and stores nothing.
const deletionSettle = 2 * time.Second

// deletions remembers which streams have been deleted a moment ago. It is safe for concurrent use.
type deletions struct {
	mu    sync.Mutex
	times map[string]time.Time
}

// missing records that the stream was found deleted, unless its deletion is known.
func (d *deletions) missing(stream string, now time.Time) {
	d.mu.Lock()
	_, known := d.times[stream]
	d.mu.Unlock()
	if !known {
		d.deleted(stream, now)
	}
}

// deleted records that the stream is being deleted at the time.
func (d *deletions) deleted(stream string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.times == nil {
		d.times = map[string]time.Time{}
	}
	for name, when := range d.times {
		if now.Sub(when) > 10*deletionSettle {
			delete(d.times, name)
		}
	}
	d.times[stream] = now
}

// settled says whether a stream of the name may be created. claimed says that the resource has had it: it did not ask for the
// deletion then.
func (d *deletions) settled(stream string, claimed bool, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	when, known := d.times[stream]
	if !known {
		return nil
	}
	left := deletionSettle - now.Sub(when)
	if left <= 0 {
		return nil
	}
	text := "a stream %s was deleted a moment ago; this one is made once NATS is through with that"
	if claimed {
		text = "stream %s was deleted out of band; it is made again in a moment"
	}
	return &failure.Waiting{Reason: v1alpha1.ReasonStreamDeleted, After: left, Err: fmt.Errorf(text, stream)}
}

// forget is for a stream that exists.
func (d *deletions) forget(stream string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.times, stream)
}
