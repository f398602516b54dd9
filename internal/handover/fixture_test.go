package handover

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

const (
	testTimeout = 4 * time.Minute
	// requestTimeout bounds one request, which a server may never answer.
	requestTimeout = 5 * time.Second
	pollInterval   = 10 * time.Millisecond
	bucketName     = "audit-log"
	streamName     = "AUDIT"
)

// fixture is a lone server or a cluster with buckets and an audit stream, and does what the controller does around a
// hand-over.
type fixture struct {
	t        *testing.T
	ctx      context.Context
	url      string
	servers  []*natstest.Server
	replicas int
	js       jetstream.JetStream
	spec     v1alpha1.AuditStreamSpec
	saved    map[string]migrate.Checkpoint
}

func newFixture(t *testing.T, change ...func(*v1alpha1.AuditStreamSpec)) *fixture {
	t.Helper()
	return start(t, 1, natstest.Run(t).URL(), change...)
}

func newCluster(t *testing.T, change ...func(*v1alpha1.AuditStreamSpec)) *fixture {
	t.Helper()
	var urls []string
	servers := natstest.RunCluster(t)
	for _, s := range servers {
		urls = append(urls, s.URL())
	}
	f := start(t, 3, strings.Join(urls, ","), change...)
	f.servers = servers
	return f
}

// onEach runs a test on a lone server and on a cluster.
func onEach(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	starts := map[string]func(*testing.T, ...func(*v1alpha1.AuditStreamSpec)) *fixture{"R1": newFixture, "R3": newCluster}
	for name, start := range starts {
		t.Run(name, func(t *testing.T) { test(t, start(t)) })
	}
}

func start(t *testing.T, replicas int, url string, change ...func(*v1alpha1.AuditStreamSpec)) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	f := &fixture{
		t: t, ctx: ctx, url: url, replicas: replicas, saved: map[string]migrate.Checkpoint{},
		spec: v1alpha1.AuditStreamSpec{Stream: streamName, Subject: "audit", Replicas: int32(replicas),
			MigrateFrom: []v1alpha1.MigrationSource{{Bucket: bucketName}}},
	}
	for _, c := range change {
		c(&f.spec)
	}
	f.js = f.connect()
	f.create(f.build(nil))
	return f
}

// try asks as natstest.Ask does.
func (f *fixture) try(what string, ask func(ctx context.Context) error) {
	f.t.Helper()
	natstest.Ask(f.ctx, f.t, what, ask)
}

func (f *fixture) create(cfg jetstream.StreamConfig) {
	f.t.Helper()
	f.try("creating stream "+cfg.Name, func(ctx context.Context) error {
		_, err := f.js.CreateStream(ctx, cfg)
		return err
	})
}

// legacy opens a bucket as a legacy workload does that starts.
func (f *fixture) legacy(bucket string) (kv jetstream.KeyValue) {
	f.t.Helper()
	js := f.connect()
	f.try("opening bucket "+bucket, func(ctx context.Context) (err error) {
		kv, err = js.KeyValue(ctx, bucket)
		return err
	})
	return kv
}

func (f *fixture) connect() jetstream.JetStream {
	f.t.Helper()
	nc, err := nats.Connect(f.url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		f.t.Fatal(err)
	}
	return js
}

// build is the configuration that the controller declares for the stream, given its live metadata.
func (f *fixture) build(metadata map[string]string) jetstream.StreamConfig {
	f.t.Helper()
	cfg, err := jsbuilder.Build(&f.spec, "payments", "api-audit", "uid-1/payments/api-audit")
	if err != nil {
		f.t.Fatal(err)
	}
	return jsbuilder.WithRedirects(cfg, jsbuilder.Redirects(metadata))
}

