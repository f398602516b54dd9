package auditstore_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// TestNoWriteFailsWhenLeadersAreKilled kills whichever server leads the stream with -9, round after round, under 16 writers, of
// which some are connected to that server, and each call with a deadline of 10 seconds. A follower of nats-server waits 4 to 9
// seconds, at random, before it stands for election, and one that has refused a candidate which lags stands within 0.8 more. On a
// slow machine that may come too late for a call. So one may fail where the stream has had no leader in time, and is made again.
func TestNoWriteFailsWhenLeadersAreKilled(t *testing.T) {
	servers, err := testenv.StartNATSCluster(t.Context(), t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = servers.Stop() })
	k := &killing{t: t, servers: servers}
	k.stream = k.create()

	const writers, kills = 16, 2
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	watcher := k.connect(servers.URL())
	group.Go(func() { k.watch(ctx, watcher) })
	for w := range writers {
		js := k.connect(k.nearest(w))
		group.Go(func() { k.write(ctx, js, w) })
	}
	t.Cleanup(group.Wait)
	for range kills {
		k.await(200)
		leader := k.leader()
		now := time.Now()
		k.killed.Store(&now)
		if err := leader.Kill(); err != nil {
			t.Fatal(err)
		}
		k.await(200) // while it is away
		if err := leader.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	k.await(200)
	stop()
	group.Wait()
	k.compare()
}

const (
	// writeDeadline is what a call has while leaders are killed.
	writeDeadline = 10 * time.Second
	// lastWords is how long answers of a server that was killed may still arrive.
	lastWords = time.Second
	// catchUp is how long a call may still fail for once there is a leader: it tries every 1.25 seconds.
	catchUp = 3 * time.Second
)

type killing struct {
	t       *testing.T
	servers testenv.NATSServers
	stream  jetstream.Stream
	written atomic.Int64
	ids     sync.Map
	slowest longest
	killed  atomic.Pointer[time.Time]
	led     times
}

// times are when something was seen.
type times struct {
	mu sync.Mutex
	at []time.Time
}

func (t *times) note(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at = append(t.at, at)
}

func (t *times) between(from, to time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.at, func(at time.Time) bool { return at.After(from) && at.Before(to) })
}

// longest is the longest time that was noted.
type longest struct{ atomic.Int64 }

func (l *longest) note(took time.Duration) {
	for last := l.Load(); int64(took) > last && !l.CompareAndSwap(last, int64(took)); last = l.Load() {
	}
}

func (k *killing) connect(servers string) jetstream.JetStream {
	nc, err := nats.Connect(servers, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.DontRandomize())
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		k.t.Fatal(err)
	}
	return js
}

func (k *killing) create() (stream jetstream.Stream) {
	js := k.connect(k.servers.URL())
	k.until("the stream to be made", func(ctx context.Context) (done bool) {
		var err error
		stream, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: "AUDIT", Subjects: []string{"audit.>"}, AllowDirect: true, Replicas: 3,
		})
		return err == nil
	})
	return stream
}

func (k *killing) until(what string, done func(context.Context) bool) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 2*time.Minute)
	defer cancel()
	for !done(ctx) {
		select {
		case <-ctx.Done():
			k.t.Fatalf("waited two minutes for %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// nearest are all servers: each writer prefers another one.
func (k *killing) nearest(writer int) string {
	first := writer % len(k.servers)
	return slices.Concat(k.servers[first:], k.servers[:first]).URL()
}

// write writes until ctx ends.
func (k *killing) write(ctx context.Context, js jetstream.JetStream, writer int) {
	store, err := auditstore.New(ctx, js, auditstore.Config{Stream: "AUDIT", Subject: "audit"})
	if err != nil {
		k.t.Errorf("writer %d: %v", writer, err)
		return
	}
	for i := 0; ctx.Err() == nil; i++ {
		entry := auditstore.Entry{ID: fmt.Sprintf("w%d-%d", writer, i), Timestamp: time.Now().UTC(), User: "ada"}
		for !k.settled(store, entry) && k.t.Context().Err() == nil {
		}
		k.ids.Store(entry.ID, true)
		k.written.Add(1)
	}
}

// watch notes when the stream has a leader, who alone answers what is asked here, until ctx ends.
func (k *killing) watch(ctx context.Context, js jetstream.JetStream) {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, lastWords/4)
		if _, err := js.Stream(try, "AUDIT"); err == nil {
			k.led.note(time.Now())
		}
		<-try.Done()
		cancel()
	}
}

// settled makes one call. It is to be made again where the stream had no leader in time.
func (k *killing) settled(store *auditstore.StreamStore, entry auditstore.Entry) bool {
	began := time.Now()
	call, cancel := context.WithDeadline(k.t.Context(), began.Add(writeDeadline))
	defer cancel()
	err := store.Write(call, entry)
	took := time.Since(began)
	k.slowest.note(took)
	from := began
	if killed := k.killed.Load(); killed != nil && killed.After(from) {
		from = *killed
	}
	switch {
	case err == nil:
	case k.t.Context().Err() != nil: // the test has failed already
	case took >= writeDeadline && !k.led.between(from.Add(lastWords), began.Add(writeDeadline-catchUp)):
		k.t.Logf("a write met no leader: %v", err)
		return false
	default:
		k.t.Errorf("a write failed: %v", err)
	}
	return true
}

// await waits for so many writes more.
func (k *killing) await(n int64) {
	k.t.Helper()
	goal := k.written.Load() + n
	k.until(fmt.Sprintf("%d writes", n), func(context.Context) bool { return k.written.Load() >= goal })
}

// leader waits until the stream has all its replicas, so that killing one leaves a majority.
func (k *killing) leader() (leader *testenv.NATSServer) {
	k.t.Helper()
	k.until("a leader with two replicas", func(ctx context.Context) bool {
		info, err := k.stream.Info(ctx)
		if err != nil || info.Cluster == nil || len(info.Cluster.Replicas) != len(k.servers)-1 {
			return false
		}
		for _, replica := range info.Cluster.Replicas {
			if replica.Offline || replica.Active > 2*time.Second || replica.Lag > 1000 {
				return false
			}
		}
		for _, server := range k.servers {
			if info.Cluster.Leader == server.Name() {
				leader = server
			}
		}
		return leader != nil
	})
	return leader
}

// compare reads everything back: each entry is there, once.
func (k *killing) compare() {
	store, err := auditstore.New(k.t.Context(), k.connect(k.servers.URL()), auditstore.Config{Stream: "AUDIT", Subject: "audit"})
	if err != nil {
		k.t.Fatal(err)
	}
	found := map[string]int{}
	for entry, err := range store.Query(k.t.Context(), auditstore.Query{Order: auditstore.AsStored}) {
		if err != nil {
			k.t.Fatal(err)
		}
		found[entry.ID]++
	}
	written := 0
	k.ids.Range(func(id, _ any) bool {
		if written++; found[id.(string)] != 1 {
			k.t.Errorf("entry %s is there %d times", id, found[id.(string)])
		}
		return true
	})
	if len(found) != written {
		k.t.Errorf("the stream holds %d entries, want %d", len(found), written)
	}
	k.t.Logf("%d entries written; the slowest write took %s", written, time.Duration(k.slowest.Load()).Round(time.Millisecond))
}
