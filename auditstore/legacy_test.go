package auditstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Each test here is a defect of the reader that this package replaces.

func TestLegacyDefect_InteriorDeletesHideTheNewestEntries(t *testing.T) {
	s, js, _ := open(t)
	mustWrite(t, s, "a", "b", "c", "d", "e", "f")
	remove(t, js, 2, 4)
	for _, test := range []struct {
		limit, offset int
		want          string
	}{{2, 0, "f e"}, {2, 2, "c a"}, {2, 1, "e c"}, {10, 0, "f e c a"}, {3, 3, "a"}, {3, 4, ""}, {0, 0, ""}} {
		if got, total := list(t, s, test.limit, test.offset); got != test.want || total != 4 {
			t.Errorf("List(%d, %d) is %q of %d, want %q of 4", test.limit, test.offset, got, total, test.want)
		}
	}
}

func TestLegacyDefect_EveryListLeavesAConsumer(t *testing.T) {
	s, js, _ := open(t)
	s.limits.probe = 10 // so that ListAll, and List of moved entries, use a consumer
	fill(t, js, 40)
	publish(t, js, "old", body("old", "ada"), time.Now().Add(-time.Hour))
	for range 50 {
		list(t, s, 5, 0)
		list(t, s, 5, 20)
	}
	if _, err := s.ListAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	noConsumers(t, js)
}

// TestLegacyDefect_ListAllIsCutShort: the legacy reader waited 5 seconds at most, and returned what it had got by then, with a nil
// error. It is not the size that shows that here, which it would perhaps have read in time, but the second part: a read that
// cannot be completed fails, and returns nothing. The size makes the read go through a consumer, in many batches.
func TestLegacyDefect_ListAllIsCutShort(t *testing.T) {
	s, js, srv := open(t)
	const total = 30_000
	fill(t, js, total)
	entries, err := s.ListAll(t.Context())
	if err != nil || len(entries) != total || entries[0].ID != "e29999" || entries[total-1].ID != "e0" {
		t.Fatalf("ListAll gave %d entries and error %v, want %d from e29999 to e0", len(entries), err, total)
	}
	snap, err := s.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.limits.request, s.limits.try = 500*time.Millisecond, 100*time.Millisecond
	seen := 0
	err = s.walk(t.Context(), snap, 0, func(*message) error {
		if seen++; seen == 1 {
			srv.Stop()
		}
		return nil
	})
	wantIs(t, err, ErrIncomplete, ErrNotReady)
	if seen == 0 || seen == total {
		t.Errorf("the server was to go away in the middle, but %d of %d messages were read", seen, total)
	}
	entries, err = s.ListAll(t.Context())
	wantIs(t, err, ErrNotReady)
	if entries != nil {
		t.Errorf("a failed ListAll returned %d entries", len(entries))
	}
}

func TestLegacyDefect_WildcardIDsReturnSomeEntry(t *testing.T) {
	s, _, _ := open(t)
	mustWrite(t, s, "a")
	for _, id := range []string{"*", ">", "", "a.b", "a.", ".", "a b", "a\tb", "a\n", "a*", "\x00", "\xff"} {
		entry, err := s.Get(t.Context(), id)
		if entry != nil {
			t.Errorf("Get(%q) returned %+v", id, entry)
		}
		wantIs(t, err, ErrInvalidID)
	}
}

func TestLegacyDefect_TimeoutsAreReportedAsNotFound(t *testing.T) {
	s, _, srv := open(t)
	mustWrite(t, s, "a")
	_, err := s.Get(t.Context(), "b")
	wantIs(t, err, ErrNotFound)
	srv.Stop()
	s.limits.request, s.limits.try = 300*time.Millisecond, 100*time.Millisecond
	for _, id := range []string{"a", "b"} {
		_, err = s.Get(t.Context(), id)
		wantIs(t, err, ErrNotReady)
		if errors.Is(err, ErrNotFound) {
			t.Errorf("without a server, Get(%q) says not found: %v", id, err)
		}
	}
	_, _, err = s.List(t.Context(), 1, 0)
	wantIs(t, err, ErrNotReady)
}

func TestLegacyDefect_NegativeLimitPanics(t *testing.T) {
	s, _, _ := open(t)
	mustWrite(t, s, "a")
	for _, test := range [][2]int{{-1, 0}, {1, -1}, {-1 << 63, -1 << 63}} {
		entries, total, err := s.List(t.Context(), test[0], test[1])
		wantIs(t, err, ErrInvalidRange)
		if entries != nil || total != 0 {
			t.Errorf("List(%d, %d) returned %v, %d", test[0], test[1], entries, total)
		}
	}
	const most = 1<<63 - 1
	if got, _ := list(t, s, most, 0); got != "a" {
		t.Errorf("List of everything is %q", got)
	}
	if got, _ := list(t, s, most, most); got != "" {
		t.Errorf("List far below the end is %q", got)
	}
}

