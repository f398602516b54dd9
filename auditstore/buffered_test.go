package auditstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// heldStore is a Writer that stores in memory, fails as it is told, and waits while it is held.
type heldStore struct {
	mu     sync.Mutex
	held   chan struct{}
	fail   func(Entry) error
	tries  int
	stored []Entry
}

func (h *heldStore) Write(ctx context.Context, entry Entry) error {
	h.mu.Lock()
	h.tries++
	held, fail := h.held, h.fail
	h.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fail != nil {
		if err := fail(entry); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stored = append(h.stored, entry)
	return nil
}

func (h *heldStore) hold() (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := make(chan struct{})
	h.held = held
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.held = nil
		close(held)
	})
}

func (h *heldStore) failing(fail func(Entry) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = fail
}

func (h *heldStore) ids() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return idsOf(h.stored)
}

func (h *heldStore) tried() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tries
}

func newBuffered(t *testing.T, store Writer, cfg BufferedConfig) *Buffered {
	t.Helper()
	b, err := NewBuffered(store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stopped, cancel := context.WithCancel(context.Background())
		cancel()
		_ = b.Close(stopped)
	})
	return b
}

func take(t *testing.T, b *Buffered, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := b.Write(t.Context(), named(id)); err != nil {
			t.Fatal(err)
		}
	}
}

func mustClose(t *testing.T, b *Buffered) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func numbered(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%05d", prefix, i)
	}
	return ids
}

