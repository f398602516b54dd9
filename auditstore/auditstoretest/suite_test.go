package auditstoretest

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

func TestStreamStore(t *testing.T) {
	TestStore(t, func(t *testing.T) auditstore.Store {
		store, _ := Run(t)
		return store
	})
}

func TestMemoryStore(t *testing.T) {
	TestStore(t, func(*testing.T) auditstore.Store { return &memory{} })
}

// recorder stands in for *testing.T.
type recorder struct {
	ctx      context.Context
	mu       sync.Mutex
	failures []string
}

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.ctx }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func record(t *testing.T, c check, store auditstore.Store) []string {
	t.Helper()
	r := &recorder{ctx: t.Context()}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.run(r, store)
	}()
	<-ended
	return r.failures
}

// A defect is what a store may get wrong, the check that has to find it, and a part of what it then says.
type defect struct {
	name, check, says string
	plant             func(b *broken)
}

var defects = []defect{
	{"loses a field", "RoundTrip", "Get", func(b *broken) {
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			e.TraceID = ""
			return b.memory.Write(ctx, e)
		}
	}},
	{"cuts the time to milliseconds", "RoundTrip", "Get", func(b *broken) {
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			e.Timestamp = e.Timestamp.Truncate(time.Millisecond)
			return b.memory.Write(ctx, e)
		}
	}},
	{"takes ids that differ in case for one", "RoundTrip", "Write", func(b *broken) {
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			e.ID = strings.ToLower(e.ID)
			return b.memory.Write(ctx, e)
		}
	}},
	{"refuses long ids", "RoundTrip", "Write", func(b *broken) {
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			if len(e.ID) > 255 {
				return auditstore.ErrInvalidID
			}
			return b.memory.Write(ctx, e)
		}
	}},
	{"returns nothing at all", "RoundTrip", "neither an entry nor an error", func(b *broken) {
		b.get = func(context.Context, string) (*auditstore.Entry, error) { return nil, nil }
	}},
	{"makes no id", "Defaults", "Write", func(b *broken) {
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			if e.ID == "" {
				return auditstore.ErrInvalidID
			}
			return b.memory.Write(ctx, e)
		}
	}},
	{"makes bad ids", "Defaults", "not a valid one", func(b *broken) {
		b.write = func(_ context.Context, e auditstore.Entry) error {
			e.ID = fmt.Sprintf("no. %d", len(b.entries))
			b.entries = append(b.entries, e)
			return nil
		}
	}},
	{"makes one id", "Defaults", "the same one", func(b *broken) {
		b.write = func(_ context.Context, e auditstore.Entry) error {
			e.ID = "new"
			b.entries = append(b.entries, e)
			return nil
		}
	}},
	{"makes no timestamp", "Defaults", "want the current time", func(b *broken) {
		b.write = func(_ context.Context, e auditstore.Entry) error {
			e.ID = auditstore.NewID()
			b.entries = append(b.entries, e)
			return nil
		}
	}},
	{"has another error for what is missing", "NotFound", "was not written", func(b *broken) {
		b.get = func(context.Context, string) (*auditstore.Entry, error) { return nil, auditstore.ErrNotReady }
	}},
	{"finds by prefix", "NotFound", "was not written", func(b *broken) {
		b.get = func(ctx context.Context, id string) (*auditstore.Entry, error) {
			for _, e := range b.entries {
				if strings.HasPrefix(e.ID, id) {
					return &e, nil
				}
			}
			return b.memory.Get(ctx, id)
		}
	}},
	{"lets a wildcard through", "InvalidID", `Get("\"*\"")`, func(b *broken) {
		b.get = func(ctx context.Context, id string) (*auditstore.Entry, error) {
			if id == "*" || id == ">" {
				id = b.entries[0].ID
			}
			return b.memory.Get(ctx, id)
		}
	}},
	{"takes a bad id for one that is missing", "InvalidID", `Get("")`, func(b *broken) {
		b.get = func(ctx context.Context, id string) (*auditstore.Entry, error) {
			if id == "" {
				return nil, auditstore.ErrNotFound
			}
			return b.memory.Get(ctx, id)
		}
	}},
	{"stores any id", "InvalidID", "Write with the id", func(b *broken) {
		b.write = func(_ context.Context, e auditstore.Entry) error {
			b.entries = append(b.entries, e)
			return nil
		}
	}},
	{"stores and complains", "InvalidID", "ListAll", func(b *broken) {
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			err := b.memory.Write(ctx, e)
			if err != nil {
				b.entries = append(b.entries, e)
			}
			return err
		}
	}},
	{"refuses the same entry", "WriteTwice", "the same entry again", func(b *broken) {
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			if b.index(e.ID) >= 0 {
				return auditstore.ErrConflict
			}
			return b.memory.Write(ctx, e)
		}
	}},
	{"stores the same entry twice", "WriteTwice", "ListAll", appendAlways},
	{"stores another entry beside", "Conflict", "an id that is taken", appendAlways},
	{"replaces the first entry", "Conflict", "Get", func(b *broken) {
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			err := b.memory.Write(ctx, e)
			if i := b.index(e.ID); i >= 0 {
				b.entries[i] = e
			}
			return err
		}
	}},
	{"keeps the first entry silently", "Conflict", "another user", func(b *broken) {
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			_ = b.memory.Write(ctx, e)
			return nil
		}
	}},
	{"keeps the caller's slice", "Isolation", "changed after Write", func(b *broken) {
		b.write = func(_ context.Context, e auditstore.Entry) error {
			b.entries = append(b.entries, e)
			return nil
		}
	}},
	{"hands out its own entry", "Isolation", "changed after Get", func(b *broken) {
		b.get = func(_ context.Context, id string) (*auditstore.Entry, error) { return &b.entries[b.index(id)], nil }
	}},
	{"lists its own entries", "Isolation", "changed after List", func(b *broken) {
		b.list = func(context.Context, int, int) ([]auditstore.Entry, int, error) {
			return b.entries, len(b.entries), nil
		}
	}},
	{"lists all its own entries", "Isolation", "changed after ListAll", func(b *broken) {
		b.listAll = func(context.Context) ([]auditstore.Entry, error) { return b.entries, nil }
	}},
	{"lists the oldest first", "NewestFirst", "ListAll", func(b *broken) {
		b.listAll = func(context.Context) ([]auditstore.Entry, error) { return b.entries, nil }
	}},
	{"lists by timestamp", "NewestFirst", "List(", func(b *broken) {
		b.list = func(ctx context.Context, limit, offset int) ([]auditstore.Entry, int, error) {
			page, total, err := b.memory.List(ctx, limit, offset)
			slices.SortFunc(page, func(a, b auditstore.Entry) int { return b.Timestamp.Compare(a.Timestamp) })
			return page, total, err
		}
	}},
	{"counts the page and not the store", "Pages", "the total", func(b *broken) {
		b.list = func(ctx context.Context, limit, offset int) ([]auditstore.Entry, int, error) {
			page, _, err := b.memory.List(ctx, limit, offset)
			return page, len(page), err
		}
	}},
	{"takes a limit of 0 for none", "Pages", "List(0, 0)", func(b *broken) {
		b.list = func(ctx context.Context, limit, offset int) ([]auditstore.Entry, int, error) {
			if limit == 0 {
				limit = math.MaxInt
			}
			return b.memory.List(ctx, limit, offset)
		}
	}},
	{"caps the limit", "Pages", "List(6, 0)", func(b *broken) {
		b.list = func(ctx context.Context, limit, offset int) ([]auditstore.Entry, int, error) {
			return b.memory.List(ctx, min(limit, 5), offset)
		}
	}},
	{"fails past the end", "Pages", "List(1, 8)", func(b *broken) {
		b.list = func(ctx context.Context, limit, offset int) ([]auditstore.Entry, int, error) {
			if offset > len(b.entries) {
				return nil, 0, auditstore.ErrInvalidRange
			}
			return b.memory.List(ctx, limit, offset)
		}
	}},
	{"takes a negative limit for none", "NegativeRange", "List(-1, 0)", func(b *broken) {
		b.list = func(ctx context.Context, limit, offset int) ([]auditstore.Entry, int, error) {
			return b.memory.List(ctx, max(limit, 0), offset)
		}
	}},
	{"takes a negative offset for none", "NegativeRange", "List(0, -1)", func(b *broken) {
		b.list = func(ctx context.Context, limit, offset int) ([]auditstore.Entry, int, error) {
			return b.memory.List(ctx, limit, max(offset, 0))
		}
	}},
	{"fails when it is empty", "Empty", "ListAll", func(b *broken) {
		b.listAll = func(context.Context) ([]auditstore.Entry, error) { return nil, auditstore.ErrNotFound }
	}},
	{"loses concurrent writes", "ConcurrentWriters", "ListAll returned", func(b *broken) {
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			if e.ID == "w3-7" {
				return nil
			}
			return b.memory.Write(ctx, e)
		}
	}},
	{"fails under concurrent writes", "ConcurrentWriters", "at once", func(b *broken) {
		b.write = func(context.Context, auditstore.Entry) error { return auditstore.ErrConflict }
	}},
	{"lets two win", "ConcurrentConflict", "at the same time as an entry that was stored", func(b *broken) {
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			_ = b.memory.Write(ctx, e)
			return nil
		}
	}},
	{"lets none win", "ConcurrentConflict", "none of", func(b *broken) {
		b.write = func(context.Context, auditstore.Entry) error { return auditstore.ErrConflict }
	}},
	{"refuses an equal entry in flight", "ConcurrentConflict", "that others write", func(b *broken) {
		var inFlight sync.Map
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			if _, taken := inFlight.LoadOrStore(e.ID, true); taken {
				return auditstore.ErrConflict
			}
			return b.memory.Write(ctx, e)
		}
	}},
	{"doubles what was raced", "ConcurrentConflict", "one for each id", func(b *broken) {
		b.listAll = func(ctx context.Context) ([]auditstore.Entry, error) {
			all, err := b.memory.ListAll(ctx)
			return slices.Concat(all, all), err
		}
	}},
	{"finds nothing when cancelled", "Cancelled", "Get with a cancelled context", func(b *broken) {
		b.get = func(ctx context.Context, id string) (*auditstore.Entry, error) {
			if ctx.Err() != nil {
				return nil, auditstore.ErrNotFound
			}
			return b.memory.Get(ctx, id)
		}
	}},
	{"dresses not found as cancelled", "Cancelled", "says more", func(b *broken) {
		b.get = func(ctx context.Context, id string) (*auditstore.Entry, error) {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("%w: %w", auditstore.ErrNotFound, ctx.Err())
			}
			return b.memory.Get(ctx, id)
		}
	}},
	{"lists too little when cancelled", "Cancelled", "List with a cancelled context", func(b *broken) {
		b.list = func(ctx context.Context, limit, offset int) ([]auditstore.Entry, int, error) {
			if ctx.Err() != nil {
				return nil, 1, nil
			}
			return b.memory.List(ctx, limit, offset)
		}
	}},
	{"lists all too short when cancelled", "Cancelled", "ListAll with a cancelled context", func(b *broken) {
		b.listAll = func(ctx context.Context) ([]auditstore.Entry, error) {
			if ctx.Err() != nil {
				return nil, nil
			}
			return b.memory.ListAll(ctx)
		}
	}},
	{"claims a cancelled write", "Cancelled", "Get", func(b *broken) {
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			if ctx.Err() != nil {
				return nil
			}
			return b.memory.Write(ctx, e)
		}
	}},
	{"locks the id of a cancelled write", "Cancelled", "Write of", func(b *broken) {
		locked := map[string]bool{}
		b.write = func(ctx context.Context, e auditstore.Entry) error {
			if locked[e.ID] = locked[e.ID] || ctx.Err() != nil; locked[e.ID] {
				return auditstore.ErrNotReady
			}
			return b.memory.Write(ctx, e)
		}
	}},
}

