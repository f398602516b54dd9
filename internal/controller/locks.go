package controller

import "sync"

// keyedLocks serialises the read-modify-write of a stream's configuration, for which NATS has no compare-and-swap: a
// reconcile, the checkpoint of a copy and a second claimant would else undo each other's changes.
type keyedLocks struct {
	mu    sync.Mutex
	locks map[string]*countedLock
}

type countedLock struct {
	sync.Mutex
	users int
}

// lock waits for the lock of a stream and returns the function that gives it back.
func (k *keyedLocks) lock(stream string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*countedLock{}
	}
	l := k.locks[stream]
	if l == nil {
		l = &countedLock{}
		k.locks[stream] = l
	}
	l.users++
	k.mu.Unlock()

	l.Lock()
	return func() {
		l.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, stream)
		}
	}
}
