package handover

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/auditstore"
)

func (f *fixture) store() *auditstore.StreamStore {
	f.t.Helper()
	store, err := auditstore.New(f.ctx, f.js, auditstore.Config{Stream: f.spec.Stream, Subject: f.spec.Subject})
	if err != nil {
		f.t.Fatal(err)
	}
	return store
}

// wantReadable checks that the entries, and nothing else, are what readers of the stream get.
func (f *fixture) wantReadable(ids ...string) {
	f.t.Helper()
	store := f.store()
	for _, id := range ids {
		if e, err := store.Get(f.ctx, id); err != nil || e.User != "alice" {
			f.t.Errorf("Get(%s): %+v, %v", id, e, err)
		}
	}
	list, total, err := store.List(f.ctx, 100, 0)
	var got []string
	for _, e := range list {
		got = append(got, e.ID)
	}
	slices.Sort(got)
	slices.Sort(ids)
	if err != nil || total != len(ids) || !slices.Equal(got, ids) {
		f.t.Errorf("List: %v of %d, %v, want %v", got, total, err, ids)
	}
}

// reads says whether the bucket has the entry of a key. A replica that lags may answer that it has none.
func reads(ctx context.Context, kv jetstream.KeyValue, key string) bool {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	value, err := kv.Get(ctx, key)
	return err == nil && string(value.Value()) == string(entry(key))
}

// TestLegacyReadersGoOn: what the bucket held is there for them, through the handle they have and through a new one.
func TestLegacyReadersGoOn(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		old, _ := f.copied("one", "two")
		f.mustRedirect(bucketName)
		f.put(old, "three")
		fresh := f.legacy(bucketName)
		f.put(fresh, "four")
		for handle, kv := range map[string]jetstream.KeyValue{"old": old, "fresh": fresh} {
			for _, key := range []string{"one", "two"} {
				f.await("the "+handle+" handle to get "+key, func() bool { return reads(f.ctx, kv, key) })
			}
			f.await("the "+handle+" handle to list the keys", func() bool {
				ctx, cancel := context.WithTimeout(f.ctx, requestTimeout) // a watcher of a busy cluster may wait for ever
				defer cancel()
				keys, err := kv.Keys(ctx)
				slices.Sort(keys)
				return err == nil && slices.Equal(keys, []string{"one", "two"})
			})
			if err := f.answer(func(ctx context.Context) error { _, err := kv.Get(ctx, "three"); return err }); !errors.Is(err, jetstream.ErrKeyNotFound) {
				t.Errorf("%s handle: Get of what was put since: %v", handle, err)
			}
			f.try("asking for the status", func(ctx context.Context) error {
				status, err := kv.Status(ctx)
				if err == nil && status.Bucket() != bucketName {
					t.Errorf("%s handle: Status: %v", handle, status)
				}
				return err
			})
		}
		f.wantReadable("one", "two", "three", "four")
	})
}

// TestLegacyWritersHideNothing: what a legacy writer does to an entry that is there leaves it as it is. What RejectNew
// stores one message under an id for, it refuses.
func TestLegacyWritersHideNothing(t *testing.T) {
	for whenFull, refuses := range map[v1alpha1.WhenFull]bool{v1alpha1.WhenFullDropOldest: false, v1alpha1.WhenFullRejectNew: true} {
		t.Run(string(whenFull), func(t *testing.T) {
			f := newFixture(t, func(s *v1alpha1.AuditStreamSpec) { s.WhenFull = whenFull })
			kv := f.bucket()
			ids := []string{"put", "delete", "purge", "create", "update"}
			f.put(kv, ids...)
			f.mustCopy(bucketName)
			f.mustRedirect(bucketName)
			f.put(kv, "new")
			for _, id := range append(ids, "new") {
				_, err := kv.Put(f.ctx, id, []byte(`{"id":"`+id+`","user":"mallory"}`))
				if (err != nil) != refuses {
					t.Errorf("Put(%s): %v, want an error: %t", id, err, refuses)
				}
				if err := kv.Delete(f.ctx, id); (err != nil) != refuses {
					t.Errorf("Delete(%s): %v, want an error: %t", id, err, refuses)
				}
				if err := kv.Purge(f.ctx, id); err == nil {
					t.Errorf("Purge(%s) is not refused", id)
				}
				if _, err := kv.Create(f.ctx, id, entry(id)); err == nil {
					t.Errorf("Create(%s) of an entry that is there is not refused", id)
				}
			}
			f.wantReadable(append(ids, "new")...)
		})
	}
}