// inStream returns the ids in the order they are stored in, and fails on anything that is stored twice.
func inStream(t *testing.T, s *StreamStore) []string {
	t.Helper()
	ids, err := storedIDs(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func storedIDs(ctx context.Context, s *StreamStore) ([]string, error) {
	entries, err := s.ListAll(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(entries))
	for i, entry := range entries {
		ids[len(ids)-1-i] = entry.ID
	}
	stream, err := s.js.Stream(ctx, testStream)
	if err != nil {
		return nil, err
	}
	if n := stream.CachedInfo().State.Msgs; int(n) != len(ids) {
		return nil, fmt.Errorf("the stream holds %d messages for %d entries", n, len(ids))
	}
	return ids, nil
}

func wantStored(t *testing.T, s *StreamStore, want []string) {
	t.Helper()
	got := inStream(t, s)
	if !slices.Equal(got, want) {
		sorted := slices.Sorted(slices.Values(got))
		t.Errorf("the stream holds %d entries, want %d in the order written; in any order: %v",
			len(got), len(want), slices.Equal(sorted, slices.Sorted(slices.Values(want))))
	}
}

func wantStats(t *testing.T, b *Buffered, want BufferedStats) {
	t.Helper()
	got := b.Stats()
	got.OldestAge, got.SpoolBytes, got.LastError = 0, 0, nil
	if got != want {
		t.Errorf("Stats are %+v, want %+v", got, want)
	}
}

func TestBufferedStoresInOrder(t *testing.T) {
	for _, policy := range []Policy{Block, Drop, Spool} {
		t.Run(policy.String(), func(t *testing.T) {
			s, _, _ := open(t)
			cfg := BufferedConfig{Policy: policy}
			if policy == Spool {
				cfg.Dir = t.TempDir()
			}
			b := newBuffered(t, s, cfg)
			ids := numbered("e", 2000)
			take(t, b, ids...)
			mustClose(t, b)
			wantStored(t, s, ids)
			wantStats(t, b, BufferedStats{Accepted: 2000, Written: 2000})
			if entry, err := s.Get(t.Context(), "e00007"); err != nil || entry.User != "ada" || !entry.Timestamp.Equal(named("").Timestamp) {
				t.Errorf("Get gave %+v, %v", entry, err)
			}
		})
	}
}

func TestBufferedOfManyWriters(t *testing.T) {
	const writers, each = 8, 500
	for _, policy := range []Policy{Block, Spool} {
		t.Run(policy.String(), func(t *testing.T) {
			s, _, _ := open(t)
			cfg := BufferedConfig{Policy: policy}
			if policy == Spool {
				cfg.Dir = t.TempDir()
			} else {
				cfg.QueueSize = 16
			}
			b := newBuffered(t, s, cfg)
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for _, id := range numbered(fmt.Sprintf("w%d-", w), each) {
						if err := b.Write(t.Context(), named(id)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			mustClose(t, b)
			stored := inStream(t, s)
			if len(stored) != writers*each {
				t.Errorf("%d of %d entries are stored", len(stored), writers*each)
			}
			for w := range writers {
				own := slices.DeleteFunc(slices.Clone(stored), func(id string) bool { return !strings.HasPrefix(id, fmt.Sprintf("w%d-", w)) })
				if !slices.IsSorted(own) {
					t.Errorf("the entries of writer %d are in another order than it wrote them in", w)
				}
			}
		})
	}
}

func TestBufferedFillsInWhatIsMissing(t *testing.T) {
	store := &heldStore{}
	b := newBuffered(t, store, BufferedConfig{})
	before := time.Now()
	roles := []string{"admin"}
	if err := b.Write(nil, Entry{User: "ada", Roles: roles}); err != nil { //nolint:staticcheck // a nil context is met with in the wild
		t.Fatal(err)
	}
	roles[0] = "changed after Write"
	mustClose(t, b)
	got := store.stored[0]
	if !ValidID(got.ID) || got.Timestamp.Before(before.Add(-time.Second)) || got.Roles[0] != "admin" {
		t.Errorf("stored %+v", got)
	}
}

func TestBufferedRefusesAtOnce(t *testing.T) {
	s, js, _ := open(t)
	payload := int(js.Conn().MaxPayload())
	body, err := json.Marshal(named("a"))
	if err != nil {
		t.Fatal(err)
	}
	// The largest entry that the server takes, and one byte more.
	room := payload - headerBytes(testStream) - len(body)
	tests := map[string]struct {
		change func(*Entry)
		want   error
	}{
		"id":        {func(e *Entry) { e.ID = "a.b" }, ErrInvalidID},
		"timestamp": {func(e *Entry) { e.Timestamp = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, ErrInvalidEntry},
		"size":      {func(e *Entry) { e.Path += strings.Repeat("x", room+1) }, ErrTooLarge},
		"fits":      {func(e *Entry) { e.Path += strings.Repeat("x", room) }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, cfg := range []BufferedConfig{{}, {Policy: Spool, Dir: t.TempDir()}} {
				refused := make(chan error, 1)
				cfg.OnError = func(_ Entry, err error) { refused <- err }
				b := newBuffered(t, s, cfg)
				entry := named("a")
				test.change(&entry)
				err := b.Write(t.Context(), entry)
				if test.want == nil && err != nil || test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("%s: Write returned %v, want %v", cfg.Policy, err, test.want)
				}
				var named *WriteError
				if err != nil && (!errors.As(err, &named) || named.ID != entry.ID) {
					t.Errorf("%s: the error does not name the entry: %v", cfg.Policy, err)
				}
				mustClose(t, b)
				if len(refused) > 0 {
					t.Errorf("%s: refused later: %v", cfg.Policy, <-refused)
				}
			}
		})
	}
}

func TestBufferedPoliciesWithoutRoom(t *testing.T) {
	store := &heldStore{}
	release := store.hold()
	defer release()
	drop := newBuffered(t, store, BufferedConfig{Policy: Drop, QueueSize: 3})
	take(t, drop, "a", "b", "c")
	wantIs(t, drop.Write(t.Context(), named("d")), ErrDropped)
	wantStats(t, drop, BufferedStats{Depth: 3, Accepted: 3, Dropped: 1})

	block := newBuffered(t, store, BufferedConfig{QueueSize: 1, BlockTimeout: 100 * time.Millisecond})
	take(t, block, "e")
	start := time.Now()
	wantIs(t, block.Write(t.Context(), named("f")), ErrQueueFull)
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("gave up after %s", took)
	}
	wantStats(t, block, BufferedStats{Depth: 1, Accepted: 1, Dropped: 1})

	patient := newBuffered(t, store, BufferedConfig{QueueSize: 1, BlockTimeout: time.Hour})
	take(t, patient, "g")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	wantIs(t, patient.Write(ctx, named("h")), ErrQueueFull, context.DeadlineExceeded)
	waited := make(chan error)
	go func() { waited <- patient.Write(context.Background(), named("i")) }()
	release()
	if err := <-waited; err != nil {
		t.Errorf("there is room again, but Write returned %v", err)
	}
	for _, b := range []*Buffered{drop, block, patient} {
		mustClose(t, b)
	}
	if got := strings.Fields(store.ids()); !slices.Equal(slices.Sorted(slices.Values(got)), strings.Fields("a b c e g i")) {
		t.Errorf("stored %q", got)
	}
}

func TestBufferedGoesOnBehindARefusal(t *testing.T) {
	for _, policy := range []Policy{Block, Spool} {
		t.Run(policy.String(), func(t *testing.T) {
			s, _, _ := open(t, func(cfg *jetstream.StreamConfig) { cfg.MaxMsgSize = 1000 })
			other := named("taken")
			other.User = "eve"
			if err := s.Write(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, s, "same")
			type report struct {
				entry Entry
				err   error
			}
			var reports []report
			cfg := BufferedConfig{Policy: policy, OnError: func(e Entry, err error) {
				reports = append(reports, report{e, err})
				panic("a callback that panics")
			}}
			if policy == Spool {
				cfg.Dir = t.TempDir()
			}
			b := newBuffered(t, s, cfg)
			take(t, b, "first", "taken", "same", "second")
			large := named("large")
			large.Path = strings.Repeat("x", 1000)
			if err := b.Write(t.Context(), large); err != nil {
				t.Fatal(err)
			}
			take(t, b, "third")
			mustClose(t, b)
			wantStored(t, s, strings.Fields("taken same first second third"))
			wantStats(t, b, BufferedStats{Accepted: 6, Written: 4, Refused: 2})
			if len(reports) != 2 || reports[0].entry.ID != "taken" || reports[0].entry.User != "ada" || reports[1].entry.ID != "large" {
				t.Fatalf("OnError got %+v", reports)
			}
			wantIs(t, reports[0].err, ErrConflict)
			wantIs(t, reports[1].err, ErrTooLarge)
		})
	}
}

func TestBufferedTriesAgainForEver(t *testing.T) {
	for name, failure := range map[string]func(Entry) error{
		"full":    func(Entry) error { return ErrStreamFull },
		"away":    func(Entry) error { return ErrNotReady },
		"unknown": func(Entry) error { return errors.New("something else") },
		"panic":   func(Entry) error { panic("the store is in trouble") },
	} {
		t.Run(name, func(t *testing.T) {
			store := &heldStore{}
			store.failing(failure)
			b := newBuffered(t, store, BufferedConfig{OnError: func(_ Entry, err error) { t.Errorf("OnError got %v", err) }})
			take(t, b, "a", "b")
			eventually(t, "a few tries", func() error {
				if n := store.tried(); n < 4 {
					return fmt.Errorf("%d tries", n)
				}
				return nil
			})
			if stats := b.Stats(); stats.LastError == nil || stats.OldestAge <= 0 || stats.Depth != 2 {
				t.Errorf("Stats are %+v", stats)
			}
			store.failing(nil)
			mustClose(t, b)
			if got := store.ids(); got != "a b" {
				t.Errorf("stored %q", got)
			}
			if stats := b.Stats(); stats.LastError != nil || stats.OldestAge != 0 {
				t.Errorf("Stats are %+v", stats)
			}
		})
	}
}

func TestBufferedClose(t *testing.T) {
	store := &heldStore{}
	defer store.hold()()
	before := runtime.NumGoroutine()
	for _, cfg := range []BufferedConfig{{QueueSize: 4}, {Policy: Spool, Dir: t.TempDir()}} {
		b := newBuffered(t, store, cfg)
		take(t, b, "a", "b", "c", "d")
		waiting := make(chan error, 1)
		if cfg.Policy == Block {
			go func() { waiting <- b.Write(context.Background(), named("e")) }()
		} else {
			waiting <- ErrClosed
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := b.Close(ctx)
		cancel()
		wantIs(t, err, ErrNotForwarded)
		wantIs(t, <-waiting, ErrClosed)
		wantIs(t, b.Write(t.Context(), named("f")), ErrClosed)
		if !strings.Contains(fmt.Sprint(err), ": 4 are") || b.Close(t.Context()).Error() != err.Error() {
			t.Errorf("Close returned %v and then %v", err, b.Close(t.Context()))
		}
	}
	eventually(t, "the goroutines to end", func() error {
		if n := runtime.NumGoroutine(); n > before {
			return fmt.Errorf("%d goroutines, before %d", n, before)
		}
		return nil
	})
}

// lingering is a Writer that takes a while to end with its context.
type lingering struct{ begun, ended atomic.Bool }

func (l *lingering) Write(ctx context.Context, _ Entry) error {
	l.begun.Store(true)
	<-ctx.Done()
	pause(context.Background(), 100*time.Millisecond)
	l.ended.Store(true)
	return ctx.Err()
}

func TestBufferedCloseWaitsForTheStore(t *testing.T) {
	store := &lingering{}
	b := newBuffered(t, store, BufferedConfig{})
	take(t, b, "a")
	eventually(t, "the store to be asked", func() error {
		if !store.begun.Load() {
			return errors.New("not yet")
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantIs(t, b.Close(ctx), ErrNotForwarded)
	if !store.ended.Load() {
		t.Error("Close returned while the store was still writing")
	}
}

// TestBufferedCloseAgainstWriters proves that a Write that returned nil is either stored or counted by Close.
func TestBufferedCloseAgainstWriters(t *testing.T) {
	for range 20 {
		store := &heldStore{}
		b := newBuffered(t, store, BufferedConfig{QueueSize: 4})
		var taken atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for b.Write(context.Background(), named("")) == nil {
					taken.Add(1)
				}
			})
		}
		eventually(t, "some entries", func() error {
			if taken.Load() < 50 {
				return errors.New("too few")
			}
			return nil
		})
		mustClose(t, b)
		wg.Wait()
		if n := int64(len(store.stored)); n != taken.Load() || b.Stats().Depth != 0 {
			t.Fatalf("%d were taken, %d stored, %d are left", taken.Load(), n, b.Stats().Depth)
		}
	}
}

func TestBufferedConfigIsChecked(t *testing.T) {
	store := &heldStore{}
	dir := t.TempDir()
	tests := map[string]struct {
		store Writer
		cfg   BufferedConfig
		want  string
	}{
		"no store":         {nil, BufferedConfig{}, "store"},
		"nil store":        {(*StreamStore)(nil), BufferedConfig{}, "store"},
		"zero store":       {&StreamStore{}, BufferedConfig{}, "store"},
		"zero lazy store":  {&LazyWriter{}, BufferedConfig{}, "store"},
		"policy":           {store, BufferedConfig{Policy: 7}, "Policy"},
		"queue size":       {store, BufferedConfig{QueueSize: -1}, "QueueSize"},
		"block timeout":    {store, BufferedConfig{BlockTimeout: -time.Second}, "BlockTimeout"},
		"drop waits":       {store, BufferedConfig{Policy: Drop, BlockTimeout: time.Second}, "BlockTimeout"},
		"block with dir":   {store, BufferedConfig{Dir: dir}, "Dir"},
		"drop with spool":  {store, BufferedConfig{Policy: Drop, MaxSpoolBytes: 1 << 30}, "MaxSpoolBytes"},
		"spool, no dir":    {store, BufferedConfig{Policy: Spool}, "Dir"},
		"spool with queue": {store, BufferedConfig{Policy: Spool, Dir: dir, QueueSize: 5}, "QueueSize"},
		"spool waits":      {store, BufferedConfig{Policy: Spool, Dir: dir, BlockTimeout: 5}, "BlockTimeout"},
		"small spool":      {store, BufferedConfig{Policy: Spool, Dir: dir, MaxSpoolBytes: 5}, "MaxSpoolBytes"},
		"negative spool":   {store, BufferedConfig{Policy: Spool, Dir: dir, MaxSpoolBytes: math.MinInt64}, "MaxSpoolBytes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := NewBuffered(test.store, test.cfg)
			wantIs(t, err, ErrInvalidConfig)
			if b != nil || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("got %v, and an error that does not name %s: %v", b, test.want, err)
			}
		})
	}
	var none *Buffered
	wantIs(t, none.Write(t.Context(), named("a")), ErrInvalidConfig)
	wantIs(t, (&Buffered{}).Write(t.Context(), named("a")), ErrInvalidConfig)
	if err := errors.Join(none.Close(t.Context()), (&Buffered{}).Close(t.Context())); err != nil || none.Stats() != (BufferedStats{}) {
		t.Errorf("Close of nothing returned %v", err)
	}
}
