package migrate

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// TestGoesOnWithoutTheLeader stops the server that leads the stream in the middle of a copy between two replicated streams.
func TestGoesOnWithoutTheLeader(t *testing.T) {
	servers := natstest.RunCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	var urls string
	for _, s := range servers {
		urls += s.URL() + ","
	}
	nc, err := nats.Connect(urls, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, ctx: ctx, js: js, now: time.Now}
	natstest.Ask(ctx, t, "creating the bucket", func(ctx context.Context) (err error) {
		f.kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "audit-log", Replicas: 3})
		return err
	})
	var stream jetstream.Stream
	natstest.Ask(ctx, t, "creating the stream", func(ctx context.Context) (err error) {
		stream, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name: "AUDIT", Subjects: []string{"audit.>"}, AllowMsgTTL: true, AllowDirect: true, AllowAtomicPublish: true, Replicas: 3,
		})
		return err
	})
	const n = 20000
	publishBucket(t, f, n)

	leader := stream.CachedInfo().Cluster.Leader
	settled := 0
	stopping := func(j *Job) {
		j.Now = func() time.Time { // read each time half a window is through
			if settled++; settled == 12 {
				for _, s := range servers {
					if s.Name() == leader {
						s.Stop()
					}
				}
			}
			return time.Now()
		}
	}
	reached, err := f.run(Checkpoint{}, stopping)
	for err != nil {
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		t.Log(err)
		reached, err = f.run(reached, stopping)
	}
	if settled < 12 {
		t.Fatalf("the leader was not stopped: the clock was read %d times", settled)
	}
	f.wantCounts(reached, Counts{Total: n, Migrated: n})
	if got := f.subjects(); len(got) != n || !slices.IsSorted(got) {
		t.Errorf("the stream holds %d messages (in order: %v), want %d in order", len(got), slices.IsSorted(got), n)
	}
}
