package migrate

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// beforeVerification does something to the stream once the entries are in it, before the copy is read back.
func beforeVerification(f *fixture, do func(jetstream.Stream)) func(*Job) {
	return func(j *Job) {
		done := false
		j.Progress = func(c Checkpoint) {
			if done || c.Complete() {
				return
			}
			done = true
			stream, err := f.js.Stream(f.ctx, "AUDIT")
			if err != nil {
				f.t.Error(err)
				return
			}
			do(stream)
		}
	}
}

func TestVerificationFindsAnEntryWithOtherBytes(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	tampering := beforeVerification(f, func(stream jetstream.Stream) {
		if err := stream.DeleteMsg(f.ctx, 4); err != nil {
			t.Error(err)
		}
		if _, err := f.js.Publish(f.ctx, "audit."+key(3), []byte(`{"id":"id-00003","user":"mallory"}`)); err != nil {
			t.Error(err)
		}
	})

	reached, err := f.run(Checkpoint{}, tampering)

	if !errors.Is(err, ErrNotVerified) || !strings.Contains(err.Error(), key(3)) {
		t.Errorf("Run returned %v, want ErrNotVerified about %s", err, key(3))
	}
	if reached.Complete() || len(f.saved) > 0 {
		t.Errorf("the copy counts as complete: %+v, saved %d times", reached, len(f.saved))
	}
}

func TestVerificationFindsAnEntryThatIsThereTwice(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	doubling := beforeVerification(f, func(stream jetstream.Stream) {
		first, err := stream.GetMsg(f.ctx, 4)
		if err != nil {
			t.Error(err)
			return
		}
		again := nats.NewMsg(first.Subject)
		again.Data = first.Data
		for _, name := range []string{HeaderSourceBucket, HeaderSourceSequence, HeaderSourceTime} {
			again.Header.Set(name, first.Header.Get(name))
		}
		if _, err := f.js.PublishMsg(f.ctx, again); err != nil {
			t.Error(err)
		}
	})

	reached, err := f.run(Checkpoint{}, doubling)

	if !errors.Is(err, ErrNotVerified) || !strings.Contains(err.Error(), key(3)+" of bucket audit-log is there more than once") {
		t.Errorf("Run returned %v, want ErrNotVerified about %s", err, key(3))
	}
	if reached.Complete() {
		t.Error("the copy counts as complete")
	}
}

func TestVerificationAllowsForWhatRetentionRemoved(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	first := f.mustRun(Checkpoint{})
	stream, err := f.js.Stream(f.ctx, "AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(f.ctx, jetstream.WithPurgeKeep(7)); err != nil {
		t.Fatal(err)
	}

	again := f.mustRun(first, func(j *Job) { j.Verify, j.UntilCaughtUp = true, true })

	if v := again.Verified; !again.Complete() || v.Removed != 3 || v.StreamEntries != 7 || v.BucketEntries != 10 {
		t.Errorf("the copy is %+v, its verification found %+v", again, v)
	}
	if f.state().Msgs != 7 {
		t.Error("what was removed has come back")
	}
}

func TestVerificationAllowsForWhatAKilledOperatorHadCopied(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	f.mustRun(Checkpoint{})
	// The checkpoint is lost, and the bucket has lost one entry and written another again since.
	if err := f.kv.Delete(f.ctx, key(2)); err != nil {
		t.Fatal(err)
	}
	f.put(key(5), entry(key(5)))

	reached := f.mustRun(Checkpoint{})

	f.wantCounts(reached, Counts{Total: 9, Migrated: 8, AlreadyPresent: 1})
	if !reached.Complete() {
		t.Errorf("the copy is not complete: %+v", reached)
	}
}

func TestVerificationIgnoresWhatOthersWrite(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	native := beforeVerification(f, func(jetstream.Stream) {
		msg := nats.NewMsg("audit.native")
		msg.Data = entry("native")
		// An earlier bucket of this name.
		msg.Header.Set(HeaderSourceBucket, "audit-log")
		msg.Header.Set(HeaderSourceTime, time.Now().Add(-time.Hour).UTC().Format(time.RFC3339Nano))
		if _, err := f.js.PublishMsg(f.ctx, msg); err != nil {
			t.Error(err)
		}
	})
	f.wantCounts(f.mustRun(Checkpoint{}, native), Counts{Total: 10, Migrated: 10})
}

func TestNoConsumerIsLeftBehind(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	f.mustRun(Checkpoint{})
	for _, name := range []string{"AUDIT", StreamName("audit-log")} {
		stream, err := f.js.Stream(f.ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if n := stream.CachedInfo().State.Consumers; n != 0 {
			t.Errorf("stream %s has %d consumers left", name, n)
		}
	}
}

func TestVerificationReadsWhatWasPresentAgain(t *testing.T) {
	f := newFixture(t)
	for i := range 10 {
		if _, err := f.js.Publish(f.ctx, "audit."+key(i), entry(key(i))); err != nil {
			t.Fatal(err)
		}
	}
	f.fill(0, 10)
	first := f.mustRun(Checkpoint{})
	f.wantCounts(first, Counts{Total: 10, AlreadyPresent: 10})
	stream, err := f.js.Stream(f.ctx, "AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(f.ctx, jetstream.WithPurgeKeep(7)); err != nil {
		t.Fatal(err)
	}

	again := f.mustRun(first, func(j *Job) { j.Verify, j.UntilCaughtUp = true, true })

	if v := again.Verified; v.Removed != 3 || v.StreamEntries != 7 || v.BucketEntries != 10 {
		t.Errorf("the verification found %+v, want 7 of 10 entries and 3 removed", v)
	}
}

func TestACheckpointOfAnotherSubjectSaysNothing(t *testing.T) {
	f := newFixture(t, func(_ *jetstream.KeyValueConfig, s *jetstream.StreamConfig) {
		s.Subjects = append(s.Subjects, "payments.audit.trail.>")
	})
	f.fill(0, 5)
	first := f.mustRun(Checkpoint{})

	again := f.mustRun(first, func(j *Job) { j.Subject = "payments.audit.trail" })

	f.wantCounts(again, Counts{Total: 5, Migrated: 5})
	if got := f.subjects(); len(got) != 10 {
		t.Errorf("the stream holds %v", got)
	}
}

func TestInvalidValuesThatAreMendedWhileTheirRunGoesOnAreCountedAgain(t *testing.T) {
	f := newFixture(t)
	for i := range 15 {
		f.put(key(i), []byte("no entry"))
	}
	mended := make(chan struct{})
	told := false
	reached := f.mustRun(Checkpoint{}, func(j *Job) {
		j.Linger = time.Second
		j.Progress = func(c Checkpoint) {
			if told || !c.Complete() {
				return
			}
			told = true
			go func() {
				defer close(mended)
				for i := range 15 {
					_, _ = f.kv.Put(f.ctx, key(i), entry(key(i)))
				}
			}()
		}
	})
	<-mended
	reached = f.mustRun(reached)
	f.wantCounts(f.mustRun(reached), Counts{Total: 15, Migrated: 15})
}
