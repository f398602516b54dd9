package jsclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

func TestAdvisoriesOfOthersAreDeliveredInOrder(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t)
	b.connected(t, Config{URL: srv.URL()})
	js, ctx := srv.JetStream(), background(t)

	if _, err := js.CreateStream(ctx, streamConfig("AUDIT")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "StreamCreated", func() bool { return b.count(Event{StreamCreated, "AUDIT"}) == 1 })
	changed := streamConfig("AUDIT")
	changed.Description = "drift"
	if _, err := js.UpdateStream(ctx, changed); err != nil {
		t.Fatal(err)
	}
	eventually(t, "StreamUpdated", func() bool { return b.count(Event{StreamUpdated, "AUDIT"}) == 1 })
	if err := js.DeleteStream(ctx, "AUDIT"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "StreamDeleted", func() bool { return b.count(Event{StreamDeleted, "AUDIT"}) == 1 })
	want := []Event{{Kind: Connected}, {StreamCreated, "AUDIT"}, {StreamUpdated, "AUDIT"}, {StreamDeleted, "AUDIT"}}
	if got := b.seen(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestASlowReceiverLosesNothing(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	begun, release := make(chan Event, 1000), make(chan struct{})
	inner := newBench(t)
	record := inner.opts.OnEvent
	b := newBench(t, func(o *PoolOptions) {
		o.OnEvent = func(cfg Config, e Event) {
			begun <- e
			<-release
			record(cfg, e)
		}
	})
	c := b.client(t, Config{URL: srv.URL()})
	if e := <-begun; e.Kind != Connected { // from where on advisories come
		t.Fatalf("the first event is %v", e)
	}
	js, ctx := srv.JetStream(), background(t)
	const streams = 50
	for i := range streams {
		cfg := streamConfig(fmt.Sprintf("S%d", i))
		if _, err := js.CreateStream(ctx, cfg); err != nil {
			t.Fatal(err)
		}
		for round := range 5 {
			cfg.Description = fmt.Sprint(round)
			if _, err := js.UpdateStream(ctx, cfg); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The connection itself is not held up by it.
	if _, err := c.Stream(ctx, "S0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last advisory", func() bool {
		c.events.mu.Lock()
		defer c.events.mu.Unlock()
		_, ok := c.events.waiting[Event{StreamUpdated, fmt.Sprintf("S%d", streams-1)}]
		return ok
	})
	close(release)
	eventually(t, "all events", func() bool {
		return inner.count(Event{StreamUpdated, fmt.Sprintf("S%d", streams-1)}) > 0
	})
	for i := range streams {
		for _, kind := range []EventKind{StreamCreated, StreamUpdated} {
			if inner.count(Event{kind, fmt.Sprintf("S%d", i)}) == 0 {
				t.Errorf("%s of S%d was lost", kind, i)
			}
		}
	}
}

func TestQueueMergesAndKeepsTheLastLast(t *testing.T) {
	t.Parallel()
	q := newEventQueue()
	created, deleted := Event{StreamCreated, "A"}, Event{StreamDeleted, "A"}
	for _, e := range []Event{deleted, created, {StreamUpdated, "B"}, deleted, deleted} {
		q.push(e)
	}
	var got []Event
	for e, ok := q.pop(); ok; e, ok = q.pop() {
		got = append(got, e)
	}
	if want := []Event{created, {StreamUpdated, "B"}, deleted}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParseAdvisory(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]Event{
		"$JS.EVENT.ADVISORY.STREAM.CREATED.A":         {StreamCreated, "A"},
		"$JS.EVENT.ADVISORY.STREAM.UPDATED.KV_b":      {StreamUpdated, "KV_b"},
		"$JS.EVENT.ADVISORY.STREAM.DELETED.A":         {StreamDeleted, "A"},
		"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.A":  {},
		"$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_CREATE.A": {},
		"$JS.EVENT.ADVISORY.STREAM.CREATED":           {},
	} {
		if got, ok := parseAdvisory(subject); got != want || ok != (want != Event{}) {
			t.Errorf("%s is %v, want %v", subject, got, want)
		}
	}
}

func TestDroppedAdvisoriesBecomeConnected(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})
	c.onAsyncError(nil, c.link.Load().advisories[0], nats.ErrSlowConsumer)
	eventually(t, "Connected", func() bool { return b.count(Event{Kind: Connected}) == 2 })
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fired []time.Duration
		start := time.Now()
		th := &throttle{echoes: echoes}
		th.fire = func() { fired = append(fired, time.Since(start)) }
		hitAt := func(offsets ...int) {
			for _, ms := range offsets {
				time.Sleep(time.Until(start.Add(time.Duration(ms) * time.Millisecond)))
				th.hit()
			}
		}
		hitAt(0, 10, 20, 95, 150, 500, 601)
		time.Sleep(10 * time.Second)
		hitAt(20_000)
		th.stop()
		th.hit()
		time.Sleep(10 * time.Second)
		want := []time.Duration{0, 100, 200, 300, 500, 600, 601, 701, 1601, 5601, 20_000}
		for i := range want {
			want[i] *= time.Millisecond
		}
		if !slices.Equal(fired, want) {
			t.Errorf("fired at %v, want %v", fired, want)
		}
	})
}

