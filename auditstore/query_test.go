package auditstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// seen writes what was read as the ids of entries and the sequences of corrupt messages, in their order.
type seen []string

func (l *seen) entry(e Entry)           { *l = append(*l, e.ID) }
func (l *seen) corrupt(sequence uint64) { *l = append(*l, fmt.Sprint("!", sequence)) }

func (l *seen) add(t *testing.T, entry Entry, err error) {
	t.Helper()
	var corrupt *CorruptError
	switch {
	case err == nil:
		l.entry(entry)
	case errors.As(err, &corrupt):
		l.corrupt(corrupt.Sequence)
	default:
		t.Fatalf("reading failed: %v", err)
	}
}

// below are the places of the trail that are older than one of them, newest first.
func (m *model) below(last *stored) []stored {
	all := m.entries()
	if last == nil {
		return all
	}
	return slices.DeleteFunc(all, func(one stored) bool {
		c := one.at.Compare(last.at)
		return c > 0 || c == 0 && one.sequence >= last.sequence
	})
}

// checkCursor goes from page to page while the stream changes.
func (m *model) checkCursor(s *StreamStore) {
	m.t.Helper()
	var cursor Cursor
	var last *stored
	for {
		left, limit := m.below(last), 1+m.random.IntN(9)
		want := left[:min(limit, len(left))]
		page, err := s.Page(m.t.Context(), cursor, limit)
		if page == nil {
			m.t.Fatalf("Page: %v", err)
		}
		if got := describeRead(m.t, page.Entries, err); got != describe(want) || page.Total != len(m.entries()) ||
			(page.Next == "") != (len(want) == len(left)) {
			m.t.Fatalf("a page of %d after %+v is %q of %d, next %q,\nwant %q of %d\nof %+v", limit, last, got, page.Total, page.Next,
				describe(want), len(m.entries()), m.live)
		}
		if page.Next == "" {
			return
		}
		cursor, last = page.Next, &want[len(want)-1]
		if m.random.IntN(3) == 0 {
			m.add()
			m.remove()
		}
	}
}

// expect is what a scan has to see.
func (m *model) expect(q *Query) []string {
	all := m.entries()
	switch q.Order {
	case OldestFirst:
		slices.Reverse(all)
	case AsStored:
		slices.SortFunc(all, func(a, b stored) int { return cmp.Compare(a.sequence, b.sequence) })
	}
	var want seen
	for _, one := range all {
		if !q.From.IsZero() && one.at.Before(q.From.Add(-earliness)) {
			continue
		}
		if one.corrupt {
			want.corrupt(one.sequence)
		} else if e := one.entry; (q.From.IsZero() || !e.Timestamp.Before(q.From)) && (q.To.IsZero() || e.Timestamp.Before(q.To)) &&
			(q.User == "" || q.User == e.User) && (q.Method == "" || q.Method == e.Method) && (q.TraceID == "" || q.TraceID == e.TraceID) &&
			(q.PathPrefix == "" || strings.HasPrefix(e.Path, q.PathPrefix)) && (q.ResponseCode == 0 || q.ResponseCode == e.ResponseCode) {
			want.entry(e)
		}
	}
	return want
}

func (m *model) query() Query {
	sometimes := func(set func()) {
		if m.random.IntN(4) == 0 {
			set()
		}
	}
	q := Query{Order: Order(1 + m.random.IntN(3))}
	sometimes(func() { q.User = "ada" })
	sometimes(func() { q.Method = "POST" })
	sometimes(func() { q.TraceID = "4bf92f3577b34da6a3ce929d0e0e4736" })
	sometimes(func() { q.PathPrefix = "/nodes" })
	sometimes(func() { q.ResponseCode = 404 })
	now := time.Now().Add(-time.Duration(m.random.IntN(9)) * time.Minute)
	sometimes(func() { q.From = now })
	sometimes(func() { q.To = now.Add(3 * time.Minute) })
	return q
}

func (m *model) checkQueries(s *StreamStore) {
	m.t.Helper()
	for range 4 {
		q := m.query()
		var got seen
		for entry, err := range s.Query(m.t.Context(), q) {
			got.add(m.t, entry, err)
		}
		if want := m.expect(&q); !slices.Equal(got, want) {
			m.t.Fatalf("%+v yields\n%v, want\n%v\nof %+v", q, got, want, m.live)
		}
	}
}

