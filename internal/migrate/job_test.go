package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestCopiesEveryLiveEntryInOrderWithItsOrigin(t *testing.T) {
	f := newFixture(t)
	const n = 3000 // more than a window
	f.fill(0, n)
	for _, k := range []string{key(7), key(2000)} {
		if err := f.kv.Delete(f.ctx, k); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.kv.Purge(f.ctx, key(9)); err != nil {
		t.Fatal(err)
	}

	reached := f.mustRun(Checkpoint{})

	f.wantCounts(reached, Counts{Total: n - 3, Migrated: n - 3})
	if reached.LastSequence != n+3 || !reached.Complete() {
		t.Errorf("checkpoint is %+v, want it complete at sequence %d", reached, n+3)
	}
	var want Digest
	msgs := f.stored()
	if len(msgs) != n-3 {
		t.Fatalf("the stream holds %d messages, want %d", len(msgs), n-3)
	}
	previous := uint64(0)
	for _, msg := range msgs {
		id := msg.Subject[len("audit."):]
		revision, err := f.kv.Get(f.ctx, id)
		if err != nil {
			t.Fatalf("reading %s: %v", id, err)
		}
		if string(msg.Data) != string(revision.Value()) {
			t.Fatalf("entry %s is %q, want %q", id, msg.Data, revision.Value())
		}
		source, _ := strconv.ParseUint(msg.Header.Get(HeaderSourceSequence), 10, 64)
		if source != revision.Revision() || source <= previous {
			t.Fatalf("entry %s has source sequence %d, want %d and more than %d", id, source, revision.Revision(), previous)
		}
		previous = source
		if got := msg.Header.Get(HeaderSourceTime); got != revision.Created().UTC().Format(time.RFC3339Nano) {
			t.Fatalf("entry %s has source time %s, want %s", id, got, revision.Created())
		}
		if msg.Header.Get(HeaderSourceBucket) != "audit-log" {
			t.Fatalf("entry %s has no source bucket", id)
		}
		want.Add(id, revision.Value())
	}
	if reached.Digest != want {
		t.Errorf("digest is %s, want %s", reached.Digest, want)
	}
	if last := f.saved[len(f.saved)-1]; fmt.Sprint(last) != fmt.Sprint(reached) {
		t.Errorf("the checkpoint saved last is %v, want %v", last, reached)
	}
}

func TestRunningAgainAddsNothing(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 1500)
	first := f.mustRun(Checkpoint{})
	for name, resume := range map[string]Checkpoint{"from the start": {}, "from the end": first} {
		again := f.mustRun(resume)
		f.wantCounts(again, first.Counts)
		if again.Digest != first.Digest {
			t.Errorf("%s: digest is %s, want %s", name, again.Digest, first.Digest)
		}
		if got := len(f.stored()); got != 1500 {
			t.Errorf("%s: the stream holds %d messages, want 1500", name, got)
		}
	}
}

func TestKeepsTheFirstOfARevisedKeyWithHistory(t *testing.T) {
	f := newFixture(t, withHistory(5))
	f.fill(0, 20)
	f.put(key(3), fmt.Appendf(nil, `{"id":%q,"user":"bob"}`, key(3)))
	if err := f.kv.Delete(f.ctx, key(4)); err != nil {
		t.Fatal(err)
	}

	reached := f.mustRun(Checkpoint{})

	f.wantCounts(reached, Counts{Total: 19, Migrated: 19})
	msgs := f.stored()
	last := msgs[len(msgs)-1]
	if last.Subject != "audit."+key(3) || string(last.Data) != fmt.Sprintf(`{"id":%q,"user":"bob"}`, key(3)) {
		t.Errorf("the last entry is %s %s, want the last revision of %s", last.Subject, last.Data, key(3))
	}
}

