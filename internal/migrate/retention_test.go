package migrate

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// lateness is how long after its time an entry may still be there: less than it would be if it were counted from another time.
const lateness = 9 * time.Second

func keeping(age time.Duration) func(*jetstream.KeyValueConfig, *jetstream.StreamConfig) {
	return func(_ *jetstream.KeyValueConfig, stream *jetstream.StreamConfig) {
		stream.MaxAge, stream.Duplicates = age, age
	}
}

func (f *fixture) setMaxAge(age time.Duration) {
	f.t.Helper()
	stream, err := f.js.Stream(f.ctx, "AUDIT")
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	if cfg.MaxAge = age; age > 0 && age < cfg.Duplicates {
		cfg.Duplicates = age
	}
	if _, err := f.js.UpdateStream(f.ctx, cfg); err != nil {
		f.t.Fatal(err)
	}
}

// recorded is when the bucket has recorded a key.
func (f *fixture) recorded(key string) time.Time {
	f.t.Helper()
	got, err := f.kv.Get(f.ctx, key)
	if err != nil {
		f.t.Fatal(err)
	}
	return got.Created()
}

func (f *fixture) holds(key string) bool {
	f.t.Helper()
	stream, err := f.js.Stream(f.ctx, "AUDIT")
	if err != nil {
		f.t.Fatal(err)
	}
	_, err = stream.GetLastMsgForSubject(f.ctx, "audit."+key)
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		f.t.Fatal(err)
	}
	return err == nil
}

// expectGone watches the entry until it is gone. It must not go before its time, nor be there long after it.
func (f *fixture) expectGone(key string, at time.Time) {
	f.t.Helper()
	for {
		asked := time.Now()
		there := f.holds(key)
		switch {
		case !there && time.Now().Before(at):
			f.t.Fatalf("entry %s is gone %s before its time", key, time.Until(at))
		case there && asked.After(at.Add(lateness)):
			f.t.Fatalf("entry %s is still there %s after its time", key, asked.Sub(at))
		case !there:
			return
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

// awaitAge waits until the bucket has had the key for a while: there is no other way to have an old entry.
func (f *fixture) awaitAge(key string, age time.Duration) {
	f.t.Helper()
	time.Sleep(time.Until(f.recorded(key).Add(age)))
}

func TestEntriesExpireAtTheirTimeWheneverTheyWereCopied(t *testing.T) {
	t.Parallel()
	const maxAge = 16 * time.Second
	f := newFixture(t, keeping(maxAge))
	f.put("early", entry("early"))
	f.awaitAge("early", lateness+time.Second)
	f.put("late", entry("late"))

	f.wantCounts(f.mustRun(Checkpoint{}, func(j *Job) { j.MaxAge = maxAge }), Counts{Total: 2, Migrated: 2})
	for _, msg := range f.stored() {
		ttl, err := time.ParseDuration(msg.Header.Get(jetstream.MsgTTLHeader) + "s")
		due := f.recorded(strings.TrimPrefix(msg.Subject, "audit.")).Add(maxAge)
		if late := msg.Time.Add(ttl).Sub(due); err != nil || late < 0 || late > 2*time.Second {
			t.Errorf("%s is to expire %s after its time (%v)", msg.Subject, late, err)
		}
	}

	for _, key := range []string{"early", "late"} {
		f.expectGone(key, f.recorded(key).Add(maxAge))
	}
}

// What docs/migration.md says about a maxAge that is changed after the move.
func TestMaxAgeChangedAfterTheMove(t *testing.T) {
	t.Parallel()
	const moved = 4 * time.Second
	t.Run("a longer one leaves moved entries the time they were moved with", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, keeping(moved))
		f.put("a", entry("a"))
		f.mustRun(Checkpoint{}, func(j *Job) { j.MaxAge = moved })
		f.setMaxAge(time.Hour)
		f.expectGone("a", f.recorded("a").Add(moved))
	})
	t.Run("none leaves moved entries the time they were moved with", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, keeping(moved))
		f.put("a", entry("a"))
		f.mustRun(Checkpoint{}, func(j *Job) { j.MaxAge = moved })
		f.setMaxAge(0)
		f.expectGone("a", f.recorded("a").Add(moved))
	})
	t.Run("a shorter one counts from the move", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, keeping(time.Hour))
		f.put("a", entry("a"))
		f.awaitAge("a", time.Second)
		f.mustRun(Checkpoint{}, func(j *Job) { j.MaxAge = time.Hour })
		moved := f.stored()[0].Time
		f.setMaxAge(2 * time.Second)
		f.expectGone("a", moved.Add(2*time.Second))
	})
	t.Run("one in place of none counts from the move", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.put("a", entry("a"))
		f.awaitAge("a", time.Second)
		f.mustRun(Checkpoint{})
		moved := f.stored()[0]
		if ttl := moved.Header.Get(jetstream.MsgTTLHeader); ttl != "" {
			t.Errorf("an entry without maxAge has the time to live %q", ttl)
		}
		f.setMaxAge(2 * time.Second)
		f.expectGone("a", moved.Time.Add(2*time.Second))
	})
}