func (m *model) checkExport(s *StreamStore) {
	m.t.Helper()
	q := m.query()
	want := m.expect(&q)
	corrupt := 0
	for _, one := range want {
		if one[0] == '!' {
			corrupt++
		}
	}
	for format, read := range map[Format]func(*testing.T, []byte) []string{JSONLines: readLines, CSV: readTable} {
		var out bytes.Buffer
		n, err := s.Export(m.t.Context(), &out, ExportOptions{Query: q, Format: format})
		if n != len(want)-corrupt || (err == nil) != (corrupt == 0) || err != nil && !errors.Is(err, ErrCorrupt) {
			m.t.Fatalf("Export wrote %d entries and returned %v, want %d and %d corrupt", n, err, len(want)-corrupt, corrupt)
		}
		if got := read(m.t, out.Bytes()); !slices.Equal(got, want) {
			m.t.Fatalf("format %d holds\n%v, want\n%v", format, got, want)
		}
	}
}

func readLines(t *testing.T, data []byte) []string {
	t.Helper()
	var got seen
	for line := range bytes.Lines(data) {
		var one struct {
			ID      string
			Corrupt *struct{ Sequence uint64 }
		}
		switch err := json.Unmarshal(line, &one); {
		case err != nil:
			t.Fatalf("%q: %v", line, err)
		case one.Corrupt != nil:
			got.corrupt(one.Corrupt.Sequence)
		default:
			got.entry(Entry{ID: one.ID})
		}
	}
	return got
}

