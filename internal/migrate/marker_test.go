package migrate

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// mark stores in the stream what a legacy kv.Delete or kv.Purge leaves that was put through a redirected bucket.
func (f *fixture) mark(key, operation string) {
	f.t.Helper()
	msg := nats.NewMsg("audit." + key)
	msg.Header.Set("KV-Operation", operation)
	if _, err := f.js.PublishMsg(f.ctx, msg); err != nil {
		f.t.Fatal(err)
	}
}

func TestMarkersDoNotHideEntries(t *testing.T) {
	f := newFixture(t)
	f.mark(key(1), "DEL")
	f.mark(key(1), "PURGE")
	f.mark(key(2), "DEL")
	f.native(key(2), key(3))
	f.mark(key(3), "DEL")
	f.fill(0, 5)

	reached := f.mustRun(Checkpoint{})

	f.wantCounts(reached, Counts{Total: 5, Migrated: 3, AlreadyPresent: 2})
	if v := reached.Verified; v.BucketEntries != 5 || v.StreamEntries != 5 {
		t.Errorf("the verification found %+v", v)
	}
	f.wantCounts(f.mustRun(Checkpoint{}), reached.Counts)
	if got := len(f.subjects()); got != 5+4 {
		t.Errorf("the stream holds %d messages, want 5 entries and 4 markers", got)
	}
}

// A stream that takes one message under an id cannot store an entry beside a marker.
func TestAMarkerInAWriteOnceStreamIsAMismatch(t *testing.T) {
	f := newFixture(t, func(_ *jetstream.KeyValueConfig, s *jetstream.StreamConfig) {
		s.MaxMsgsPerSubject, s.DiscardNewPerSubject, s.Discard, s.MaxBytes = 1, true, jetstream.DiscardNew, 1<<20
	})
	f.mark(key(1), "DEL")
	f.fill(0, 3)
	f.wantCounts(f.mustRun(Checkpoint{}), Counts{Total: 3, Migrated: 2, Mismatched: 1, MismatchedKeys: []string{key(1)}})
}

func TestManyMarkersUnderOneKey(t *testing.T) {
	f := newFixture(t)
	for range 20 {
		f.mark(key(0), "DEL")
	}
	f.fill(0, 1)
	f.wantCounts(f.mustRun(Checkpoint{}), Counts{Total: 1, Migrated: 1})
	if msgs := f.stored(); string(msgs[20].Data) != fmt.Sprintf(`{"id":%q,"user":"alice"}`, key(0)) {
		t.Errorf("the stream ends with %q", msgs[20].Data)
	}
}

func TestMarkersDoNotHideEntriesFromBatches(t *testing.T) {
	f := newFixture(t)
	f.mark(key(1), "DEL")
	f.fill(0, 3)
	c, err := (&Job{JetStream: f.js, Bucket: "audit-log", Stream: "AUDIT", Subject: "audit", UntilCaughtUp: true}).open(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close(f.ctx)
	c.replicated = true // which is when entries go in batches
	reached, err := c.finish(f.ctx, c.run(f.ctx))
	if err != nil {
		t.Fatal(err)
	}
	f.wantCounts(reached, Counts{Total: 3, Migrated: 3})
}
