package auditstore

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const testBucket = "audit-log"

// redirected opens the store on a stream that has the subjects of two buckets, and returns what a legacy writer uses. The bucket
// holds the key old, of which the stream has a copy, and the deleted key gone.
func redirected(t *testing.T) (*StreamStore, jetstream.JetStream, jetstream.KeyValue) {
	t.Helper()
	_, js, _ := open(t)
	var legacy jetstream.KeyValue
	cfg := streamConfig()
	cfg.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "$KV.*.>", Destination: testSubject + ".>"}
	for _, bucket := range []string{"second", testBucket} {
		kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: bucket})
		if err != nil {
			t.Fatal(err)
		}
		legacy = kv
		cfg.Subjects = append(cfg.Subjects, "$KV."+bucket+".>")
	}
	_, err := legacy.Put(t.Context(), "old", body("old", "ada"))
	_, goneErr := legacy.Put(t.Context(), "gone", body("gone", "ada"))
	if err := errors.Join(err, goneErr, legacy.Delete(t.Context(), "gone")); err != nil {
		t.Fatal(err)
	}
	publish(t, js, "old", body("old", "ada"), time.Now().Add(-time.Hour))
	for _, bucket := range []string{"second", testBucket} {
		backing, err := js.Stream(t.Context(), "KV_"+bucket)
		if err != nil {
			t.Fatal(err)
		}
		fenced := backing.CachedInfo().Config
		fenced.Subjects = []string{"$AUDIT.REDIRECTED." + bucket}
		if _, err := js.UpdateStream(t.Context(), fenced); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return openOn(t, js), js, legacy
}

// readers are s and what else reads the stream: one that is new to it, and one that reads it through consumers.
func readers(t *testing.T, s *StreamStore, js jetstream.JetStream) map[string]*StreamStore {
	t.Helper()
	walking := openOn(t, js)
	walking.limits.probe = 0
	return map[string]*StreamStore{"watching": s, "new": openOn(t, js), "walking": walking}
}

// wantTrail compares every page and ListAll with the ids, newest first. One that begins with a ! is corrupt.
func wantTrail(t *testing.T, s *StreamStore, js jetstream.JetStream, want ...string) {
	t.Helper()
	whole := func(ids []string) string {
		var names []string
		for _, id := range ids {
			if id[0] != '!' {
				names = append(names, id)
			}
		}
		return strings.Join(names, " ")
	}
	for name, s := range readers(t, s, js) {
		for offset := range want {
			for limit := 1; offset+limit <= len(want); limit++ {
				entries, total, err := s.List(t.Context(), limit, offset)
				expected := want[offset : offset+limit]
				if got := idsOf(entries); got != whole(expected) || total != len(want) {
					t.Errorf("%s: List(%d, %d) is %q of %d, want %q of %d", name, limit, offset, got, total, expected, len(want))
				}
				wantMarkers(t, err, limit-len(entries))
			}
		}
		all, err := s.ListAll(t.Context())
		if got := idsOf(all); got != whole(want) {
			t.Errorf("%s: ListAll is %q, want %q", name, got, want)
		}
		wantMarkers(t, err, len(want)-len(all))
	}
}