func readTable(t *testing.T, data []byte) []string {
	t.Helper()
	records, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil || !slices.Equal(records[0], columns) {
		t.Fatalf("records %v: %v", records, err)
	}
	var got seen
	for _, r := range records[1:] {
		if r[0] != "" {
			if r[3] != `["admin","a,b"]` && r[3] != "[]" {
				t.Errorf("roles are %s", r[3])
			}
			got.entry(Entry{ID: r[0]})
			continue
		}
		sequence, err := strconv.ParseUint(r[len(r)-1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		got.corrupt(sequence)
	}
	return got
}

func TestQueryRefusesWhatMeansNothing(t *testing.T) {
	s, _, _ := open(t)
	now := time.Now()
	for name, q := range map[string]Query{
		"From is %s": {From: now, To: now}, "ResponseCode is -1": {ResponseCode: -1}, "Order is 4": {Order: 4}, "Order is -1": {Order: -1},
	} {
		n := 0
		for _, err := range s.Query(t.Context(), q) {
			n++
			wantIs(t, err, ErrInvalidQuery)
			if field, _, _ := strings.Cut(name, " "); !strings.Contains(err.Error(), field) {
				t.Errorf("%v does not name %s", err, field)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d errors were yielded", name, n)
		}
	}
	if n, err := s.Export(t.Context(), &bytes.Buffer{}, ExportOptions{Format: 2}); n != 0 || !errors.Is(err, ErrInvalidQuery) {
		t.Errorf("Export in format 2: %d, %v", n, err)
	}
	for _, err := range (*StreamStore)(nil).Query(nil, Query{}) { //nolint:staticcheck // a nil context is what is tested
		wantIs(t, err, ErrInvalidConfig)
	}
}

// TestQueryReadsNoMoreThanItHasTo leaves out what was recorded too early to match, and what its caller does not wait for.
func TestQueryReadsNoMoreThanItHasTo(t *testing.T) {
	for order := NewestFirst; order <= AsStored; order++ {
		for _, moved := range []bool{false, true} {
			s, js, srv := open(t)
			g := newGateway(t, srv)
			if moved { // so that the order by time has to be kept
				publish(t, js, "new", body("new", "ada"))
			}
			for i := range 3000 {
				id := fmt.Sprint("old", i)
				publish(t, js, id, body(id, "ada"), time.Now().Add(-48*time.Hour))
			}
			if err := s.Write(t.Context(), Entry{ID: "now", User: "ada"}); err != nil {
				t.Fatal(err)
			}
			s = patient(openOn(t, g.js))
			if _, _, err := s.List(t.Context(), 1, 2000); err != nil { // so that the order is known
				t.Fatal(err)
			}
			before := g.asked.Load()
			n := 0
			for entry, err := range s.Query(t.Context(), Query{Order: order, From: time.Now().Add(-time.Hour)}) {
				if n++; err != nil || entry.ID != "now" {
					t.Errorf("order %d yields %+v, %v", order, entry, err)
				}
			}
			if asked := g.asked.Load() - before; n != 1 || order != AsStored && asked > 200 {
				t.Errorf("order %d (moved %t) took %d requests and yielded %d", order, moved, asked, n)
			}
		}
	}
}

func TestQueryCanBeLeft(t *testing.T) {
	s, js, _ := open(t)
	s.limits.probe = 10
	fill(t, js, 3000)
	publish(t, js, "old", body("old", "ada"), time.Now().Add(-time.Hour))
	for order, want := range map[Order]string{NewestFirst: "e2999", OldestFirst: "old", AsStored: "e0"} {
		for entry, err := range s.Query(t.Context(), Query{Order: order}) {
			if err != nil || entry.ID != want {
				t.Errorf("order %d begins with %q, %v, want %s", order, entry.ID, err, want)
			}
			break
		}
	}
	noConsumers(t, js)
}

// TestQuerySlowerThanTheServer takes its time over the first entries; no time-out may count that.
func TestQuerySlowerThanTheServer(t *testing.T) {
	s, js, _ := open(t)
	s.limits.probe, s.limits.request, s.limits.try = 10, time.Second, 500*time.Millisecond
	fill(t, js, 3000)
	for order := NewestFirst; order <= AsStored; order++ {
		n := 0
		for _, err := range s.Query(t.Context(), Query{Order: order}) {
			if err != nil {
				t.Fatalf("order %d after %d: %v", order, n, err)
			}
			if n++; n == 2 {
				time.Sleep(2 * s.limits.request)
			}
		}
		if n != 3000 {
			t.Errorf("order %d yields %d entries, want 3000", order, n)
		}
	}
}

// TestQuerySaysWhenItIsCutShort loses the server in the middle.
func TestQuerySaysWhenItIsCutShort(t *testing.T) {
	for order := NewestFirst; order <= AsStored; order++ {
		s, js, srv := open(t)
		s.limits.probe = 10
		fill(t, js, 30_000)
		n, last := 0, error(nil)
		for _, err := range s.Query(t.Context(), Query{Order: order}) {
			if last = err; err == nil {
				if n++; n == 1 {
					s.limits.request, s.limits.try = 500*time.Millisecond, 100*time.Millisecond
					srv.Stop()
				}
			}
		}
		wantIs(t, last, ErrNotReady)
		if n == 0 || n == 30_000 {
			t.Errorf("the server was to go away in the middle, but %d entries were read", n)
		}
	}
}

func TestExportKeepsEveryFieldAndTellsProgress(t *testing.T) {
	s, js, _ := open(t)
	publish(t, js, "a", []byte("{\n \"id\":\"a\",\r\n \"extra\": {\"x\": \"a\\nb\"}}"))
	for i := range 25 {
		publish(t, js, fmt.Sprint("x", i), []byte("{"))
	}
	fill(t, js, 2000)
	var out bytes.Buffer
	var progress []string
	n, err := s.Export(t.Context(), &out, ExportOptions{Query: Query{PathPrefix: "", User: ""}, Progress: func(done, total int) {
		progress = append(progress, fmt.Sprint(done, "/", total))
	}})
	if n != 2001 || !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "and 15 more") || !strings.Contains(err.Error(), "sequence 11,") {
		t.Errorf("Export: %d, %v", n, err)
	}
	first, _, _ := bytes.Cut(out.Bytes(), []byte("\n"))
	if want := `{"id":"a","extra":{"x":"a\nb"}}`; string(first) != want {
		t.Errorf("the first line is %s, want %s", first, want)
	}
	if want := []string{"1000/2026", "2000/2026", "2026/2026"}; !slices.Equal(progress, want) {
		t.Errorf("progress is %v, want %v", progress, want)
	}
}

type brokenWriter struct{ left int }

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, context.DeadlineExceeded
	}
	return len(p), nil
}

func TestExportReportsItsWriter(t *testing.T) {
	s, js, _ := open(t)
	fill(t, js, 10_000)
	for _, format := range []Format{JSONLines, CSV} {
		for _, room := range []int{0, 100_000} {
			_, err := s.Export(t.Context(), &brokenWriter{left: room}, ExportOptions{Format: format})
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrIncomplete) {
				t.Errorf("format %d with room for %d bytes: %v", format, room, err)
			}
		}
	}
}

