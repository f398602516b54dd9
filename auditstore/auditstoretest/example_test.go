package auditstoretest_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/auditstoretest"
)

// exampleTB stands for the *testing.T that a test is given and an example is not.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (e *exampleTB) Helper()                           {}
func (e *exampleTB) Cleanup(f func())                  { e.cleanups = append(e.cleanups, f) }
func (e *exampleTB) Fatalf(format string, args ...any) { log.Panicf(format, args...) }

func (e *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "auditstoretest")
	if err != nil {
		log.Panic(err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (e *exampleTB) end() {
	for _, cleanup := range slices.Backward(e.cleanups) {
		cleanup()
	}
}

func ExampleRun() {
	t := &exampleTB{} // in a test: its *testing.T
	defer t.end()     // in a test: not needed

	store, nc := auditstoretest.Run(t)

	err := store.Write(context.Background(), auditstore.Entry{ID: "first", User: "ada"})
	fmt.Println(err, nc.IsConnected())
	entries, total, err := store.List(context.Background(), 20, 0)
	fmt.Println(entries[0].User, total, err)
	// Output:
	// <nil> true
	// ada 1 <nil>
}

// A store of one's own, here one that counts what is written.
type countingStore struct {
	auditstore.Store
	writes atomic.Int64
}

func (s *countingStore) Write(ctx context.Context, entry auditstore.Entry) error {
	s.writes.Add(1)
	return s.Store.Write(ctx, entry)
}

// In a _test.go file this is a test like any other.
func ExampleTestStore() {
	_ = func(t *testing.T) { // func TestCountingStore(t *testing.T)
		auditstoretest.TestStore(t, func(t *testing.T) auditstore.Store {
			inner, _ := auditstoretest.Run(t)
			return &countingStore{Store: inner}
		})
	}
}

// TestTheStoreOfTheExample runs what ExampleTestStore shows, which as an example has no testing.T to run it with.
func TestTheStoreOfTheExample(t *testing.T) {
	auditstoretest.TestStore(t, func(t *testing.T) auditstore.Store {
		t.Helper()
		inner, _ := auditstoretest.Run(t)
		return &countingStore{Store: inner}
	})
}
