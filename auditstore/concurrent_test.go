package auditstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// TestPagesUnderWritersAndExpiry reads pages, new and old, while entries come at one end, go at the other, and are deleted in
// between.
func TestPagesUnderWritersAndExpiry(t *testing.T) {
	s, js, _ := open(t, func(cfg *jetstream.StreamConfig) { cfg.MaxMsgs = 60 })
	stream, err := js.Stream(t.Context(), testStream)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, js, 60)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := s.Write(t.Context(), Entry{User: "ada"}); err != nil {
					t.Errorf("writing: %v", err)
				}
				if info, err := stream.Info(t.Context()); err == nil && i%5 == 0 {
					_ = stream.DeleteMsg(t.Context(), info.State.LastSeq-10) // it may be gone already
				}
			}
		})
	}
	var pages atomic.Int64
	for _, offset := range []int{0, 20, 45} {
		wg.Go(func() {
			for ctx.Err() == nil {
				before, beforeErr := s.ListAll(t.Context())
				entries, total, err := s.List(t.Context(), 15, offset)
				after, afterErr := s.ListAll(t.Context())
				if err = errors.Join(beforeErr, err, afterErr); err != nil || total > 60 || len(entries) > 15 {
					t.Errorf("List(15, %d) gave %d of %d, %v", offset, len(entries), total, err)
				}
				expectPage(t, entries, before, after)
				pages.Add(1)
			}
		})
	}
	for deadline := time.Now().Add(3 * time.Minute); pages.Load() < 300 && time.Now().Before(deadline) && !t.Failed(); {
		if _, err := s.ListAll(t.Context()); err != nil {
			t.Errorf("ListAll: %v", err)
		}
	}
	stop()
	wg.Wait()
	if pages.Load() < 300 {
		t.Errorf("only %d pages were read", pages.Load())
	}
}

// expectPage: a page has what lay between its first and its last entry from before it was read to after that, once, and in order.
func expectPage(t *testing.T, page, before, after []Entry) {
	t.Helper()
	place := func(entries []Entry, id string) int {
		return slices.IndexFunc(entries, func(e Entry) bool { return e.ID == id })
	}
	var known []Entry // of the page, those that are there in the end
	for i, entry := range page {
		if place(page, entry.ID) != i {
			t.Errorf("%s is twice on the page %s", entry.ID, idsOf(page))
		}
		if place(after, entry.ID) >= 0 {
			known = append(known, entry)
		}
	}
	if len(known) == 0 {
		return
	}
	var want []Entry
	for _, entry := range after[place(after, known[0].ID) : place(after, known[len(known)-1].ID)+1] {
		if place(before, entry.ID) >= 0 || place(known, entry.ID) >= 0 {
			want = append(want, entry)
		}
	}
	if idsOf(known) != idsOf(want) {
		t.Errorf("a page shows %s,\nwant %s", idsOf(known), idsOf(want))
	}
}

// TestScansUnderWritersAndExpiry: what was there from before a scan to after it is in it once, whatever comes and goes.
func TestScansUnderWritersAndExpiry(t *testing.T) {
	s, js, _ := open(t, func(cfg *jetstream.StreamConfig) { cfg.MaxMsgs = 5000 })
	s.limits.probe = 100 // so that consumers read, too
	fill(t, js, 4500)
	publish(t, js, "moved", body("moved", "ada"), time.Now().Add(-time.Hour)) // so that an order by time is kept
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := s.Write(t.Context(), Entry{User: "ada"}); err != nil {
					t.Errorf("writing: %v", err)
				}
				if i%10 == 0 {
					_ = s.stream.DeleteMsg(t.Context(), uint64(3000+i)) // it may be gone already
				}
			}
		})
	}
	scans := map[string]func(yield func(Entry, error) bool){
		"newest first": s.Query(t.Context(), Query{}), "oldest first": s.Query(t.Context(), Query{Order: OldestFirst}),
		"as stored": s.Query(t.Context(), Query{Order: AsStored}), "pages": pagesOf(t, s, 333),
	}
	for range 3 {
		for name, scan := range scans {
			expectScan(t, s, name, scan)
		}
	}
	stop()
	wg.Wait()
}

// pagesOf goes through the trail by cursors.
func pagesOf(t *testing.T, s *StreamStore, limit int) func(yield func(Entry, error) bool) {
	return func(yield func(Entry, error) bool) {
		for cursor, more := Cursor(""), true; more; {
			page, err := s.Page(t.Context(), cursor, limit)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, entry := range page.Entries {
				if !yield(entry, nil) {
					return
				}
			}
			cursor, more = page.Next, page.Next != ""
		}
	}
}

