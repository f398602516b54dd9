package migrate

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func inMemory(_ *jetstream.KeyValueConfig, s *jetstream.StreamConfig) {
	s.Storage = jetstream.MemoryStorage
}

func holding(bytes int64) func(*jetstream.KeyValueConfig, *jetstream.StreamConfig) {
	return func(_ *jetstream.KeyValueConfig, s *jetstream.StreamConfig) {
		s.MaxBytes, s.Discard = bytes, jetstream.DiscardOld
	}
}

func (f *fixture) setMaxBytes(n int64) {
	f.t.Helper()
	stream, err := f.js.Stream(f.ctx, "AUDIT")
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes = n
	if _, err := f.js.UpdateStream(f.ctx, cfg); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) state() jetstream.StreamState {
	f.t.Helper()
	stream, err := f.js.Stream(f.ctx, "AUDIT")
	if err != nil {
		f.t.Fatal(err)
	}
	return stream.CachedInfo().State
}

func (f *fixture) native(keys ...string) {
	f.t.Helper()
	for _, key := range keys {
		if _, err := f.js.Publish(f.ctx, "audit."+key, entry(key)); err != nil {
			f.t.Fatal(err)
		}
	}
}

func TestNothingIsDroppedToMakeRoomForTheCopy(t *testing.T) {
	t.Parallel()
	for name, storage := range map[string]func(*jetstream.KeyValueConfig, *jetstream.StreamConfig){"file": holding(0), "memory": inMemory} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, holding(20_000), storage, holding(20_000))
			f.native("native-1", "native-2")
			f.fill(0, 1500)
			before := f.state()

			_, err := f.run(Checkpoint{})

			full := (*NoRoomError)(nil)
			if !errors.As(err, &full) || full.MaxBytes != 20_000 {
				t.Fatalf("Run returned %v, want a NoRoomError", err)
			}
			if now := f.state(); now.Msgs != before.Msgs || now.LastSeq != before.LastSeq {
				t.Errorf("the stream has %+v, had %+v", now, before)
			}

			f.setMaxBytes(full.Needed)
			f.wantCounts(f.mustRun(Checkpoint{}), Counts{Total: 1500, Migrated: 1500})
			now := f.state()
			if now.FirstSeq != 1 || now.Msgs != 1502 {
				t.Errorf("with the room that was asked for the stream has dropped something: %+v", now)
			}
			if float64(now.Bytes) < 0.85*float64(full.Needed) {
				t.Errorf("the copy asked for %d bytes and took %d", full.Needed, now.Bytes)
			}
		})
	}
}

func TestWhatTheStreamHoldsNeedsNoRoom(t *testing.T) {
	f := newFixture(t, holding(1<<20))
	f.fill(0, 100)
	f.mustRun(Checkpoint{})
	f.native("late")
	f.fill(100, 101)
	f.setMaxBytes(int64(f.state().Bytes) + 400)

	// As after a crash before the first checkpoint.
	f.wantCounts(f.mustRun(Checkpoint{}), Counts{Total: 101, Migrated: 101})
	if now := f.state(); now.FirstSeq != 1 {
		t.Errorf("the stream has dropped something: %+v", now)
	}
}

func TestADryRunSaysHowMuchRoomItNeeds(t *testing.T) {
	f := newFixture(t, holding(20_000))
	f.fill(0, 1500)
	dry := func(j *Job) { j.DryRun = true }
	reached := f.mustRun(Checkpoint{}, dry)
	f.wantCounts(reached, Counts{Total: 1500, Migrated: 1500})
	if reached.Needed <= 20_000 {
		t.Errorf("the dry run says that it needs %d bytes", reached.Needed)
	}
	f.setMaxBytes(reached.Needed)
	if reached = f.mustRun(Checkpoint{}, dry); reached.Needed != 0 {
		t.Errorf("with the room that was asked for the dry run says that it needs %d bytes", reached.Needed)
	}
	f.mustRun(Checkpoint{})
	if now := f.state(); now.FirstSeq != 1 || now.Msgs != 1500 {
		t.Errorf("the stream has dropped something: %+v", now)
	}
}

func TestLateWritersAreFollowedIntoAFullStream(t *testing.T) {
	f := newFixture(t, holding(1<<20))
	f.fill(0, 100)
	reached := f.mustRun(Checkpoint{})
	f.setMaxBytes(int64(f.state().Bytes))
	f.fill(100, 110)

	f.wantCounts(f.mustRun(reached), Counts{Total: 110, Migrated: 110})
	if now := f.state(); now.LastSeq != 110 {
		t.Errorf("the stream has %+v", now)
	}
}

// What was removed from the stream before the first copy was through is in the bucket alone.
func TestWhatIsRemovedWhileTheStreamIsFilledIsCopiedAgain(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 10)
	f.put("broken", []byte("no JSON"))
	removing := beforeVerification(f, func(stream jetstream.Stream) {
		if err := stream.Purge(f.ctx, jetstream.WithPurgeKeep(7)); err != nil {
			t.Error(err)
		}
	})

	reached, err := f.run(Checkpoint{}, removing)

	removed := (*RemovedError)(nil)
	if !errors.As(err, &removed) || removed.Entries != 3 {
		t.Fatalf("Run returned %v, want a RemovedError of 3", err)
	}
	stored := f.saved[len(f.saved)-1]
	for _, c := range []Checkpoint{reached, stored} {
		if v := c.Verified; c.Complete() || v == nil || v.BucketEntries != 10 || v.StreamEntries != 7 || v.Removed != 3 || v.BucketDigest == v.StreamDigest {
			t.Errorf("the checkpoint is %+v, verified %+v", c, v)
		}
	}

	again := f.mustRun(stored)

	f.wantCounts(again, Counts{Total: 11, Migrated: 10, Invalid: 1, InvalidKeys: []string{"broken"}})
	if v := again.Verified; !again.Complete() || v.BucketEntries != 10 || v.StreamEntries != 10 || v.Removed != 0 {
		t.Errorf("the checkpoint is %+v, verified %+v", again, v)
	}
	if !again.Supersedes(&stored) || f.state().Msgs != 10 {
		t.Errorf("the checkpoint is %+v, the stream has %+v", again, f.state())
	}
}
