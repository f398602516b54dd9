package jsclient

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

func TestEqualConfigurationsShareAClient(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	one := b.client(t, Config{URL: "nats://127.0.0.1:1"})
	if two := b.client(t, Config{URL: "nats://127.0.0.1:1"}); one != two {
		t.Error("two clients for one identity")
	}
	if other := b.client(t, Config{URL: "nats://127.0.0.1:1", Domain: "hub"}); one == other {
		t.Error("one client for two identities")
	}
}

func TestServerDownAtStart(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	srv.Stop()
	b := newBench(t, func(o *PoolOptions) { o.DisconnectedAfter = 100 * time.Millisecond })
	var c *Client
	wantWithin(t, atOnce, "Get", func() { c = b.client(t, Config{URL: srv.URL()}) })
	<-c.Settled()
	if c.Connected() {
		t.Fatal("connected to nothing")
	}
	message := wantWaiting(t, c.Err(), v1alpha1.ReasonNATSUnavailable)
	if !strings.Contains(message, srv.URL()) || !strings.Contains(message, "connection refused") {
		t.Errorf("message %q names neither server nor cause", message)
	}
	wantWithin(t, atOnce, "a request without a connection", func() {
		_, err := c.Stream(background(t), "AUDIT")
		wantWaiting(t, err, v1alpha1.ReasonNATSUnavailable)
	})
	eventually(t, "Disconnected", func() bool { return b.count(Event{Kind: Disconnected}) == 1 })

	srv.Restart()
	eventually(t, "Connected", func() bool { return b.count(Event{Kind: Connected}) == 1 })
	if err := c.Err(); err != nil {
		t.Fatalf("Err of a connected client: %v", err)
	}
	if _, err := c.CreateStream(background(t), streamConfig("AUDIT")); err != nil {
		t.Fatalf("CreateStream: %v", err)
	}
}

func TestARequestWaitsForTheFirstConnection(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t)
	// At once, as the first reconcile after a start does.
	if _, err := b.client(t, Config{URL: srv.URL()}).CreateStream(background(t), streamConfig("AUDIT")); err != nil {
		t.Fatalf("CreateStream right after Get: %v", err)
	}
}

func TestServerDownAndBack(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t, func(o *PoolOptions) { o.DisconnectedAfter = 300 * time.Millisecond })
	c := b.connected(t, Config{URL: srv.URL()})
	if _, err := c.FollowBucket("legacy"); err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	eventually(t, "the loss to be noticed", func() bool { return !c.Connected() })
	wantWithin(t, atOnce, "requests during an outage", func() {
		_, err := c.CreateStream(background(t), streamConfig("LATER"))
		wantWaiting(t, err, v1alpha1.ReasonNATSUnavailable)
		_, err = c.JetStream().CreateStream(background(t), streamConfig("LATER"))
		wantWaiting(t, c.Explain(err), v1alpha1.ReasonNATSUnavailable)
	})
	eventually(t, "Disconnected", func() bool { return b.count(Event{Kind: Disconnected}) == 1 })

	srv.Restart()
	eventually(t, "Connected again", func() bool { return b.count(Event{Kind: Connected}) == 2 })
	if b.count(Event{Kind: Disconnected}) != 1 {
		t.Errorf("Disconnected was delivered %d times", b.count(Event{Kind: Disconnected}))
	}
	// What was asked for during the outage must not happen now, and subscriptions must work again.
	if _, err := srv.JetStream().CreateStream(background(t), streamConfig("AUDIT")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the advisory", func() bool { return b.count(Event{StreamCreated, "AUDIT"}) == 1 })
	if err := srv.Connect().Publish("$KV.legacy.key", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bucket's event", func() bool { return b.count(Event{BucketWritten, "KV_legacy"}) >= 1 })
	if b.count(Event{StreamCreated, "LATER"}) != 0 {
		t.Error("a request of the outage was sent after it")
	}
}

func TestABlipIsNotAnOutage(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t, func(o *PoolOptions) { o.DisconnectedAfter = 2 * patience })
	c := b.connected(t, Config{URL: srv.URL()})
	srv.Restart()
	eventually(t, "Connected again", func() bool { return b.count(Event{Kind: Connected}) == 2 })
	if b.count(Event{Kind: Disconnected}) != 0 || !c.Connected() {
		t.Errorf("events %v", b.seen())
	}
}

// nats.go gives up for good after errors of the protocol that it does not know.
func TestAConnectionThatWasClosedForGoodIsReplaced(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t)
	c := b.connected(t, Config{URL: srv.URL()})
	stop, err := c.FollowBucket("legacy")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c.link.Load().nc.Close()
	eventually(t, "Connected again", func() bool { return b.count(Event{Kind: Connected}) == 2 })
	if _, err := srv.JetStream().CreateStream(background(t), streamConfig("AUDIT")); err != nil {
		t.Fatal(err)
	}
	if err := srv.Connect().Publish("$KV.legacy.key", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "events", func() bool {
		return b.count(Event{StreamCreated, "AUDIT"}) == 1 && b.count(Event{BucketWritten, "KV_legacy"}) >= 1
	})
	if _, err := c.Stream(background(t), "AUDIT"); err != nil {
		t.Fatal(err)
	}
}