// bucket makes a legacy bucket and returns a legacy handle to it, of a connection of its own.
func (f *fixture) bucket(change ...func(*jetstream.KeyValueConfig)) jetstream.KeyValue {
	f.t.Helper()
	cfg := jetstream.KeyValueConfig{Bucket: bucketName, History: 1, TTL: 720 * time.Hour, Replicas: f.replicas}
	for _, c := range change {
		c(&cfg)
	}
	f.try("creating bucket "+cfg.Bucket, func(ctx context.Context) error {
		_, err := f.js.CreateKeyValue(ctx, cfg)
		return err
	})
	return f.legacy(cfg.Bucket)
}

func named(name string) func(*jetstream.KeyValueConfig) {
	return func(c *jetstream.KeyValueConfig) { c.Bucket = name }
}

func entry(id string) []byte { return fmt.Appendf(nil, `{"id":%q,"user":"alice"}`, id) }

func (f *fixture) put(kv jetstream.KeyValue, keys ...string) {
	f.t.Helper()
	for _, key := range keys {
		f.try("putting "+key, func(ctx context.Context) error {
			_, err := kv.Put(ctx, key, entry(key))
			return err
		})
	}
}

// copy runs the copy of a bucket as far as through, or until it has caught up, and stores the checkpoint with the data.
func (f *fixture) copy(ctx context.Context, bucket string, through uint64) (migrate.Checkpoint, error) {
	job := migrate.Job{
		JetStream: f.js, Bucket: bucket, Stream: f.spec.Stream, Subject: f.spec.Subject,
		Resume: f.saved[bucket], Through: through, UntilCaughtUp: true,
		Save: func(ctx context.Context, c migrate.Checkpoint) error { return f.save(ctx, bucket, c) },
	}
	reached, err := job.Run(ctx)
	f.saved[bucket] = reached
	return reached, err
}

func (f *fixture) mustCopy(bucket string) migrate.Checkpoint {
	f.t.Helper()
	var reached migrate.Checkpoint
	f.pass("copying bucket "+bucket, func() (err error) {
		reached, err = f.copy(f.ctx, bucket, 0)
		return err
	})
	return reached
}

// copied makes a bucket with these entries and copies it.
func (f *fixture) copied(keys ...string) (jetstream.KeyValue, migrate.Checkpoint) {
	f.t.Helper()
	kv := f.bucket()
	f.put(kv, keys...)
	return kv, f.mustCopy(bucketName)
}

// pass does again what failed in a cluster, as the controller's next pass does: its servers may be busy.
func (f *fixture) pass(what string, do func() error) {
	f.t.Helper()
	for {
		err := do()
		if err == nil {
			return
		}
		if f.replicas == 1 || f.ctx.Err() != nil {
			f.t.Fatalf("%s: %v", what, err)
		}
		f.t.Logf("%s, again: %v", what, err)
	}
}

// await asks until it is as it should be.
func (f *fixture) await(what string, done func() bool) {
	f.t.Helper()
	for !done() {
		if f.ctx.Err() != nil {
			f.t.Fatalf("waited for %s", what)
		}
		time.Sleep(pollInterval)
	}
}

// answer is what the servers of a cluster say, other than that they are busy.
func (f *fixture) answer(ask func(ctx context.Context) error) (err error) {
	f.t.Helper()
	f.await("an answer", func() bool {
		ctx, cancel := context.WithTimeout(f.ctx, requestTimeout)
		defer cancel()
		err = ask(ctx)
		return !natstest.Passes(err)
	})
	return err
}

func (f *fixture) save(ctx context.Context, bucket string, c migrate.Checkpoint) error {
	text, err := c.Encode()
	if err != nil {
		return err
	}
	return f.change(ctx, func(metadata map[string]string) { metadata[jsbuilder.MetadataMigrationPrefix+bucket] = text })
}

// change changes the stream's metadata, and what follows from it, in one update.
func (f *fixture) change(ctx context.Context, change func(metadata map[string]string)) error {
	live, err := f.live(ctx, f.spec.Stream)
	if err != nil {
		return err
	}
	have := live.Config
	have.Metadata = maps.Clone(have.Metadata)
	change(have.Metadata)
	_, err = f.js.UpdateStream(ctx, jsbuilder.Merge(f.build(have.Metadata), have))
	return err
}

