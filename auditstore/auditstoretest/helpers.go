package auditstoretest

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// sample returns an entry that has every field set, and no two of them to the same value.
func sample(id string) auditstore.Entry {
	return auditstore.Entry{
		ID: id, Timestamp: time.Date(2026, time.February, 3, 4, 5, 6, 789_012_345, time.UTC),
		User: "ada", Roles: []string{"admin", "reader"}, Method: "PATCH", Path: "/nodes/7?force=\"yes\"&x=<ä>",
		OperationID: "patchNode", SourceIP: "2001:db8::1", ResponseCode: 409, DurationMs: 1234,
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
	}
}

func equal(a, b auditstore.Entry) bool {
	return a.ID == b.ID && a.Timestamp.Equal(b.Timestamp) && a.User == b.User && slices.Equal(a.Roles, b.Roles) &&
		a.Method == b.Method && a.Path == b.Path && a.OperationID == b.OperationID && a.SourceIP == b.SourceIP &&
		a.ResponseCode == b.ResponseCode && a.DurationMs == b.DurationMs && a.TraceID == b.TraceID
}

func write(t tester, store auditstore.Store, entries ...auditstore.Entry) {
	t.Helper()
	for _, entry := range entries {
		if err := store.Write(t.Context(), entry); err != nil {
			t.Fatalf("Write of %s: %v", short(entry.ID), err)
		}
	}
}

// wantGet checks that the store has the entry under its id.
func wantGet(t tester, store auditstore.Store, want auditstore.Entry) {
	t.Helper()
	got, err := store.Get(t.Context(), want.ID)
	switch {
	case err != nil:
		t.Errorf("Get(%s): %v", short(want.ID), err)
	case got == nil:
		t.Errorf("Get(%s) returned neither an entry nor an error", short(want.ID))
	case !equal(*got, want):
		t.Errorf("Get(%s) returned %+v, want %+v", short(want.ID), *got, want)
	}
}

// wantAll checks that List and ListAll return these entries in this order, and nothing else.
func wantAll(t tester, store auditstore.Store, want ...auditstore.Entry) {
	t.Helper()
	all, err := store.ListAll(t.Context())
	if err != nil {
		t.Errorf("ListAll: %v", err)
	} else if !slices.EqualFunc(all, want, equal) {
		t.Errorf("ListAll returned %v, want %v", all, want)
	}
	wantPage(t, store, math.MaxInt, 0, len(want), want)
}

// wantPage checks one page and the total that comes with it.
func wantPage(t tester, store auditstore.Store, limit, offset, wantTotal int, want []auditstore.Entry) {
	t.Helper()
	page, total, err := store.List(t.Context(), limit, offset)
	if err != nil {
		t.Errorf("List(%d, %d): %v", limit, offset, err)
		return
	}
	if total != wantTotal {
		t.Errorf("List(%d, %d) returned the total %d, want %d", limit, offset, total, wantTotal)
	}
	if !slices.EqualFunc(page, want, equal) {
		t.Errorf("List(%d, %d) returned %v, want %v", limit, offset, page, want)
	}
}

func wantError(t tester, call string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s returned the error %v, want one that is %q", call, err, want)
	}
}

// short quotes an id for a message.
func short(id string) string {
	const most = 40
	if len(id) > most {
		return `"` + id[:most] + `…"`
	}
	return `"` + id + `"`
}