func expectScan(t *testing.T, s *StreamStore, name string, scan func(yield func(Entry, error) bool)) {
	t.Helper()
	there := func() map[string]bool {
		all, err := s.ListAll(t.Context())
		if err != nil {
			t.Fatalf("ListAll: %v", err)
		}
		ids := make(map[string]bool, len(all))
		for _, entry := range all {
			ids[entry.ID] = true
		}
		return ids
	}
	before := there()
	found := map[string]bool{}
	for entry, err := range scan {
		if err != nil {
			t.Fatalf("%s, after %d entries: %v", name, len(found), err)
		}
		if found[entry.ID] {
			t.Errorf("%s shows %s twice", name, entry.ID)
		}
		found[entry.ID] = true
	}
	missing := 0
	for id := range there() {
		if before[id] && !found[id] {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%s shows %d entries and lacks %d that were there all the time", name, len(found), missing)
	}
}

func TestConcurrentStoresShareOneOrder(t *testing.T) {
	s, js, _ := open(t)
	fill(t, js, 50)
	for i := range 50 {
		id := fmt.Sprintf("m%d", i)
		publish(t, js, id, body(id, "ada"), time.Now().Add(time.Duration(i-100)*time.Minute))
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				if w == 0 {
					mustWrite(t, s, fmt.Sprintf("w%d", i))
				}
				entries, total, err := s.List(t.Context(), 30, 80)
				if err != nil || total < 100 || len(entries) < 20 || entries[len(entries)-1].ID[0] != 'm' {
					t.Errorf("List gave %q of %d, %v", idsOf(entries), total, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestClusterLosesItsLeaderUnderWriters(t *testing.T) {
	servers := natstest.RunCluster(t)
	js := servers[0].JetStream()
	cfg := streamConfig()
	cfg.Replicas = 3
	var stream jetstream.Stream
	eventually(t, "a stream with three replicas", func() (err error) {
		stream, err = js.CreateOrUpdateStream(t.Context(), cfg)
		return err
	})
	leader := leaderOf(t, stream, servers)
	other := servers[(leader+1)%len(servers)] // the writers' own server stays
	s := openOn(t, other.JetStream())

	const writers, each = 8, 150
	var wg sync.WaitGroup
	var done atomic.Int64
	half := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // the servers may take long to elect
				err := s.Write(ctx, named(fmt.Sprintf("w%d-%d", w, i)))
				cancel()
				if err != nil {
					t.Errorf("a write failed: %v", err)
				}
				if done.Add(1) == writers*each/2 {
					close(half)
				}
			}
		})
	}
	<-half
	servers[leader].Stop()
	wg.Wait()

	all, err := s.ListAll(t.Context())
	if err != nil || len(all) != writers*each {
		t.Fatalf("ListAll gave %d entries and %v, want %d", len(all), err, writers*each)
	}
	seen := map[string]bool{}
	for _, entry := range all {
		seen[entry.ID] = true
	}
	if len(seen) != writers*each {
		t.Errorf("%d different entries, want %d", len(seen), writers*each)
	}
	if entries, total, err := s.List(t.Context(), 20, 0); err != nil || total != writers*each || len(entries) != 20 {
		t.Errorf("List gave %d of %d, %v", len(entries), total, err)
	}
	for range 50 { // whatever replica answers, a write that has returned is there
		id := NewID()
		mustWrite(t, s, id)
		if _, err := s.Get(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if entries, _, err := s.List(t.Context(), 1, 0); err != nil || entries[0].ID != id {
			t.Fatalf("the newest entry is %v, %v, want %s", entries, err, id)
		}
	}
}

func leaderOf(t *testing.T, stream jetstream.Stream, servers []*natstest.Server) int {
	t.Helper()
	leader := -1
	eventually(t, "a leader of the stream", func() error {
		info, err := stream.Info(t.Context())
		if err != nil {
			return err
		}
		for i := range servers {
			if info.Cluster != nil && info.Cluster.Leader == fmt.Sprintf("n%d", i+1) {
				leader = i
				return nil
			}
		}
		return errors.New("no leader yet")
	})
	return leader
}

func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	eventuallyWithin(t, time.Minute, what, try)
}

func eventuallyWithin(t *testing.T, limit time.Duration, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	err := try()
	for err != nil && pause(ctx, 20*time.Millisecond) {
		err = try()
	}
	if err != nil {
		t.Fatalf("waited %s for %s: %v", limit, what, err)
	}
}