func TestFollowBucket(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})
	js, ctx := srv.JetStream(), background(t)
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "legacy", Storage: jetstream.MemoryStorage})
	if err != nil {
		t.Fatal(err)
	}
	stopOne, err := c.FollowBucket("legacy")
	if err != nil {
		t.Fatal(err)
	}
	stopTwo, err := c.FollowBucket("legacy")
	if err != nil {
		t.Fatal(err)
	}
	written := Event{BucketWritten, "KV_legacy"}
	start := time.Now()
	var last time.Time
	writes := 0
	for ; time.Since(start) < 450*time.Millisecond || b.count(written) < 3; writes++ { // an event each bucketInterval
		last = time.Now()
		if _, err := kv.PutString(ctx, fmt.Sprintf("key.%d", writes), "value"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "an event after the last write", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		i := slices.Index(b.events, written)
		return i >= 0 && b.times[len(b.times)-1].After(last)
	})
	// Where the writes have paused, the echo of those before is followed by the event of the next one; see TestThrottle.
	if n, most := b.count(written), 2*int(time.Since(start)/bucketInterval)+2; n > most {
		t.Errorf("delivered %d events of %d writes, want %d at most", n, writes, most)
	}

	subscriptions := c.link.Load().nc.NumSubscriptions()
	stopOne()
	stopOne()
	before := b.count(written)
	if _, err := kv.PutString(ctx, "key", "after the first stop, called twice"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other follower's event", func() bool { return b.count(written) > before })
	stopTwo()
	eventually(t, "the end of the subscription", func() bool { return c.link.Load().nc.NumSubscriptions() == subscriptions-1 })
	if again, err := c.FollowBucket("legacy"); err != nil {
		t.Fatalf("following again: %v", err)
	} else {
		defer again()
	}
	before = b.count(written)
	if _, err := kv.PutString(ctx, "key", "followed again"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next follower's event", func() bool { return b.count(written) > before })
}

func TestPauseBucket(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})
	ctx := background(t)
	stop, err := c.FollowBucket("legacy")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	writer := srv.Connect()
	answers, err := writer.SubscribeSync(writer.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	answered := func() bool {
		t.Helper()
		if err := writer.PublishRequest("$KV.legacy.key", answers.Subject, nil); err != nil {
			t.Fatal(err)
		}
		if err := writer.FlushWithContext(ctx); err != nil { // the server says that nobody answers before it answers this
			t.Fatal(err)
		}
		_, err := answers.NextMsg(0)
		if !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, nats.ErrTimeout) {
			t.Fatal(err)
		}
		return errors.Is(err, nats.ErrNoResponders)
	}
	if answered() {
		t.Fatal("a writer to a followed bucket was told that nobody answers")
	}

	resume, err := c.PauseBucket(ctx, "legacy")
	if err != nil {
		t.Fatal(err)
	}
	late, err := c.FollowBucket("legacy")
	if err != nil {
		t.Fatal(err)
	}
	defer late()
	if !answered() {
		t.Error("a writer to a paused bucket was not told that nobody answers")
	}
	written := Event{BucketWritten, "KV_legacy"}
	before := b.count(written)
	resume()
	resume()
	eventually(t, "the event for what was missed", func() bool { return b.count(written) > before })
	eventually(t, "the bucket to be followed again", func() bool { return !answered() })
}

