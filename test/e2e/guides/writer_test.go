package guides

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// writer is a legacy service that nobody has redeployed.
type writer struct {
	stop func()
	done chan struct{}
	// acknowledged are the keys whose put returned no error; read it once done is closed.
	acknowledged []string
}

// startWriting puts entries into the bucket until the writer is stopped.
func (g *guide) startWriting(ctx context.Context) {
	g.t.Helper()
	kv, err := g.js.KeyValue(ctx, testenv.LegacyBucketName)
	g.must(err)
	ctx, cancel := context.WithCancel(ctx)
	g.writer = &writer{stop: cancel, done: make(chan struct{})}
	go g.writer.write(ctx, kv)
	g.t.Cleanup(func() { g.writer.end() })
}

func (w *writer) write(ctx context.Context, kv jetstream.KeyValue) {
	defer close(w.done)
	for i := 0; ; i++ {
		key := fmt.Sprintf("late-%d", i)
		if _, err := kv.Put(ctx, key, fmt.Appendf(nil, `{"id":%q,"user":"alice"}`, key)); err == nil {
			w.acknowledged = append(w.acknowledged, key)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(poll / 2):
		}
	}
}

func (w *writer) end() {
	w.stop()
	<-w.done
}

// checkRedirected: legacy services see what the guide says, and the bucket takes nothing.
func (g *guide) checkRedirected(ctx context.Context) {
	g.t.Helper()
	kv, err := g.js.KeyValue(ctx, testenv.LegacyBucketName)
	g.must(err)
	keys, err := kv.Keys(ctx)
	g.must(err)
	if _, err := kv.Get(ctx, keys[0]); err != nil {
		g.t.Errorf("Get of an old key: %v", err)
	}
	if _, err := kv.Get(ctx, "redirect-check"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		g.t.Errorf("Get of a new key: %v", err)
	}
	cfg := jetstream.KeyValueConfig{Bucket: testenv.LegacyBucketName}
	if _, err := g.js.CreateOrUpdateKeyValue(ctx, cfg); err == nil || !strings.Contains(err.Error(), "10065") {
		g.t.Errorf("CreateOrUpdateKeyValue: %v", err)
	}
	if _, err := g.js.CreateKeyValue(ctx, cfg); err == nil {
		g.t.Error("CreateKeyValue succeeds")
	}
	if _, err := kv.Update(ctx, keys[0], []byte("{}"), 1); err == nil {
		g.t.Error("Update succeeds")
	}
	if err := kv.Purge(ctx, keys[0]); err == nil || !strings.Contains(err.Error(), "10111") {
		g.t.Errorf("Purge: %v", err)
	}
}

// redirectAgainAndStop brings about what the guide's way back by hand is for.
func (g *guide) redirectAgainAndStop(ctx context.Context) {
	g.t.Helper()
	g.must(g.run(ctx, command{text: `sed -i 's/afterMigration: Retain/afterMigration: Redirect/' api-audit.yaml && kubectl apply -f api-audit.yaml`}))
	g.must(g.run(ctx, command{text: `kubectl wait --for=jsonpath='{.status.migration[0].phase}'=Redirected auditstream/api-audit --timeout=100s`}))
	g.must(g.operator.Stop(ctx))
}

// startAgain has the operator come back, which takes up what was put into the bucket meanwhile and leaves it its subjects.
func (g *guide) startAgain(ctx context.Context) {
	g.t.Helper()
	kv, err := g.js.KeyValue(ctx, testenv.LegacyBucketName)
	g.must(err)
	_, err = kv.Put(ctx, "by-hand", []byte(`{"id":"by-hand","user":"alice"}`))
	g.must(err)
	if _, err := kv.Get(ctx, "by-hand"); err != nil {
		g.t.Errorf("the bucket has its subjects and does not hold what was put into it: %v", err)
	}
	g.must(g.run(ctx, command{text: `sed -i 's/afterMigration: Redirect/afterMigration: Retain/' api-audit.yaml && kubectl apply -f api-audit.yaml`}))
	g.startOperator(ctx)
	g.must(g.run(ctx, command{text: "nats stream get AUDIT --last-for=audit.by-hand", output: []string{`{"id":"by-hand","user":"alice"}`}}))
	g.must(g.run(ctx, command{text: "nats stream info KV_audit-log", output: []string{"Subjects: $KV.audit-log.>"}}))
	g.writer.end()
	if len(g.writer.acknowledged) == 0 {
		g.t.Error("the legacy writer has written nothing")
	}
}

// makeDifference makes the bucket again, with a key of which the stream has other bytes, and declares it again.
func (g *guide) makeDifference(ctx context.Context) {
	g.t.Helper()
	kv, err := g.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: testenv.LegacyBucketName})
	g.must(err)
	for id, user := range map[string]string{"redirect-check": "somebody-else", "made-again": "alice"} {
		_, err := kv.Put(ctx, id, fmt.Appendf(nil, `{"id":%q,"user":%q}`, id, user))
		g.must(err)
	}
	g.must(g.run(ctx, command{text: `printf '  migrateFrom:\n  - bucket: audit-log\n' >> api-audit.yaml && kubectl apply -f api-audit.yaml`}))
}

// checkWritten: all that was in the bucket or was acknowledged to the legacy writer is in the stream once.
func (g *guide) checkWritten(ctx context.Context) {
	g.t.Helper()
	stream, err := g.js.Stream(ctx, "AUDIT")
	g.must(err)
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
	g.must(err)
	want := append([]string{"redirect-check", "by-hand", "made-again"}, g.writer.acknowledged...)
	for key := range (testenv.LegacyBucket{Entries: entries}).All() {
		want = append(want, key)
	}
	for _, key := range want {
		if n := info.State.Subjects["audit."+key]; n != 1 {
			g.t.Errorf("the stream holds %d messages under %s", n, key)
		}
	}
	if got := len(info.State.Subjects); got < len(want) {
		g.t.Errorf("the stream holds %d entries, want at least %d", got, len(want))
	}
	g.t.Logf("%d entries of the bucket and %d of the legacy writer are in the stream", entries, len(g.writer.acknowledged))
}