// TestSeveralBuckets share one stream and its one transform, and each goes its own way.
func TestSeveralBuckets(t *testing.T) {
	f := newFixture(t)
	buckets := map[string]jetstream.KeyValue{}
	for _, name := range []string{"a", "b", "c"} {
		buckets[name] = f.bucket(named(name))
		f.put(buckets[name], name+"-old")
		f.mustCopy(name)
	}
	f.mustRedirect("a")
	f.mustRedirect("b")
	for name, kv := range buckets {
		f.put(kv, name+"-new")
	}
	f.wantState("a", Fenced, true)
	f.wantState("b", Fenced, true)
	f.wantState("c", Own, false)
	f.wantStored("a-old", "b-old", "c-old", "a-new", "b-new")

	f.closeStream("a")
	if returned, err := f.handOver("a").Return(f.ctx); err != nil || !returned {
		t.Fatalf("Return: %t, %v", returned, err)
	}
	f.wantState("a", Own, false)
	f.wantState("b", Fenced, true)
	for name, kv := range buckets {
		f.put(kv, name+"-last")
	}
	f.wantStored("a-old", "b-old", "c-old", "a-new", "b-new", "b-last")
	f.mustCopy("a")
	f.wantStored("a-old", "b-old", "c-old", "a-new", "b-new", "b-last", "a-last")
}

// TestEveryKindOfBucket: the configuration of a bucket is sent back as it came, but for its subjects.
func TestEveryKindOfBucket(t *testing.T) {
	kinds := map[string]func(c *jetstream.KeyValueConfig){
		"as it comes":     func(c *jetstream.KeyValueConfig) { c.TTL = 0 },
		"history":         func(c *jetstream.KeyValueConfig) { c.History = 5 },
		"short TTL":       func(c *jetstream.KeyValueConfig) { c.TTL = time.Minute },
		"bytes":           func(c *jetstream.KeyValueConfig) { c.MaxBytes = 1 << 20 },
		"compression":     func(c *jetstream.KeyValueConfig) { c.Compression = true },
		"memory":          func(c *jetstream.KeyValueConfig) { c.Storage = jetstream.MemoryStorage },
		"placement":       func(c *jetstream.KeyValueConfig) { c.Placement = &jetstream.Placement{Cluster: ""} },
		"limit marker":    func(c *jetstream.KeyValueConfig) { c.LimitMarkerTTL = time.Hour },
		"metadata":        func(c *jetstream.KeyValueConfig) { c.Metadata = map[string]string{"team": "payments"} },
		"description":     func(c *jetstream.KeyValueConfig) { c.Description = "the audit log" },
		"republish":       func(c *jetstream.KeyValueConfig) { c.RePublish = &jetstream.RePublish{Destination: "copy.>"} },
		"values of a few": func(c *jetstream.KeyValueConfig) { c.MaxValueSize = 26 },
	}
	f := newFixture(t)
	for kind, change := range kinds {
		t.Run(kind, func(t *testing.T) {
			f.t = t
			kv := f.bucket(change)
			defer func() {
				f.closeStream(bucketName)
				if err := f.js.DeleteKeyValue(f.ctx, bucketName); err != nil {
					t.Fatal(err)
				}
			}()
			f.put(kv, kind[:1]+"1")
			f.mustCopy(bucketName)
			before := f.info("KV_" + bucketName).Config
			f.mustRedirect(bucketName)
			f.put(kv, kind[:1]+"2")
			f.closeStream(bucketName)
			if returned, err := f.handOver(bucketName).Return(f.ctx); err != nil || !returned {
				t.Fatalf("Return: %t, %v", returned, err)
			}
			wantSame(t, before, f.info("KV_"+bucketName).Config)
			f.put(kv, kind[:1]+"3")
		})
	}
}