func TestFollowBucketRefusesABadName(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c := b.client(t, Config{URL: "nats://127.0.0.1:1"})
	for _, name := range []string{"", "a.b", "*", ">", "a b"} {
		if _, err := c.FollowBucket(name); err == nil {
			t.Errorf("followed %q", name)
		}
	}
}

func TestDeniedSubscriptions(t *testing.T) {
	t.Parallel()
	permissions := &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}}}
	opts := &server.Options{
		Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{{Username: "operator", Password: marker, Permissions: permissions}},
	}
	srv := startServer(t, opts)
	cfg := Config{URL: srv.ClientURL(), User: "operator", PasswordFile: tempFile(t, "password", marker)}
	denied := func(b *bench) *Client {
		t.Helper()
		c := b.connected(t, cfg)
		eventually(t, "the denied advisories", func() bool {
			err := c.SubscriptionErr()
			return err != nil && strings.Count(err.Error(), "$JS.EVENT.ADVISORY.STREAM.") == 3
		})
		return c
	}
	c := denied(newBench(t))
	wantWaiting(t, c.SubscriptionErr(), v1alpha1.ReasonPermissionDenied)
	stop, err := c.FollowBucket("legacy")
	if message := wantWaiting(t, err, v1alpha1.ReasonPermissionDenied); !strings.Contains(message, `"$KV.legacy.>"`) || stop != nil {
		t.Errorf("message %q does not name the subject", message)
	}
	if message := c.SubscriptionErr().Error(); strings.Contains(message, "$KV.") {
		t.Errorf("message %q is about a bucket that nobody has asked for", message)
	}

	b := newBench(t, func(o *PoolOptions) { o.deniedRetry, o.FileInterval = 500*time.Millisecond, 500*time.Millisecond })
	c = denied(b)
	connected := b.count(Event{Kind: Connected})

	// New permissions are taken up although the server does not say a word about them.
	permitted := opts.Clone()
	permitted.Users[0].Permissions = nil
	if err := srv.ReloadOptions(permitted); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an end of the denials", func() bool { return c.SubscriptionErr() == nil })
	eventually(t, "Connected", func() bool { return b.count(Event{Kind: Connected}) > connected })
	if _, err := c.FollowBucket("legacy"); err != nil {
		t.Fatalf("FollowBucket: %v", err)
	}
	if _, err := c.CreateStream(background(t), streamConfig("AUDIT")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an advisory", func() bool { return b.count(Event{StreamCreated, "AUDIT"}) == 1 })
}

// From when the server takes away a permission, events are missed: whoever has seen the last one has to be told.
func TestAdvisoriesThatComeToBeDeniedAreAnEvent(t *testing.T) {
	t.Parallel()
	opts := &server.Options{
		Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{{Username: "operator", Password: marker}},
	}
	srv := startServer(t, opts)
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.ClientURL(), User: "operator", PasswordFile: tempFile(t, "password", marker)})
	eventually(t, "Connected", func() bool { return b.count(Event{Kind: Connected}) == 1 })

	restricted := opts.Clone()
	restricted.Users[0].Permissions = &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}}}
	if err := srv.ReloadOptions(restricted); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the denied advisories", func() bool { return c.SubscriptionErr() != nil })
	eventually(t, "Connected again", func() bool { return b.count(Event{Kind: Connected}) > 1 })
}

func TestNoEventBeginsAfterClose(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 { // Which of the two ready channels is chosen is a matter of chance.
		q := newEventQueue()
		q.push(Event{Kind: Connected})
		q.deliver(ctx, func(e Event) { t.Errorf("delivered %v", e) })
	}
	srv := natstest.Run(t)
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})
	b.Close()
	_, err := c.Stream(background(t), "AUDIT")
	wantWaiting(t, err, v1alpha1.ReasonNATSUnavailable)
}

func startServer(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	go srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(patience) {
		t.Fatal("the server did not become ready")
	}
	return srv
}
