package handover

import (
	"context"
	"testing"

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
	f.put(f.bucket(), "old")
	f.mustCopy(bucketName)
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
	kv := f.bucket()
	f.put(kv, "old")
	f.mustCopy(bucketName)
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

// What the bucket has taken while the relay listened must not come to the stream a second time.
func TestTheRelayDoublesNothing(t *testing.T) {
	f := newFixture(t)
	f.put(f.bucket(), "old")
	f.mustCopy(bucketName)
	relay, err := openRelay(f.ctx, f.js.Conn(), bucketName)
	if err != nil {
		t.Fatal(err)
	}
	f.put(f.legacy(bucketName), "taken")
	f.mustCopy(bucketName)
	relay.end(f.ctx)

	if n := relay.passOn(f.spec.Subject + "."); n != 1 {
		t.Errorf("%d puts were passed on, want 1", n)
	}
	if err := f.js.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	f.put(f.legacy(bucketName), "after") // the stream has looked at what was passed on when this is copied
	f.mustCopy(bucketName)
	if ids := f.stored(); ids["taken"] != 1 || ids["after"] != 1 {
		t.Errorf("the stream holds %v", ids)
	}
}
