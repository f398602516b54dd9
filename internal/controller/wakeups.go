package controller

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
)

// How often a resource is answered at once, by what wakes it, and how often beyond that. A hundred changes of a stream by hand are
// all answered at once; a status is overwritten by an operator that has lost its lease, a few times at most.
const (
	changesAtOnce, changesEvery       = 300, time.Second
	overwritesAtOnce, overwritesEvery = 10, 10 * time.Second
)

// wakeups bounds how often a resource is woken by changes that its reconcile may answer with a change of its own: with another
// operator or tool that does the same, both would go round as fast as NATS and the API server let them. It is safe for concurrent
// use.
type wakeups struct {
	atOnce int
	every  time.Duration

	mu     sync.Mutex
	limits map[types.NamespacedName]*rate.Limiter
}

func newWakeups(atOnce int, every time.Duration) *wakeups {
	return &wakeups{atOnce: atOnce, every: every, limits: map[types.NamespacedName]*rate.Limiter{}}
}

// delay is how long a resource has to wait that is to be woken now.
func (w *wakeups) delay(key types.NamespacedName, now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	limit, known := w.limits[key]
	if !known {
		limit = rate.NewLimiter(rate.Every(w.every), w.atOnce)
		w.limits[key] = limit
	}
	if limit.AllowN(now, 1) {
		return 0
	}
	return w.every
}

func (w *wakeups) forget(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.limits, key)
}
