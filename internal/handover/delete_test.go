package handover

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

func (f *fixture) wantGone(bucket string, want bool) {
	f.t.Helper()
	gone := false
	f.try("looking for bucket "+bucket, func(ctx context.Context) error {
		_, err := f.js.Stream(ctx, "KV_"+bucket)
		if gone = errors.Is(err, jetstream.ErrStreamNotFound); gone {
			return nil
		}
		return err
	})
	if gone != want {
		f.t.Errorf("bucket %s is gone: %t, want %t", bucket, gone, want)
	}
}

func TestDelete(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		_, verified := f.copied("one", "two")
		h := f.handOver(bucketName)
		unfollowed := false
		h.Unfollow = func(context.Context) (func(), error) { unfollowed = true; return func() {}, nil }
		h.Streams.(*streams).asked = func(*jetstream.StreamConfig) error {
			if !unfollowed {
				t.Error("the bucket was fenced while the operator listened")
			}
			return nil
		}
		for range 2 { // the second finds it done
			f.mustDelete(h, verified)
			f.wantGone(bucketName, true)
		}
		f.wantStored("one", "two")
	})
}

// TestDeleteOfARedirectedBucket: the stream goes on taking what legacy writers put.
func TestDeleteOfARedirectedBucket(t *testing.T) {
	f := newFixture(t)
	kv, _ := f.copied("one")
	verified := f.mustRedirect(bucketName).Checkpoint
	f.publish(migrate.HandOverSubject(bucketName), "another mark")
	if err := f.handOver(bucketName).Delete(f.ctx, verified); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	f.wantGone(bucketName, true)
	f.put(kv, "two")
	f.wantStored("one", "two")
	if result, err := f.handOver(bucketName).Redirect(f.ctx); err != nil || result.Opened {
		t.Errorf("Redirect after that: %+v, %v", result, err)
	}
}

// TestDeleteRefuses: the bucket stays, and takes what is put into it.
func TestDeleteRefuses(t *testing.T) {
	tests := map[string]struct {
		arrange func(f *fixture, kv jetstream.KeyValue, h *HandOver, verified *migrate.Checkpoint)
		want    error
	}{
		"an entry since": {want: ErrWrittenSince, arrange: func(f *fixture, kv jetstream.KeyValue, _ *HandOver, _ *migrate.Checkpoint) {
			f.put(kv, "late")
		}},
		"a deletion since": {want: ErrWrittenSince, arrange: func(f *fixture, kv jetstream.KeyValue, _ *HandOver, _ *migrate.Checkpoint) {
			if err := kv.Delete(f.ctx, "one"); err != nil {
				f.t.Fatal(err)
			}
		}},
		"an entry at the last moment": {want: ErrWrittenSince, arrange: func(f *fixture, kv jetstream.KeyValue, h *HandOver, _ *migrate.Checkpoint) {
			h.Streams.(*streams).asked = func(cfg *jetstream.StreamConfig) error {
				if isFence(cfg) {
					f.put(kv, "late")
				}
				return nil
			}
		}},
		"an entry since, after a crash": {want: ErrWrittenSince, arrange: func(f *fixture, kv jetstream.KeyValue, h *HandOver, _ *migrate.Checkpoint) {
			f.put(kv, "late")
			if _, _, err := h.fence(f.ctx); err != nil {
				f.t.Fatal(err)
			}
		}},
		"made again": {want: ErrWrittenSince, arrange: func(f *fixture, kv jetstream.KeyValue, _ *HandOver, _ *migrate.Checkpoint) {
			if err := f.js.DeleteKeyValue(f.ctx, bucketName); err != nil {
				f.t.Fatal(err)
			}
			f.bucket()
			f.put(kv, "one", "two", "three")
		}},
		"not complete": {want: ErrNotClean, arrange: func(_ *fixture, _ jetstream.KeyValue, _ *HandOver, verified *migrate.Checkpoint) {
			verified.CompletionTime = time.Time{}
		}},
		"invalid values": {want: ErrNotClean, arrange: func(_ *fixture, _ jetstream.KeyValue, _ *HandOver, verified *migrate.Checkpoint) {
			verified.Invalid = 1
		}},
		"entries that differ, after a crash": {want: ErrNotClean, arrange: func(f *fixture, _ jetstream.KeyValue, h *HandOver, verified *migrate.Checkpoint) {
			verified.Mismatched = 1
			if _, _, err := h.fence(f.ctx); err != nil {
				f.t.Fatal(err)
			}
		}},
		"a stream that was made again": {want: ErrNotClean, arrange: func(f *fixture, _ jetstream.KeyValue, _ *HandOver, _ *migrate.Checkpoint) {
			if err := f.js.DeleteStream(f.ctx, streamName); err != nil {
				f.t.Fatal(err)
			}
			f.create(f.build(nil))
		}},
		"no stream": {want: jetstream.ErrStreamNotFound, arrange: func(f *fixture, _ jetstream.KeyValue, _ *HandOver, _ *migrate.Checkpoint) {
			if err := f.js.DeleteStream(f.ctx, streamName); err != nil {
				f.t.Fatal(err)
			}
		}},
		"the server": {want: errDead, arrange: func(_ *fixture, _ jetstream.KeyValue, h *HandOver, _ *migrate.Checkpoint) {
			h.Streams = undeletable{h.Streams}
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			kv, verified := f.copied("one", "two")
			h := f.handOver(bucketName)
			tt.arrange(f, kv, h, &verified)
			if err := h.Delete(f.ctx, verified); !errors.Is(err, tt.want) || errors.Is(err, ErrStillFenced) {
				t.Errorf("Delete: %v, want %v", err, tt.want)
			}
			f.wantGone(bucketName, false)
			if got := Observe(f.info("KV_"+bucketName), bucketName, streamName); got.State != Own {
				t.Errorf("the bucket is %+v", got)
			}
			f.put(kv, "new")
		})
	}
}

