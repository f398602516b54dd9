package auditstoretest

import (
	"context"
	"testing"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// TestStore checks that a store keeps what [auditstore.Store] and the documentation of its package promise, one sub-test for
// each promise:
//
//   - RoundTrip: an entry comes back as it was written, whatever valid id it has; ids that differ in case only are different.
//   - Defaults: Write makes an id and a timestamp where they are missing.
//   - NotFound: Get returns ErrNotFound for an id that was not written.
//   - InvalidID: Get and Write return ErrInvalidID for what cannot be an id, wildcards included, and nothing is stored.
//   - WriteTwice: writing the same entry again succeeds and stores nothing.
//   - Conflict: writing another entry under an id returns ErrConflict, and the first one stays.
//   - Isolation: what a caller does to values it has written or read does not reach the store.
//   - NewestFirst: List and ListAll go by when an entry was recorded, not by its Timestamp.
//   - Pages: List returns exactly what limit and offset ask for, with the exact total, also at and past the ends.
//   - NegativeRange: List returns ErrInvalidRange for a negative limit or offset.
//   - Empty: an empty store has a total of 0, and reading it is no error.
//   - ConcurrentWriters: nothing is lost or doubled, and the entries of each writer keep their order.
//   - ConcurrentConflict: of different entries that are written under one id at once, exactly one is stored.
//   - Cancelled: a call whose context is cancelled does its work or returns an error that says so: never ErrNotFound, never a
//     list that is too short. The store can be used afterwards, and the entry can be written again.
//
// TestStore calls open once for each sub-test: it returns a new and empty store, and cleans up with t.Cleanup. What cannot be
// checked from outside is not: that an entry is durable once Write returns nil, for one.
func TestStore(t *testing.T, open func(t *testing.T) auditstore.Store) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			store := open(t)
			if store == nil {
				t.Fatal("open returned no store")
			}
			c.run(t, store)
		})
	}
}

// tester is what a check needs of *testing.T. The tests of this package record failures behind it.
type tester interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// check holds one promise against a store, which is empty.
type check struct {
	name string
	run  func(t tester, store auditstore.Store)
}

var checks = []check{
	{"RoundTrip", checkRoundTrip},
	{"Defaults", checkDefaults},
	{"NotFound", checkNotFound},
	{"InvalidID", checkInvalidID},
	{"WriteTwice", checkWriteTwice},
	{"Conflict", checkConflict},
	{"Isolation", checkIsolation},
	{"NewestFirst", checkNewestFirst},
	{"Pages", checkPages},
	{"NegativeRange", checkNegativeRange},
	{"Empty", checkEmpty},
	{"ConcurrentWriters", checkConcurrentWriters},
	{"ConcurrentConflict", checkConcurrentConflict},
	{"Cancelled", checkCancelled},
}