func TestInvalidValuesStayAndAreNamed(t *testing.T) {
	f := newFixture(t)
	f.put("good", entry("good"))
	invalid := map[string][]byte{
		"not-json": []byte("hello"), "other-id": entry("another"), "no-id": []byte(`{"user":"x"}`), "null": []byte("null"),
		"empty": {}, "list": []byte("[]"), "number-id": []byte(`{"id":5}`), "two.tokens": entry("two.tokens"),
		"wrong-type": []byte(`{"id":"wrong-type","timestamp":5}`),
	}
	for k, v := range invalid {
		f.put(k, v)
	}
	f.put("last", entry("last"))
	told := map[string]bool{}

	reached := f.mustRun(Checkpoint{}, func(j *Job) {
		j.Invalid = func(key string, _ uint64, reason error) {
			if !errors.Is(reason, errNotAnEntry) || told[key] {
				t.Errorf("told %s: %v", key, reason)
			}
			told[key] = true
		}
	})

	if got := f.subjects(); !slices.Equal(got, []string{"audit.good", "audit.last"}) {
		t.Errorf("the stream holds %v", got)
	}
	if reached.Invalid != int64(len(invalid)) || len(reached.InvalidKeys) != len(invalid) || len(told) != len(invalid) {
		t.Errorf("invalid is %d, named %v, told %v", reached.Invalid, reached.InvalidKeys, told)
	}
	if reached.Total != int64(len(invalid))+2 || !reached.Complete() {
		t.Errorf("checkpoint is %+v", reached)
	}

	f.put("not-json", entry("not-json"))
	if err := f.kv.Delete(f.ctx, "empty"); err != nil {
		t.Fatal(err)
	}
	reached = f.mustRun(reached)
	if reached.Invalid != int64(len(invalid))-2 || reached.Migrated != 3 || slices.Contains(reached.InvalidKeys, "not-json") {
		t.Errorf("after two were put right the checkpoint is %+v", reached)
	}
}

func TestManyInvalidValuesAreCountedAgainOnceSomeArePutRight(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 5)
	for i := range 30 {
		f.put(fmt.Sprintf("bad-%d", i), []byte("x"))
	}
	reached := f.mustRun(Checkpoint{})
	f.wantCounts(reached, Counts{Total: 35, Migrated: 5, Invalid: 30, InvalidKeys: reached.InvalidKeys})
	if len(reached.InvalidKeys) != maxNamedKeys {
		t.Errorf("%d keys are named", len(reached.InvalidKeys))
	}
	f.put("bad-29", entry("bad-29"))

	reached = f.mustRun(reached)

	f.wantCounts(reached, Counts{Total: 35, Migrated: 6, Invalid: 29, InvalidKeys: reached.InvalidKeys})
}

func TestLargeEntriesAreCopiedAndTooLargeOnesStay(t *testing.T) {
	f := newFixture(t)
	large := func(id string, size int) []byte {
		head, tail := fmt.Sprintf(`{"id":%q,"path":"`, id), `"}`
		return fmt.Append(nil, head, strings.Repeat("x", size-len(head)-len(tail)), tail)
	}
	const n, maxPayload = 40, 1 << 20
	for i := range n {
		f.put(key(i), large(key(i), maxPayload-headerAllowance))
	}
	f.put("too-large", large("too-large", maxPayload-100))
	f.put("last", entry("last"))

	reached := f.mustRun(Checkpoint{})

	f.wantCounts(reached, Counts{Total: n + 2, Migrated: n + 1, Invalid: 1, InvalidKeys: []string{"too-large"}})
	if got := len(f.stored()); got != n+1 {
		t.Errorf("the stream holds %d messages, want %d", got, n+1)
	}
}