type undeletable struct{ Streams }

func (undeletable) DeleteStream(context.Context, string) error { return errDead }

// TestDeleteAfterACrash: the fence is there, the bucket too.
func TestDeleteAfterACrash(t *testing.T) {
	f := newFixture(t)
	_, verified := f.copied("one")
	h, s, kill := f.mortal()
	s.answered = func(*jetstream.StreamConfig) error { return kill() }
	if err := h.Delete(f.ctx, verified); !errors.Is(err, ErrStillFenced) {
		t.Errorf("Delete of the operator that is killed: %v", err)
	}
	f.wantState(bucketName, Fenced, false)
	if err := f.handOver(bucketName).Delete(f.ctx, verified); err != nil {
		t.Errorf("the next Delete: %v", err)
	}
	f.wantGone(bucketName, true)
}

// full fills a bucket until it takes nothing more.
func (f *fixture) full(kv jetstream.KeyValue) (keys []string) {
	f.t.Helper()
	for len(keys) < 1000 {
		key := "full-" + strings.Repeat("x", len(keys))
		isFull := false
		f.try("putting "+key, func(ctx context.Context) error {
			_, err := kv.Put(ctx, key, entry(key))
			if isFull = hasCode(err, codeStoreFailed); isFull {
				return nil
			}
			return err
		})
		if isFull {
			return keys
		}
		keys = append(keys, key)
	}
	f.t.Fatal("the bucket is never full")
	return nil
}

// TestFullBucket has no room for the mark, and can be handed over, and deleted, all the same.
func TestFullBucket(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		kv := f.bucket(func(c *jetstream.KeyValueConfig) { c.MaxBytes = 4096 })
		keys := f.full(kv)
		f.mustCopy(bucketName)
		before := f.info("KV_" + bucketName).State
		result := f.mustRedirect(bucketName)
		if result.Mark != before.LastSeq {
			t.Errorf("the mark is %d, the last message %d", result.Mark, before.LastSeq)
		}
		if after := f.info("KV_" + bucketName).State; after.Msgs != before.Msgs {
			t.Errorf("the bucket holds %d messages, want %d as before", after.Msgs, before.Msgs)
		}
		f.put(kv, "new")
		f.wantStored(append(keys, "new")...)
		f.mustDelete(f.handOver(bucketName), result.Checkpoint)
		f.wantGone(bucketName, true)
	})
}

// TestFullBucketThatMayNotBePurged: a redirect goes on, what it misses is copied later; a deletion would lose it.
func TestFullBucketThatMayNotBePurged(t *testing.T) {
	f := newCluster(t)
	f.create(jetstream.StreamConfig{
		Name: "KV_" + bucketName, Subjects: []string{jsbuilder.BucketSubjects(bucketName)}, MaxMsgsPerSubject: 1, Replicas: 3,
		MaxMsgs: 2, Discard: jetstream.DiscardNew, DenyPurge: true, AllowDirect: true,
	})
	kv := f.legacy(bucketName)
	f.put(kv, "one", "two")
	verified := f.mustCopy(bucketName)
	err := f.answer(func(ctx context.Context) error { return f.handOver(bucketName).Delete(ctx, verified) })
	if err == nil || !strings.Contains(err.Error(), "may not be purged") {
		t.Errorf("Delete: %v", err)
	}
	f.wantState(bucketName, Own, false)
	f.mustRedirect(bucketName)
	f.put(kv, "three")
	f.wantStored("one", "two", "three")
}