func TestAWrongPasswordIsCorrectedWithoutARestart(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, withPassword("operator", nil))
	file := tempFile(t, "password", "wrong")
	b := newBench(t)
	c := b.client(t, Config{URL: srv.URL(), User: "operator", PasswordFile: file})
	eventually(t, "the refusal", func() bool {
		return c.Err() != nil && strings.Contains(strings.ToLower(c.Err().Error()), "authorization violation")
	})
	message := wantWaiting(t, c.Err(), v1alpha1.ReasonAuthenticationFailed)
	if !strings.Contains(message, "--nats-password-file") {
		t.Errorf("message %q does not say what to renew", message)
	}
	// Past the second refusal, at which nats.go gives up by default.
	nc := c.link.Load().nc
	eventually(t, "more tries", func() bool { return nc.Stats().Reconnects >= 3 })

	writeFile(t, file, marker+"\n")
	eventually(t, "a connection", c.Connected)

	// And the other way: a changed file is used although the connection still works.
	writeFile(t, file, "wrong again")
	eventually(t, "the refusal", func() bool { return !c.Connected() })
	eventually(t, "its reason", func() bool {
		err := c.Err()
		return err != nil && strings.Contains(err.Error(), "--nats-password-file")
	})
	wantWaiting(t, c.Err(), v1alpha1.ReasonAuthenticationFailed)
}

func TestAMissingPasswordFileIsNamed(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, withPassword("operator", nil))
	file := filepath.Join(t.TempDir(), "password")
	b := newBench(t)
	c := b.client(t, Config{URL: srv.URL(), User: "operator", PasswordFile: file})
	eventually(t, "the reason", func() bool { return c.Err() != nil && strings.Contains(c.Err().Error(), file) })
	wantWaiting(t, c.Err(), v1alpha1.ReasonAuthenticationFailed)
	writeFile(t, file, marker)
	eventually(t, "a connection", c.Connected)
}

func TestAMountedSecretIsFollowed(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, func(o *server.Options) { o.Authorization = marker })
	mount := t.TempDir()
	version := func(name, content string) {
		t.Helper()
		dir := filepath.Join(mount, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "token"), content)
		if err := os.Symlink(name, filepath.Join(mount, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(mount, "..tmp"), filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..v1", "wrong")
	if err := os.Symlink("..data/token", filepath.Join(mount, "token")); err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	c := b.client(t, Config{URL: srv.URL(), TokenFile: filepath.Join(mount, "token")})
	eventually(t, "the refusal", func() bool { return strings.Contains(b.logText(), "--nats-token-file") })
	version("..v2", marker+"\n")
	eventually(t, "a connection", func() bool { return c.Connected() && b.count(Event{Kind: Connected}) > 0 })
	before := b.count(Event{Kind: Connected})
	version("..v3", marker)
	eventually(t, "a reconnect with the next version", func() bool { return b.count(Event{Kind: Connected}) > before })
}

func TestCredentialsInTheURLStayHidden(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t, withPassword("operator", nil))
	good := strings.Replace(srv.URL(), "nats://", "nats://operator:"+marker+"@", 1)
	b := newBench(t)
	b.connected(t, Config{URL: good})
	bad := strings.Replace(srv.URL(), "nats://", "nats://nobody:"+marker+"@", 1)
	c := b.client(t, Config{URL: bad})
	eventually(t, "the refusal", func() bool { return strings.Contains(c.Err().Error(), "refuses") })
	wantWaiting(t, c.Err(), v1alpha1.ReasonAuthenticationFailed)
	_, err := c.Stream(background(t), "AUDIT")
	wantWaiting(t, err, v1alpha1.ReasonAuthenticationFailed)
}

func TestOneServerOfAListIsEnough(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	b := newBench(t)
	b.connected(t, Config{URL: "nats://127.0.0.1:1," + srv.URL()})
}

func TestRoundsOfTriesAreSpread(t *testing.T) {
	t.Parallel()
	g := newGate()
	close(g.armed)
	if wait := g.delay(); wait != 0 {
		t.Errorf("the first real try waits %s", wait)
	}
	seen := map[time.Duration]bool{}
	for range 20 {
		wait := g.delay()
		if wait < reconnectWait || wait > reconnectWait+reconnectJitter {
			t.Errorf("a round waits %s, want %s to %s", wait, reconnectWait, reconnectWait+reconnectJitter)
		}
		seen[wait] = true
	}
	if len(seen) < 2 {
		t.Error("all rounds wait equally long")
	}
}