func TestLegacyDefect_SecondWriteReplacesTheFirst(t *testing.T) {
	s, js, _ := open(t)
	mustWrite(t, s, "a", "b")
	other := named("a")
	other.User = "eve"
	wantIs(t, s.Write(t.Context(), other), ErrConflict)
	publish(t, js, "a", body("a", "eve")) // a program that does not ask
	mustWrite(t, s, "c")
	entry, err := s.Get(t.Context(), "a")
	if err != nil || entry.User != "ada" {
		t.Errorf("Get returned %+v and error %v, want the first entry", entry, err)
	}
	for offset, want := range []string{"c b a", "b a", "a", ""} {
		if got, total := list(t, s, 3, offset); got != want || total != 3 {
			t.Errorf("List(3, %d) is %q of %d, want %q of 3", offset, got, total, want)
		}
	}
	all, err := s.ListAll(t.Context())
	if err != nil || idsOf(all) != "c b a" || all[2].User != "ada" {
		t.Errorf("ListAll is %+v with error %v", all, err)
	}
	remove(t, js, 1) // what is left under the id is its first message now
	if got, total := list(t, s, 3, 0); got != "c a b" || total != 3 {
		t.Errorf("after the first was removed List is %q of %d, want c a b of 3", got, total)
	}
}

func TestLegacyDefect_CorruptEntriesShiftOrEndAnExport(t *testing.T) {
	s, js, _ := open(t)
	bad := map[string]string{"x1": "{", "x2": "null", "x3": "[]", "x4": "", "x5": `{"user":"ada"}`, "x6": `{"id":"x5"}`,
		"x7": `{"id":"x7","timestamp":5}`, "x8.y": `{"id":"x8.y"}`}
	mustWrite(t, s, "a")
	for _, id := range []string{"x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8.y"} {
		publish(t, js, id, []byte(bad[id]))
	}
	mustWrite(t, s, "b", "c")
	if got, total := list(t, s, 2, 0); got != "c b" || total != 11 {
		t.Errorf("the first page is %q of %d", got, total)
	}
	entries, total, err := s.List(t.Context(), 9, 1)
	if idsOf(entries) != "b" || total != 11 {
		t.Errorf("the second page is %q of %d, want b of 11", idsOf(entries), total)
	}
	wantSequences(t, err, 9, 8, 7, 6, 5, 4, 3, 2)
	all, err := s.ListAll(t.Context())
	if idsOf(all) != "c b a" {
		t.Errorf("ListAll is %q", idsOf(all))
	}
	wantSequences(t, err, 9, 8, 7, 6, 5, 4, 3, 2)
	for _, probe := range []int{s.limits.probe, 0} { // one by one, and by a consumer
		s.limits.probe = probe
		var out bytes.Buffer
		n, err := s.Export(t.Context(), &out, ExportOptions{})
		wantSequences(t, err, 2, 3, 4, 5, 6, 7, 8, 9)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if n != 3 || len(lines) != 11 {
			t.Fatalf("Export wrote %d entries in %d lines, want 3 in 11:\n%s", n, len(lines), out.String())
		}
		for i, line := range lines {
			want := fmt.Sprintf(`{"corrupt":{"sequence":%d}}`, i+1)
			if id := "a        bc"[i : i+1]; id != " " {
				want = fmt.Sprintf(`{"id":%q,`, id)
			}
			if !strings.HasPrefix(line, want) {
				t.Errorf("line %d is %s, want %s", i+1, line, want)
			}
		}
	}
	_, err = s.Get(t.Context(), "x1")
	wantSequences(t, err, 2)
}

// wantSequences looks for a *CorruptError of each sequence, in this order.
func wantSequences(t *testing.T, err error, want ...uint64) {
	t.Helper()
	wantIs(t, err, ErrCorrupt)
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && len(want) > 1 {
		all = joined.Unwrap()
	}
	if len(all) != len(want) {
		t.Fatalf("%d errors, want %d: %v", len(all), len(want), err)
	}
	for i, err := range all {
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.Sequence != want[i] {
			t.Errorf("error %d is %v, want sequence %d", i, err, want[i])
		}
	}
}

func TestLegacyDefect_TimedOutWriteThatWasStoredCountsAsLost(t *testing.T) {
	s, js, _ := open(t)
	patient(s)
	var calls atomic.Int64
	s.publisher = publisherFunc(func(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
		ack, err := js.PublishMsg(ctx, msg, opts...)
		if calls.Add(1) == 1 && err == nil {
			return nil, context.DeadlineExceeded // the acknowledgement is lost
		}
		return ack, err
	})
	mustWrite(t, s, "a")
	if got, total := list(t, s, 5, 0); got != "a" || total != 1 || calls.Load() != 2 {
		t.Errorf("after %d tries the stream holds %q of %d", calls.Load(), got, total)
	}
}
