package migrate

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

const testTimeout = 3 * time.Minute

// fixture is a server with a bucket and a stream to copy it into.
type fixture struct {
	t      *testing.T
	ctx    context.Context
	server *natstest.Server
	js     jetstream.JetStream
	kv     jetstream.KeyValue
	saved  []Checkpoint
	now    func() time.Time
}

func newFixture(t *testing.T, change ...func(*jetstream.KeyValueConfig, *jetstream.StreamConfig)) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	server := natstest.Run(t)
	f := &fixture{t: t, ctx: ctx, server: server, js: server.JetStream(nats.ReconnectBufSize(-1)), now: time.Now}
	bucket := jetstream.KeyValueConfig{Bucket: "audit-log", History: 1, TTL: 720 * time.Hour}
	stream := jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}, AllowMsgTTL: true, AllowDirect: true, AllowAtomicPublish: true}
	for _, c := range change {
		c(&bucket, &stream)
	}
	var err error
	if f.kv, err = f.js.CreateKeyValue(ctx, bucket); err != nil {
		t.Fatal(err)
	}
	if _, err := f.js.CreateStream(ctx, stream); err != nil {
		t.Fatal(err)
	}
	return f
}

func withHistory(n uint8) func(*jetstream.KeyValueConfig, *jetstream.StreamConfig) {
	return func(kv *jetstream.KeyValueConfig, _ *jetstream.StreamConfig) { kv.History = n }
}

func entry(id string) []byte { return fmt.Appendf(nil, `{"id":%q,"user":"alice"}`, id) }

func (f *fixture) put(key string, value []byte) {
	f.t.Helper()
	if _, err := f.kv.Put(f.ctx, key, value); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) fill(from, to int) {
	f.t.Helper()
	for i := from; i < to; i++ {
		f.put(key(i), entry(key(i)))
	}
}

func key(i int) string { return fmt.Sprintf("id-%05d", i) }

// run runs a job to its end, cutting the wait for late writers short once the copy is complete.
func (f *fixture) run(resume Checkpoint, change ...func(*Job)) (Checkpoint, error) {
	f.t.Helper()
	job := &Job{
		JetStream: f.js, Bucket: "audit-log", Stream: "AUDIT", Subject: "audit", Resume: resume, Now: f.now, Linger: 50 * time.Millisecond,
		Save: func(_ context.Context, c Checkpoint) error { f.saved = append(f.saved, c); return nil },
	}
	for _, c := range change {
		c(job)
	}
	return job.Run(f.ctx)
}

func (f *fixture) mustRun(resume Checkpoint, change ...func(*Job)) Checkpoint {
	f.t.Helper()
	reached, err := f.run(resume, change...)
	if err != nil {
		f.t.Fatalf("Run: %v", err)
	}
	return reached
}

// stored reads the whole stream in order.
func (f *fixture) stored() []*jetstream.RawStreamMsg {
	f.t.Helper()
	stream, err := f.js.Stream(f.ctx, "AUDIT")
	if err != nil {
		f.t.Fatal(err)
	}
	state := stream.CachedInfo().State
	var msgs []*jetstream.RawStreamMsg
	for seq := state.FirstSeq; state.Msgs > 0 && seq <= state.LastSeq; seq++ {
		msg, err := stream.GetMsg(f.ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			f.t.Fatal(err)
		}
		msgs = append(msgs, msg)
	}
	return msgs
}

func (f *fixture) subjects() []string {
	f.t.Helper()
	var subjects []string
	for _, msg := range f.stored() {
		subjects = append(subjects, msg.Subject)
	}
	return subjects
}

func (f *fixture) wantCounts(got Checkpoint, want Counts) {
	f.t.Helper()
	got.Digest, want.Digest, got.Copied, want.Copied = Digest{}, Digest{}, Digest{}, Digest{}
	if fmt.Sprintf("%+v", got.Counts) != fmt.Sprintf("%+v", want) {
		f.t.Errorf("counts are %+v, want %+v", got.Counts, want)
	}
}

// publishBucket writes n entries straight into the bucket's stream, which is faster than one Put after another.
func publishBucket(t *testing.T, f *fixture, n int) {
	t.Helper()
	for i := range n {
		msg := nats.NewMsg("$KV.audit-log." + key(i))
		msg.Data = entry(key(i))
		if _, err := f.js.PublishMsgAsync(msg, jetstream.WithStallWait(testTimeout)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-f.js.PublishAsyncComplete():
	case <-f.ctx.Done():
		t.Fatal("filling the bucket took too long")
	}
}