func TestRetentionGoesOn(t *testing.T) {
	const maxAge = 30 * 24 * time.Hour
	withMaxAge := func(j *Job) { j.MaxAge = maxAge }
	t.Run("what is left of maxAge is the message's TTL", func(t *testing.T) {
		f := newFixture(t)
		f.fill(0, 1)
		now := f.recorded(key(0)).Add(maxAge - time.Hour)
		f.now = func() time.Time { return now }
		f.mustRun(Checkpoint{}, withMaxAge)
		if ttl := f.stored()[0].Header.Get(jetstream.MsgTTLHeader); ttl != "3600" {
			t.Errorf("TTL is %s s, want an hour", ttl)
		}
	})
	t.Run("what has outlived maxAge is not copied", func(t *testing.T) {
		f := newFixture(t)
		f.fill(0, 3)
		f.now = func() time.Time { return time.Now().Add(maxAge) }
		f.wantCounts(f.mustRun(Checkpoint{}, withMaxAge), Counts{Total: 3, Expired: 3})
		if got := f.subjects(); len(got) != 0 {
			t.Errorf("the stream holds %v", got)
		}
	})
	t.Run("no maxAge sets no TTL", func(t *testing.T) {
		f := newFixture(t)
		f.fill(0, 1)
		f.mustRun(Checkpoint{})
		if got := f.stored()[0].Header.Get(jetstream.MsgTTLHeader); got != "" {
			t.Errorf("TTL is %s", got)
		}
	})
}

func TestEntriesThatAreThereAlready(t *testing.T) {
	for name, rejectNew := range map[string]bool{"drop oldest": false, "reject new": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(_ *jetstream.KeyValueConfig, s *jetstream.StreamConfig) {
				if rejectNew {
					s.Discard, s.DiscardNewPerSubject, s.MaxMsgsPerSubject = jetstream.DiscardNew, true, 1
				}
			})
			f.fill(0, 5)
			same, other := entry(key(1)), []byte(`{"id":"x","user":"native"}`)
			for subject, data := range map[string][]byte{"audit." + key(1): same, "audit." + key(3): other} {
				if _, err := f.js.Publish(f.ctx, subject, data); err != nil {
					t.Fatal(err)
				}
			}
			reached := f.mustRun(Checkpoint{})
			f.wantCounts(reached, Counts{Total: 5, Migrated: 3, AlreadyPresent: 1, Mismatched: 1, MismatchedKeys: []string{key(3)}})
			if got := len(f.stored()); got != 5 {
				t.Errorf("the stream holds %d messages, want 5", got)
			}
		})
	}
}

func TestOverwrittenAfterTheCopyIsAMismatch(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 4)
	reached := f.mustRun(Checkpoint{})
	before := reached.Digest

	f.put(key(2), entry(key(2))) // same bytes
	reached = f.mustRun(reached)
	f.wantCounts(reached, Counts{Total: 4, Migrated: 4})
	if reached.Digest != before {
		t.Errorf("the same bytes changed the digest")
	}

	f.put(key(2), fmt.Appendf(nil, `{"id":%q,"user":"mallory"}`, key(2)))
	reached = f.mustRun(reached)
	f.wantCounts(reached, Counts{Total: 4, Migrated: 3, Mismatched: 1, MismatchedKeys: []string{key(2)}})

	f.put(key(2), entry(key(2))) // put right
	reached = f.mustRun(reached)
	f.wantCounts(reached, Counts{Total: 4, Migrated: 4})
	if reached.Digest != before {
		t.Errorf("digest is %s after the mismatch was put right, want %s", reached.Digest, before)
	}
	if got := len(f.stored()); got != 4 {
		t.Errorf("the stream holds %d messages, want 4", got)
	}
}

func TestDoesNotBringBackWhatRetentionRemoved(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 5)
	for i := range 12 {
		f.put(fmt.Sprintf("bad-%d", i), []byte("x"))
	}
	reached := f.mustRun(Checkpoint{})
	stream, err := f.js.Stream(f.ctx, "AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(f.ctx, 2); err != nil {
		t.Fatal(err)
	}
	f.put("bad-11", entry("bad-11")) // asks for a recount of all

	reached = f.mustRun(reached)

	if got := f.subjects(); slices.Contains(got, "audit."+key(1)) || len(got) != 5 {
		t.Errorf("the stream holds %v", got)
	}
	f.wantCounts(reached, Counts{Total: 17, Migrated: 6, Invalid: 11, InvalidKeys: reached.InvalidKeys})
}