// wantMarkers looks for n errors, all about markers.
func wantMarkers(t *testing.T, err error, n int) {
	t.Helper()
	var all []error
	if err != nil {
		all = []error{err}
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	if len(all) != n {
		t.Fatalf("%d errors, want %d: %v", len(all), n, err)
	}
	for _, err := range all {
		wantIs(t, err, ErrCorrupt, errMarker)
	}
}

func wantUser(t *testing.T, s *StreamStore, id, user string) {
	t.Helper()
	entry, err := s.Get(t.Context(), id)
	if err != nil {
		t.Errorf("Get(%q): %v", id, err)
	} else if entry.ID != id || entry.User != user {
		t.Errorf("Get(%q) is %+v, want the entry of %q", id, *entry, user)
	}
}

func TestLegacyWritersChangeNoEntry(t *testing.T) {
	s, js, legacy := redirected(t)
	ctx := t.Context()
	mustWrite(t, s, "native")
	if _, err := legacy.Put(ctx, "new", body("new", "ada")); err != nil {
		t.Fatal(err)
	}
	wantTrail(t, s, js, "new", "native", "old")
	for _, id := range []string{"old", "native", "new"} {
		if err := legacy.Delete(ctx, id); err != nil {
			t.Errorf("a legacy Delete of %q: %v", id, err)
		}
		var refused *jetstream.APIError
		if err := legacy.Purge(ctx, id); !errors.As(err, &refused) || refused.ErrorCode != 10111 {
			t.Errorf("a legacy Purge of %q: %v, want refusal 10111", id, err)
		}
		if _, err := legacy.Put(ctx, id, body(id, "eve")); err != nil {
			t.Errorf("a legacy Put of %q: %v", id, err)
		}
		if _, err := legacy.Create(ctx, id, body(id, "eve")); !errors.Is(err, jetstream.ErrKeyExists) {
			t.Errorf("a legacy Create of %q: %v, want that the key exists", id, err)
		}
	}
	if last := lastSequence(t, js); last != 9 {
		t.Fatalf("the stream has %d messages, want an entry, a marker and a second value of each id", last)
	}
	wantTrail(t, s, js, "new", "native", "old")
	// The bucket remembers the key as deleted, and the stream has never held it.
	if _, err := legacy.Create(ctx, "gone", body("gone", "ada")); err != nil {
		t.Errorf("a legacy Create of a new id: %v", err)
	}
	wantTrail(t, s, js, "gone", "new", "native", "old")
	for _, id := range []string{"old", "native", "new"} {
		wantUser(t, s, id, "ada")
	}
}

func TestMarkerBeforeTheEntryIsPassedOver(t *testing.T) {
	s, js, legacy := redirected(t)
	ctx := t.Context()
	mustWrite(t, s, "a")
	wantTrail(t, s, js, "a", "old")
	for range 2 {
		if err := legacy.Delete(ctx, "late"); err != nil {
			t.Fatal(err)
		}
	}
	if err := legacy.Delete(ctx, "never"); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, "b")
	wantTrail(t, s, js, "b", "!never", "!late", "a", "old")
	for id, sequence := range map[string]uint64{"late": 3, "never": 5} {
		_, err := s.Get(ctx, id)
		wantIs(t, err, errMarker)
		wantSequences(t, err, sequence)
	}
	// The entry comes to its own place in time, also for a reader that knew the markers before.
	for _, user := range []string{"ada", "eve"} {
		if _, err := legacy.Put(ctx, "late", body("late", user)); err != nil {
			t.Fatal(err)
		}
		if err := legacy.Delete(ctx, "late"); err != nil {
			t.Fatal(err)
		}
		wantTrail(t, s, js, "late", "b", "!never", "a", "old")
		wantUser(t, s, "late", "ada")
	}
	remove(t, js, 3) // one of the two markers in front expires
	wantTrail(t, s, js, "late", "b", "!never", "a", "old")
	if known := s.ordered.later.markers; known[3] || !known[4] {
		t.Errorf("the reader remembers the markers %v, want only those that are left", known)
	}
	remove(t, js, 7) // the entry expires: the next one takes its place, as without markers
	wantTrail(t, s, js, "late", "b", "!never", "a", "old")
	wantUser(t, s, "late", "eve")
	remove(t, js, 9) // only markers are left
	wantTrail(t, s, js, "b", "!never", "!late", "a", "old")
}

// TestSingleMarkerBeforeTheEntry is the marker that a reader saw while no id had a second message.
func TestSingleMarkerBeforeTheEntry(t *testing.T) {
	s, js, legacy := redirected(t)
	if err := legacy.Delete(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	publish(t, js, "moved", body("moved", "ada"), time.Now().Add(-2*time.Hour)) // from here on the order is kept
	wantTrail(t, s, js, "!late", "old", "moved")
	if !s.ordered.kept {
		t.Fatal("the order is not kept")
	}
	if _, err := legacy.Put(t.Context(), "late", body("late", "ada")); err != nil {
		t.Fatal(err)
	}
	wantTrail(t, s, js, "late", "old", "moved")
	wantUser(t, s, "late", "ada")
}

func TestWriteOverAMarker(t *testing.T) {
	s, _, legacy := redirected(t)
	if err := legacy.Delete(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	err := s.Write(t.Context(), named("late"))
	wantIs(t, err, ErrConflict, errMarker)
	if _, err := legacy.Put(t.Context(), "late", body("late", "eve")); err != nil {
		t.Fatal(err)
	}
	err = s.Write(t.Context(), named("late"))
	wantIs(t, err, ErrConflict)
	if errors.Is(err, errMarker) {
		t.Errorf("Write blames the marker and not the entry: %v", err)
	}
	if err := legacy.Delete(t.Context(), "same"); err != nil {
		t.Fatal(err)
	}
	stored, err := json.Marshal(named("same"))
	_, putErr := legacy.Put(t.Context(), "same", stored)
	if err := errors.Join(err, putErr); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, "same")
}

func TestMarkersByHeader(t *testing.T) {
	for _, test := range []struct {
		key, value string
		want       bool
	}{
		{"KV-Operation", "DEL", true},
		{"KV-Operation", "PURGE", true},
		{"KV-Operation", "PUT", false},
		{jetstream.MarkerReasonHeader, "MaxAge", true},
		{HeaderSourceTime, "2026-01-02T03:04:05Z", false},
	} {
		m := &message{header: nats.Header{test.key: {test.value}}}
		if got := m.isMarker(); got != test.want {
			t.Errorf("%s: %s is a marker: %v, want %v", test.key, test.value, got, test.want)
		}
	}
	if (&message{}).isMarker() {
		t.Error("a message without headers is a marker")
	}
}

func lastSequence(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	stream, err := js.Stream(t.Context(), testStream)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq
}