func (f *fixture) open(ctx context.Context, bucket string) error {
	return f.change(ctx, func(metadata map[string]string) {
		metadata[jsbuilder.MetadataRedirectPrefix+bucket] = time.Now().UTC().Format(time.RFC3339)
	})
}

func (f *fixture) closeStream(bucket string) {
	f.t.Helper()
	f.try("taking the subjects of bucket "+bucket+" from the stream", func(ctx context.Context) error {
		return f.change(ctx, func(metadata map[string]string) { delete(metadata, jsbuilder.MetadataRedirectPrefix+bucket) })
	})
}

func (f *fixture) handOver(bucket string) *HandOver {
	return &HandOver{
		Streams: &streams{js: f.js}, JetStream: f.js, Bucket: bucket, Stream: f.spec.Stream, Subject: f.spec.Subject,
		Drain: func(ctx context.Context, through uint64) (migrate.Checkpoint, error) {
			return f.copy(ctx, bucket, through)
		},
		Open: func(ctx context.Context, _ migrate.Checkpoint) error { return f.open(ctx, bucket) },
	}
}

func (f *fixture) mustRedirect(bucket string) Result {
	f.t.Helper()
	return f.mustRedirectBy(f.handOver(bucket))
}

func (f *fixture) mustRedirectBy(h *HandOver) (result Result) {
	f.t.Helper()
	f.pass("Redirect", func() (err error) {
		result, err = h.Redirect(f.ctx)
		return err
	})
	f.wantState(h.Bucket, Fenced, true)
	return result
}

func (f *fixture) mustDelete(h *HandOver, verified migrate.Checkpoint) {
	f.t.Helper()
	f.pass("Delete", func() error { return h.Delete(f.ctx, verified) })
}

func (f *fixture) live(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	stream, err := f.js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

func (f *fixture) info(name string) *jetstream.StreamInfo {
	f.t.Helper()
	var info *jetstream.StreamInfo
	f.try("looking at "+name, func(ctx context.Context) (err error) {
		info, err = f.live(ctx, name)
		return err
	})
	return info
}

// wantState checks where the bucket stands, and whether the stream is open for it.
func (f *fixture) wantState(bucket string, want State, open bool) {
	f.t.Helper()
	if got := Observe(f.info("KV_"+bucket), bucket, f.spec.Stream); got.State != want {
		f.t.Errorf("bucket %s is %+v, want state %d", bucket, got, want)
	}
	target := f.info(f.spec.Stream)
	if Opened(target, bucket) != open || claimed(target, bucket) != open {
		f.t.Errorf("stream open for bucket %s: %t (claimed %t), want %t", bucket, Opened(target, bucket), claimed(target, bucket), open)
	}
}

// stored counts the messages of the stream by the id of their entry.
func (f *fixture) stored() map[string]int {
	f.t.Helper()
	var info *jetstream.StreamInfo
	f.try("reading the stream", func(ctx context.Context) error {
		stream, err := f.js.Stream(ctx, f.spec.Stream)
		if err != nil {
			return err
		}
		info, err = stream.Info(ctx, jetstream.WithSubjectFilter(">"))
		return err
	})
	ids := map[string]int{}
	for subject, n := range info.State.Subjects {
		id, found := strings.CutPrefix(subject, f.spec.Subject+".")
		if !found {
			f.t.Errorf("the stream holds a message under %s", subject)
		}
		ids[id] += int(n)
	}
	return ids
}

func (f *fixture) wantStored(keys ...string) {
	f.t.Helper()
	ids := f.stored()
	for _, key := range keys {
		if ids[key] != 1 {
			f.t.Errorf("the stream holds entry %s %d times, want once", key, ids[key])
		}
	}
	if len(ids) != len(keys) {
		f.t.Errorf("the stream holds %d entries, want %d", len(ids), len(keys))
	}
}