// TestExportCountsWhatItHasWritten also where it fails.
func TestExportCountsWhatItHasWritten(t *testing.T) {
	s, js, srv := open(t)
	fill(t, js, 30_000)
	var out bytes.Buffer
	n, err := s.Export(t.Context(), &out, ExportOptions{Progress: func(done, _ int) {
		if done == progressEvery {
			s.limits.request, s.limits.try = 500*time.Millisecond, 100*time.Millisecond
			srv.Stop()
		}
	}})
	wantIs(t, err, ErrIncomplete)
	if lines := bytes.Count(out.Bytes(), []byte("\n")); lines != n || n < progressEvery || n == 30_000 {
		t.Errorf("%d entries are said to be written, %d are", n, lines)
	}
}

// TestScanShowsNothingNewer than its call.
func TestScanShowsNothingNewer(t *testing.T) {
	for order := NewestFirst; order <= AsStored; order++ {
		s, js, _ := open(t)
		fill(t, js, 2000)
		publish(t, js, "old", body("old", "ada"), time.Now().Add(-time.Hour)) // so that an order by time is kept
		n := 0
		for _, err := range s.Query(t.Context(), Query{Order: order}) {
			if n++; err != nil {
				t.Fatal(err)
			}
			if n == 1 {
				mustWrite(t, s, "new")
			}
		}
		if n != 2001 {
			t.Errorf("order %d yields %d entries, want the 2001 that there were", order, n)
		}
	}
}

// TestPageCursors refuses what it must not go on from.
func TestPageCursors(t *testing.T) {
	s, js, _ := open(t)
	mustWrite(t, s, "a", "b", "c")
	page, err := s.Page(t.Context(), "", 1)
	if err != nil {
		t.Fatal(err)
	}
	tampered := []byte(page.Next)
	tampered[7] ^= 1
	for _, cursor := range []Cursor{"x", "AAAA", Cursor(tampered), page.Next + "A", page.Latest} {
		_, err := s.Page(t.Context(), cursor, 1)
		wantIs(t, err, ErrInvalidCursor)
	}
	for _, limit := range []int{0, -1} {
		_, err := s.Page(t.Context(), "", limit)
		wantIs(t, err, ErrInvalidRange)
	}
	if err := js.DeleteStream(t.Context(), testStream); err != nil {
		t.Fatal(err)
	}
	create(t, js, streamConfig())
	_, err = s.Page(t.Context(), page.Next, 1)
	wantIs(t, err, ErrInvalidCursor)
}

// TestPageBelowAMovedEntryThatIsGone: its sequence does not tell where it was.
func TestPageBelowAMovedEntryThatIsGone(t *testing.T) {
	s, js, _ := open(t)
	publish(t, js, "old", body("old", "ada"), time.Now().Add(-time.Hour))
	mustWrite(t, s, "a", "b")
	moved := publish(t, js, "moved", body("moved", "ada"), time.Now().Add(-time.Minute))
	page, err := s.Page(t.Context(), "", 3)
	if err != nil || idsOf(page.Entries) != "b a moved" {
		t.Fatalf("the first page is %+v, %v", page, err)
	}
	remove(t, js, moved)
	for limit := range 3 {
		for _, store := range []*StreamStore{s, openOn(t, js)} {
			next, err := store.Page(t.Context(), page.Next, limit+1)
			if err != nil || idsOf(next.Entries) != "old" || next.Next != "" {
				t.Errorf("the second page of up to %d is %+v, %v", limit+1, next, err)
			}
		}
	}
}

// TestScanOfAStreamThatIsMadeAgain does not go on in another trail.
func TestScanOfAStreamThatIsMadeAgain(t *testing.T) {
	for order := NewestFirst; order <= AsStored; order++ {
		s, js, _ := open(t)
		s.limits.probe = 10
		make := func(n int) {
			fill(t, js, n)
			publish(t, js, "old", body("old", "ada"), time.Now().Add(-time.Hour)) // so that an order by time is kept
			mustWrite(t, s, "new")
		}
		many := 3000
		if order == AsStored {
			many = walkMessages + 2000 // more than is read ahead
		}
		make(many)
		n, last := 0, error(nil)
		for _, err := range s.Query(t.Context(), Query{Order: order}) {
			last = err
			if n++; n == 1 {
				if err := js.DeleteStream(t.Context(), testStream); err != nil {
					t.Fatal(err)
				}
				create(t, js, streamConfig())
				make(many + 2000)
			}
		}
		if n >= many+2 {
			t.Errorf("order %d yields %d entries", order, n)
		}
		wantIs(t, last, ErrIncomplete)
	}
}
