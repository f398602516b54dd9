package auditstoretest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// longestID is what auditstore.ValidID allows.
const longestID = 1024

func validIDs() []string {
	return []string{
		"plain", "01K0ZJ5V9Y3W2X8R7QABCDEFGH", "0b9df4a2-5a43-4f0e-9d3c-6a1f6f3f8f10", "Case", "case", "a/b", "a//b", "100%", "%2F",
		"$id", "it's;--", `back\slash`, "\"quoted\"", "a&b=c#d?", "ä-日本-🙂", "under_score", "0", "-", strings.Repeat("x", longestID),
	}
}

func invalidIDs() []string {
	return []string{
		"*", ">", "a.b", ".", "a.", ".a", "a*", "a>", "a.*", "a.>", " ", "a b", "a\tb", "a\nb", "a\x00b", "a\u00a0b", "\xff",
		strings.Repeat("x", longestID+1),
	}
}

func checkRoundTrip(t tester, store auditstore.Store) {
	var newestFirst []auditstore.Entry
	for i, id := range validIDs() {
		entry := sample(id)
		entry.DurationMs = int64(i) // tells them apart
		write(t, store, entry)
		newestFirst = slices.Insert(newestFirst, 0, entry)
	}
	bare := auditstore.Entry{ID: "bare", Timestamp: sample("").Timestamp.In(time.FixedZone("", 3600))}
	write(t, store, bare)
	newestFirst = slices.Insert(newestFirst, 0, bare)
	for _, entry := range newestFirst {
		wantGet(t, store, entry)
	}
	wantAll(t, store, newestFirst...)
}

func checkDefaults(t tester, store auditstore.Store) {
	const far = 24 * time.Hour // clocks may differ, but not by that much
	write(t, store, auditstore.Entry{User: "ada"}, auditstore.Entry{User: "ada"})
	all, err := store.ListAll(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("ListAll after two writes without an id returned %v and the error %v, want two entries", all, err)
	}
	if all[0].ID == all[1].ID {
		t.Errorf("two entries that were written without an id got the same one, %s", short(all[0].ID))
	}
	for _, entry := range all {
		if !auditstore.ValidID(entry.ID) {
			t.Errorf("an entry that was written without an id got %s, which is not a valid one", short(entry.ID))
		}
		if away := time.Since(entry.Timestamp).Abs(); away > far {
			t.Errorf("an entry that was written without a timestamp got %s, want the current time", entry.Timestamp)
		}
		wantGet(t, store, entry)
	}
}

func checkNotFound(t tester, store auditstore.Store) {
	get := func(id string) {
		t.Helper()
		got, err := store.Get(t.Context(), id)
		wantError(t, fmt.Sprintf("Get(%s), which was not written,", short(id)), err, auditstore.ErrNotFound)
		if got != nil && err == nil {
			t.Errorf("Get(%s) returned the entry %+v, which was not written under this id", short(id), *got)
		}
	}
	get("entry")
	write(t, store, sample("Entry-1"))
	for _, id := range []string{"Entry", "Entry-", "Entry-10", "entry-1", "ENTRY-1", "%", "_ntry-1"} {
		get(id)
	}
}

func checkInvalidID(t tester, store auditstore.Store) {
	kept := sample("kept")
	write(t, store, kept)
	_, err := store.Get(t.Context(), "")
	wantError(t, `Get("")`, err, auditstore.ErrInvalidID)
	for _, id := range invalidIDs() {
		_, err := store.Get(t.Context(), id)
		wantError(t, fmt.Sprintf("Get(%q)", short(id)), err, auditstore.ErrInvalidID)
		wantError(t, fmt.Sprintf("Write with the id %q", short(id)), store.Write(t.Context(), sample(id)), auditstore.ErrInvalidID)
	}
	wantAll(t, store, kept)
}

