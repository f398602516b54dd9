package migrate

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestThroughCopiesUpToASequenceAndNoFurther(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	reached := f.mustRun(Checkpoint{})
	f.fill(10, 20)

	reached = f.mustRun(reached, func(j *Job) { j.Through, j.Linger = 15, time.Hour })

	f.wantCounts(reached, Counts{Total: 15, Migrated: 15})
	if reached.LastSequence != 15 || len(f.subjects()) != 15 {
		t.Errorf("the copy came to %d and stored %d entries, want 15", reached.LastSequence, len(f.subjects()))
	}
}

func TestADrainCopiesTheRestWithoutSaving(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	job := &Job{
		JetStream: f.js, Bucket: "audit-log", Stream: "AUDIT", Subject: "audit",
		Save: func(_ context.Context, c Checkpoint) error { f.saved = append(f.saved, c); return nil },
	}
	drain, err := job.OpenDrain(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer drain.Close(f.ctx)
	if c := drain.Reached(); c.LastSequence != 10 || !c.Complete() {
		t.Fatalf("the drain came to %+v, want a complete copy of 10", c)
	}
	saved := len(f.saved)
	f.fill(10, 20)

	reached, err := drain.Through(f.ctx, 20)

	if err != nil {
		t.Fatal(err)
	}
	f.wantCounts(reached, Counts{Total: 20, Migrated: 20})
	if len(f.saved) != saved {
		t.Error("the drain has saved a checkpoint")
	}
}

func TestUntilCaughtUpDoesNotWaitForLateWriters(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)

	reached := f.mustRun(Checkpoint{}, func(j *Job) { j.UntilCaughtUp, j.Linger = true, time.Hour })

	if !reached.Complete() || reached.LastSequence != 10 {
		t.Errorf("the copy came to %+v, want a complete one of 10", reached)
	}
}

func TestVerifyComparesACompleteCopyAgain(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	first := f.mustRun(Checkpoint{})
	if v := first.Verified; v == nil || v.BucketEntries != 10 || v.StreamEntries != 10 || v.BucketDigest != first.Digest ||
		v.StreamDigest != first.Digest || v.LastSequence != 10 {
		t.Fatalf("the first copy was verified as %+v", v)
	}
	if again := f.mustRun(first); again.Verified != first.Verified {
		t.Error("a copy that goes on was verified again")
	}

	f.fill(10, 12)
	stream, err := f.js.Stream(f.ctx, "AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(f.ctx, 4); err != nil {
		t.Fatal(err)
	}
	second := f.mustRun(first, func(j *Job) { j.Verify, j.UntilCaughtUp = true, true })

	v := second.Verified
	if v.BucketEntries != 12 || v.StreamEntries != 11 || v.BucketDigest == v.StreamDigest || v.Removed != 1 || v.LastSequence != 12 {
		t.Errorf("the second verification found %+v, want 12 in the bucket, 11 in the stream and 1 removed", v)
	}
	if len(f.saved) == 0 || f.saved[len(f.saved)-1].Verified != second.Verified {
		t.Error("the second verification was not saved")
	}
}

func TestMarksOfAHandOverAreNoValues(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 3)
	bucket, err := f.js.Stream(f.ctx, StreamName("audit-log"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := bucket.CachedInfo().Config
	cfg.Subjects = append(cfg.Subjects, HandOverSubject("audit-log"))
	if _, err := f.js.UpdateStream(f.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := f.js.Publish(f.ctx, HandOverSubject("audit-log"), []byte(`{}`)); err != nil {
		t.Fatal(err)
	}

	f.wantCounts(f.mustRun(Checkpoint{}), Counts{Total: 3, Migrated: 3})
}

// A consumer on a replica that lags behind has nothing more to deliver, while the leader has.
func TestTheLeaderDecidesWhetherAStreamIsExhausted(t *testing.T) {
	f := newFixture(t)
	publish := func() {
		if _, err := f.js.Publish(f.ctx, "audit.x", nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		publish()
	}
	stream, err := f.js.Stream(f.ctx, "AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	r, err := openReader(f.ctx, f.js, "AUDIT", func(*jetstream.StreamInfo) uint64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	defer r.close(f.ctx)
	expect := func(last uint64, want bool) {
		t.Helper()
		if got, err := r.exhausted(f.ctx, last, 5); err != nil || got != want {
			t.Errorf("exhausted after %d of 5: %v, %v, want %v", last, got, err, want)
		}
	}
	expect(5, true)
	expect(3, false)
	for _, sequence := range []uint64{4, 5} {
		if err := stream.DeleteMsg(f.ctx, sequence); err != nil {
			t.Fatal(err)
		}
	}
	expect(3, true)
	expect(2, false)
	publish() // beyond what was asked about
	expect(3, true)
}

func TestTheShortestMaxAgeIsTakenDown(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 1)
	with := func(age time.Duration) func(*Job) { return func(j *Job) { j.MaxAge = age } }

	reached := f.mustRun(Checkpoint{}, with(0))
	const h = time.Hour
	for _, step := range []struct{ declared, want time.Duration }{{0, 0}, {30 * h, 30 * h}, {40 * h, 30 * h}, {0, 30 * h}, {20 * h, 20 * h}} {
		if reached = f.mustRun(reached, with(step.declared)); reached.MaxAge != step.want {
			t.Errorf("after maxAge %s it is %s, want %s", step.declared, reached.MaxAge, step.want)
		}
	}
}