func TestBucketMadeAgainIsReadFromItsStart(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	reached := f.mustRun(Checkpoint{})
	if err := f.js.DeleteKeyValue(f.ctx, "audit-log"); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.kv, err = f.js.CreateKeyValue(f.ctx, jetstream.KeyValueConfig{Bucket: "audit-log"}); err != nil {
		t.Fatal(err)
	}
	f.fill(8, 30)

	reached = f.mustRun(reached)

	f.wantCounts(reached, Counts{Total: 22, Migrated: 20, AlreadyPresent: 2})
	if got := len(f.stored()); got != 30 {
		t.Errorf("the stream holds %d messages, want 30", got)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	f.put("bad", []byte("x"))
	if _, err := f.js.Publish(f.ctx, "audit."+key(0), entry(key(0))); err != nil {
		t.Fatal(err)
	}

	reached := f.mustRun(Checkpoint{}, func(j *Job) { j.DryRun = true })

	f.wantCounts(reached, Counts{Total: 11, Migrated: 9, AlreadyPresent: 1, Invalid: 1, InvalidKeys: []string{"bad"}})
	if got := len(f.stored()); got != 1 || len(f.saved) != 0 {
		t.Errorf("the stream holds %d messages and %d checkpoints were saved, want 1 and 0", got, len(f.saved))
	}
}

func TestFollowsLateWriters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fill(0, 10)
	late := 10
	reached := f.mustRun(Checkpoint{}, func(j *Job) {
		j.Linger = 5 * time.Second
		j.Progress = func(Checkpoint) { // before it is compared, and once it is complete
			if late < 20 {
				f.fill(late, late+5)
				late += 5
			}
		}
	})
	f.wantCounts(reached, Counts{Total: 20, Migrated: 20})
}

func TestEmptyAndMissingBuckets(t *testing.T) {
	f := newFixture(t)
	reached := f.mustRun(Checkpoint{})
	if !reached.Complete() || reached.Total != 0 || len(f.saved) == 0 {
		t.Errorf("the checkpoint of an empty bucket is %+v, saved %d times", reached, len(f.saved))
	}
	if err := f.js.DeleteKeyValue(f.ctx, "audit-log"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.run(Checkpoint{}); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("a missing bucket gives %v", err)
	}
}

func TestGoesOnAfterTheServerWasRestarted(t *testing.T) {
	f := newFixture(t)
	const n = 20000
	publishBucket(t, f, n)
	interrupted := make(chan struct{})
	var once bool
	reached, err := f.run(Checkpoint{}, func(j *Job) {
		inner := j.Now
		calls := 0
		j.Now = func() time.Time { // the clock is read in the middle of the copy
			if calls++; calls == 8 && !once {
				once = true
				f.server.Restart()
				close(interrupted)
			}
			return inner()
		}
	})
	<-interrupted
	for err != nil {
		if f.ctx.Err() != nil {
			t.Fatal(err)
		}
		reached, err = f.run(reached)
	}
	f.wantCounts(reached, Counts{Total: n, Migrated: n})
	if got := f.subjects(); len(got) != n || !slices.IsSorted(got) {
		t.Errorf("the stream holds %d messages (in order: %v), want %d in order", len(got), slices.IsSorted(got), n)
	}
}

func TestStopsWhenCancelled(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	ctx, cancel := context.WithCancelCause(f.ctx)
	cause := errors.New("suspended")
	f.ctx = ctx
	_, err := f.run(Checkpoint{}, func(j *Job) { j.Progress = func(Checkpoint) { cancel(cause) } })
	if !errors.Is(err, cause) {
		t.Errorf("Run returned %v, want %v", err, cause)
	}
}