func appendAlways(b *broken) {
	b.write = func(_ context.Context, e auditstore.Entry) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.entries = append(b.entries, e)
		return nil
	}
}

// Every check fails on a store with the defect it is for, and every check is for one.
func TestChecksFindDefects(t *testing.T) {
	unproven := map[string]bool{}
	for _, c := range checks {
		unproven[c.name] = true
	}
	for _, d := range defects {
		t.Run(d.check+"/"+d.name, func(t *testing.T) {
			i := slices.IndexFunc(checks, func(c check) bool { return c.name == d.check })
			if i < 0 {
				t.Fatalf("there is no check %q", d.check)
			}
			delete(unproven, d.check)
			store := &broken{memory: &memory{}}
			d.plant(store)
			failures := record(t, checks[i], store)
			if !slices.ContainsFunc(failures, func(failure string) bool { return strings.Contains(failure, d.says) }) {
				t.Errorf("the check %s reported %q, want a failure that says %q", d.check, failures, d.says)
			}
		})
	}
	for name := range unproven {
		t.Errorf("no defect proves that the check %s can fail", name)
	}
}

// TestRelaysFailures runs the suite in a process of its own, because its failures would be this test's.
func TestRelaysFailures(t *testing.T) {
	const child = "AUDITSTORETEST_CHILD"
	if os.Getenv(child) != "" {
		TestStore(t, func(*testing.T) auditstore.Store {
			store := &broken{memory: &memory{}}
			appendAlways(store)
			return store
		})
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRelaysFailures$", "-test.v")
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("the suite passed on a broken store")
	}
	for _, want := range []string{"FAIL: TestRelaysFailures/Conflict", "FAIL: TestRelaysFailures/WriteTwice", "PASS: TestRelaysFailures/Pages"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the suite did not report %q:\n%s", want, out)
		}
	}
}