func checkWriteTwice(t tester, store auditstore.Store) {
	first, second := sample("first"), sample("second")
	write(t, store, first, second)
	if err := store.Write(t.Context(), first); err != nil {
		t.Errorf("Write of the same entry again: %v", err)
	}
	wantGet(t, store, first)
	wantAll(t, store, second, first)
}

func checkConflict(t tester, store auditstore.Store) {
	first := sample("id")
	write(t, store, first)
	changes := map[string]func(*auditstore.Entry){
		"user":      func(e *auditstore.Entry) { e.User = "eve" },
		"roles":     func(e *auditstore.Entry) { e.Roles = []string{"reader", "admin"} },
		"timestamp": func(e *auditstore.Entry) { e.Timestamp = e.Timestamp.Add(time.Nanosecond) },
		"code":      func(e *auditstore.Entry) { e.ResponseCode = 200 },
		"trace id":  func(e *auditstore.Entry) { e.TraceID = "" },
	}
	for name, change := range changes {
		other := sample("id")
		change(&other)
		call := fmt.Sprintf("Write of an entry with another %s under an id that is taken", name)
		wantError(t, call, store.Write(t.Context(), other), auditstore.ErrConflict)
	}
	wantGet(t, store, first)
	wantAll(t, store, first)
}

func checkIsolation(t tester, store auditstore.Store) {
	written := sample("id")
	write(t, store, written)
	written.Roles[0] = "changed after Write"
	wantGet(t, store, sample("id"))

	got, err := store.Get(t.Context(), "id")
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	got.User, got.Roles[0] = "changed after Get", "changed after Get"
	wantGet(t, store, sample("id"))

	for name, read := range map[string]func() ([]auditstore.Entry, error){
		"List": func() ([]auditstore.Entry, error) {
			page, _, err := store.List(t.Context(), 1, 0)
			return page, err
		},
		"ListAll": func() ([]auditstore.Entry, error) { return store.ListAll(t.Context()) },
	} {
		entries, err := read()
		if err != nil || len(entries) != 1 {
			t.Fatalf("%s returned %v and the error %v, want one entry", name, entries, err)
		}
		entries[0].User, entries[0].Roles[0] = "changed after "+name, "changed after "+name
		wantGet(t, store, sample("id"))
		wantAll(t, store, sample("id"))
	}
}

func checkNewestFirst(t tester, store auditstore.Store) {
	// Neither the ids nor the timestamps are in the order of writing.
	older, middle, newer := sample("b"), sample("c"), sample("a")
	older.Timestamp = middle.Timestamp.Add(time.Hour)
	newer.Timestamp = middle.Timestamp.Add(-time.Hour)
	write(t, store, older, middle, newer)
	wantAll(t, store, newer, middle, older)
}

func checkPages(t tester, store auditstore.Store) {
	const n = 7
	var newestFirst []auditstore.Entry
	for i := range n {
		entry := sample(fmt.Sprintf("e%d", i))
		write(t, store, entry)
		newestFirst = slices.Insert(newestFirst, 0, entry)
	}
	ends := []int{0, 1, 2, 3, n - 1, n, n + 1, math.MaxInt32, math.MaxInt}
	for _, limit := range ends {
		for _, offset := range ends {
			from := min(offset, n)
			wantPage(t, store, limit, offset, n, newestFirst[from:from+min(limit, n-from)])
		}
	}
}

func checkNegativeRange(t tester, store auditstore.Store) {
	write(t, store, sample("id"))
	for _, r := range [][2]int{{-1, 0}, {0, -1}, {-1, -1}, {10, -1}, {-1, 10}, {math.MinInt, 0}, {1, math.MinInt}} {
		_, _, err := store.List(t.Context(), r[0], r[1])
		wantError(t, fmt.Sprintf("List(%d, %d)", r[0], r[1]), err, auditstore.ErrInvalidRange)
	}
}

func checkEmpty(t tester, store auditstore.Store) {
	wantAll(t, store)
	wantPage(t, store, 0, 0, 0, nil)
	wantPage(t, store, 10, 5, 0, nil)
}
