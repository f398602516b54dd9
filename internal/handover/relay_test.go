package handover

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// putInTheGap has a writer put a key while nobody takes what is put, and returns its answer.
func putInTheGap(f *fixture, h *HandOver, key string) <-chan error {
	kv := f.legacy(bucketName)
	answer := make(chan error, 1)
	drain := h.Drain
	h.Drain = func(ctx context.Context, through uint64) (migrate.Checkpoint, error) {
		nc := f.js.Conn()
		sub, err := nc.SubscribeSync("$KV." + bucketName + ".>")
		if err != nil {
			f.t.Error(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
		if err := nc.Flush(); err != nil {
			f.t.Error(err)
		}
		go func() {
			_, err := kv.Put(f.ctx, key, entry(key))
			answer <- err
		}()
		if _, err := sub.NextMsgWithContext(f.ctx); err != nil {
			f.t.Error(err) // the put has to be on its way
		}
		return drain(ctx, through)
	}
	return answer
}

func TestAPutOfTheGapIsPassedOnToTheStream(t *testing.T) {
	f := newFixture(t)
	f.copied("old")
	h := f.handOver(bucketName)
	answer := putInTheGap(f, h, "new")

	result, err := h.Redirect(f.ctx)

	if err != nil || result.Relayed != 1 {
		t.Fatalf("Redirect passed on %d puts (%v), want 1", result.Relayed, err)
	}
	if err := <-answer; err != nil {
		t.Errorf("the put of the gap failed: %v", err)
	}
	if ids := f.stored(); ids["new"] != 1 || ids["old"] != 1 {
		t.Errorf("the stream holds %v", ids)
	}
}

func TestAPutOfTheGapIsPassedOnToTheBucketWhenItIsGivenBack(t *testing.T) {
	f := newFixture(t)
	kv, _ := f.copied("old")
	h := f.handOver(bucketName)
	h.Open = func(context.Context, migrate.Checkpoint) error { return errDead }
	answer := putInTheGap(f, h, "new")

	if _, err := h.Redirect(f.ctx); err == nil {
		t.Fatal("Redirect succeeded")
	}

	if err := <-answer; err != nil {
		t.Errorf("the put of the gap failed: %v", err)
	}
	if _, err := kv.Get(f.ctx, "new"); err != nil {
		t.Errorf("the bucket does not hold it: %v", err)
	}
}

// What the bucket has taken while the relay listened must not come to the stream a second time, nor after its deletion.
func TestTheRelayDoublesNothing(t *testing.T) {
	const beyondAll = 1 << 40
	for name, test := range map[string]struct {
		since  uint64
		passed int
	}{
		"asking the bucket":                      {1, 0},
		"without an answer, by its expectations": {beyondAll, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.copied("old")
			relay, err := openRelay(f.ctx, f.js, bucketName, test.since)
			if err != nil {
				t.Fatal(err)
			}
			kv := f.legacy(bucketName)
			f.put(kv, "taken")
			f.mustCopy(bucketName)
			if test.since != beyondAll {
				f.put(kv, "deleted")
				if err := kv.Delete(f.ctx, "deleted"); err != nil {
					t.Fatal(err)
				}
			}
			relay.end(f.ctx)

			if n := relay.passOn(f.ctx, f.spec.Subject+"."); n != test.passed {
				t.Errorf("%d puts were passed on, want %d", n, test.passed)
			}
			if err := f.js.Conn().Flush(); err != nil {
				t.Fatal(err)
			}
			f.put(kv, "after") // the stream has looked at what was passed on when this is copied
			f.mustCopy(bucketName)
			if ids := f.stored(); ids["taken"] != 1 || ids["after"] != 1 || ids["deleted"] != 0 {
				t.Errorf("the stream holds %v", ids)
			}
		})
	}
}

func TestAPanicInTheGapGivesTheSubjectsBack(t *testing.T) {
	f := newFixture(t)
	f.copied("old")
	h := f.handOver(bucketName)
	h.Drain = func(context.Context, uint64) (migrate.Checkpoint, error) { panic("drain") }
	before := f.js.Conn().NumSubscriptions()

	if _, err := h.Redirect(f.ctx); err == nil || !strings.Contains(err.Error(), "panic: drain") {
		t.Errorf("Redirect returned %v", err)
	}

	f.wantState(bucketName, Own, false)
	for f.js.Conn().NumSubscriptions() > before {
		if f.ctx.Err() != nil {
			t.Fatal("the relay is left behind")
		}
		time.Sleep(10 * time.Millisecond) // nats.go ends a drained subscription a moment later
	}
}
