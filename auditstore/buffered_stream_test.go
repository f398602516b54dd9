package auditstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

func awaitWritten(t *testing.T, b *Buffered, n int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d entries to be written", n), func() error {
		if stats := b.Stats(); stats.Written < n {
			return fmt.Errorf("stats are %+v", stats)
		}
		return nil
	})
}

// relayed opens a store whose messages pass through a relay on their way to the stream, which may do other things with them.
func relayed(t *testing.T, srv *natstest.Server, relay func(forward func(*nats.Msg), msg *nats.Msg)) *StreamStore {
	t.Helper()
	const front, behind = "front.", testSubject + "."
	g, nc := newGateway(t, srv), srv.Connect()
	g.set(func(operation string, msg *nats.Msg) bool { // the store asks for what it has written, by the subject it knows
		if !strings.HasPrefix(operation, "STREAM.MSG.GET.") {
			return false
		}
		data := bytes.ReplaceAll(msg.Data, []byte(front), []byte(behind))
		_ = nc.PublishMsg(&nats.Msg{Subject: jetstream.DefaultAPIPrefix + operation, Reply: msg.Reply, Data: data})
		return true
	})
	s := openOn(t, g.js)
	s.prefix = front
	forward := func(msg *nats.Msg) {
		to := behind + strings.TrimPrefix(msg.Subject, front)
		_ = nc.PublishMsg(&nats.Msg{Subject: to, Reply: msg.Reply, Header: msg.Header, Data: msg.Data})
	}
	if _, err := nc.Subscribe(front+">", func(msg *nats.Msg) { relay(forward, msg) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBufferedRunsAhead proves that a *StreamStore does not wait for one acknowledgement after the other: none is let through
// before a whole window of messages is there.
func TestBufferedRunsAhead(t *testing.T) {
	plain, _, srv := open(t)
	var held []*nats.Msg
	s := relayed(t, srv, func(forward func(*nats.Msg), msg *nats.Msg) {
		if held = append(held, msg); len(held) < windowSize {
			return
		}
		for _, msg := range held {
			forward(msg)
		}
		held = nil
	})
	s.limits.try = time.Minute
	b := newBuffered(t, s, BufferedConfig{})
	ids := numbered("e", 2*windowSize)
	take(t, b, ids...)
	mustClose(t, b)
	wantStored(t, plain, ids)
}

func TestBufferedOddAnswers(t *testing.T) {
	answers := map[string]func(*nats.Msg){
		"lost":         func(*nats.Msg) {},
		"no responder": func(msg *nats.Msg) { _ = msg.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"503"}}}) },
		"no leader": func(msg *nats.Msg) {
			_ = msg.Respond([]byte(`{"error":{"code":503,"err_code":10008},"stream":"AUDIT","seq":0}`))
		},
		"late error": func(msg *nats.Msg) {
			_ = msg.Respond([]byte(`{"stream":"AUDIT","seq":3,"error":{"code":503,"err_code":10008}}`))
		},
		"other stream": func(msg *nats.Msg) { _ = msg.Respond([]byte(`{"stream":"OTHER","seq":3}`)) },
		"not JSON":     func(msg *nats.Msg) { _ = msg.Respond([]byte("ok")) },
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			plain, _, srv := open(t)
			odd := map[string]bool{"front.e00000": true, "front.e00100": true, "front.e00101": true, "front.e00299": true}
			s := relayed(t, srv, func(forward func(*nats.Msg), msg *nats.Msg) {
				if odd[msg.Subject] {
					delete(odd, msg.Subject)
					answer(msg)
					return
				}
				forward(msg)
			})
			s.limits.try = 300 * time.Millisecond
			b := newBuffered(t, s, BufferedConfig{OnError: func(_ Entry, err error) { t.Errorf("OnError got %v", err) }})
			ids := numbered("e", 300)
			take(t, b, ids...)
			mustClose(t, b)
			got := inStream(t, plain)
			if slices.Sort(got); !slices.Equal(got, ids) || len(odd) > 0 {
				t.Errorf("%d of %d are stored", len(got), len(ids))
			}
		})
	}
}

// TestBufferedLostMessageIsNoticedWhileOthersPass: the oldest decides, however busy the stream is.
func TestBufferedLostMessageIsNoticedWhileOthersPass(t *testing.T) {
	_, _, srv := open(t)
	var lost atomic.Bool
	s := relayed(t, srv, func(forward func(*nats.Msg), msg *nats.Msg) {
		if msg.Subject == "front.lost" && lost.CompareAndSwap(false, true) {
			return
		}
		forward(msg)
	})
	s.limits.try = 200 * time.Millisecond
	b := newBuffered(t, s, BufferedConfig{})
	take(t, b, "lost")
	// One a few milliseconds, so that the window would not be full for long.
	for n := 0; b.Stats().Written == 0; n++ {
		take(t, b, fmt.Sprintf("e%d", n))
		if !pause(t.Context(), 5*time.Millisecond) || n == windowSize-2 {
			t.Fatal("the lost message was not noticed before the window was full")
		}
	}
	mustClose(t, b)
}

// TestBufferedSurvivesRestarts loses and doubles nothing. What was under way when the connection was lost may be out of order.
// TestBufferedSurvivesRestarts: a spool keeps its order, too, though the connection keeps what is published while it is lost.
func TestBufferedSurvivesRestarts(t *testing.T) {
	for _, policy := range []Policy{Block, Spool} {
		t.Run(policy.String(), func(t *testing.T) {
			s, _, srv := open(t, func(cfg *jetstream.StreamConfig) { cfg.AllowAtomicPublish = true })
			cfg := BufferedConfig{Policy: policy, OnError: func(_ Entry, err error) { t.Errorf("OnError got %v", err) }}
			if policy == Spool {
				cfg.Dir = t.TempDir()
			} else {
				cfg.BlockTimeout = time.Minute
			}
			b := newBuffered(t, s, cfg)
			ids := numbered("e", 30000)
			if policy == Spool {
				ids = ids[:3000]
			}
			var wg sync.WaitGroup
			wg.Go(func() { take(t, b, ids...) })
			for i := range int64(3) {
				awaitWritten(t, b, int64(len(ids))*(i+1)/8)
				srv.Stop()
				srv.Restart()
			}
			wg.Wait()
			mustClose(t, b)
			got := inStream(t, s)
			if policy != Spool {
				slices.Sort(got)
			}
			if !slices.Equal(got, ids) {
				t.Errorf("the stream holds %d entries, want the %d that were taken, in order", len(got), len(ids))
			}
			if stats := b.Stats(); stats.Written != int64(len(ids)) || stats.Refused != 0 {
				t.Errorf("Stats are %+v", stats)
			}
		})
	}
}

// TestBufferedSurvivesTheLossOfALeader: in order where the stream takes atomic batches, as the operator's do, and whole anywhere.
func TestBufferedSurvivesTheLossOfALeader(t *testing.T) {
	for _, batches := range []bool{true, false} {
		t.Run(fmt.Sprint("atomic batches ", batches), func(t *testing.T) { loseLeaders(t, batches) })
	}
}

func loseLeaders(t *testing.T, batches bool) {
	servers := natstest.RunCluster(t)
	urls := make([]string, len(servers))
	for i, srv := range servers {
		urls[i] = srv.URL()
	}
	nc, err := nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg := streamConfig()
	cfg.Replicas, cfg.AllowAtomicPublish = 3, batches
	create(t, js, cfg)
	s := openOn(t, js)
	b := newBuffered(t, s, BufferedConfig{BlockTimeout: time.Minute, OnError: func(_ Entry, err error) { t.Errorf("OnError got %v", err) }})
	ids := numbered("e", 40000)
	var wg sync.WaitGroup
	wg.Go(func() { take(t, b, ids...) })
	for i := range int64(2) {
		awaitWritten(t, b, 5000*(i+1))
		leader := leaderAmong(t, js, servers)
		leader.Stop()
		awaitWritten(t, b, 5000*(i+1)+2000)
		leader.Restart()
	}
	wg.Wait()
	mustClose(t, b)
	var got []string
	eventually(t, "all replicas", func() (err error) { // whichever answers
		if got, err = storedIDs(t.Context(), s); err == nil && len(got) != len(ids) {
			err = fmt.Errorf("%d of %d are stored", len(got), len(ids))
		}
		return err
	})
	if !batches {
		slices.Sort(got)
	}
	if !slices.Equal(got, ids) {
		t.Error("entries are missing, or not in order")
	}
}

func leaderAmong(t *testing.T, js jetstream.JetStream, servers []*natstest.Server) (leader *natstest.Server) {
	t.Helper()
	eventually(t, "a leader", func() error {
		stream, err := js.Stream(t.Context(), testStream)
		if err != nil {
			return err
		}
		for _, srv := range servers {
			if srv.Name() == stream.CachedInfo().Cluster.Leader {
				leader = srv
				return nil
			}
		}
		return errors.New("no leader yet")
	})
	return leader
}

func TestBufferedWaitsForAFullStream(t *testing.T) {
	s, js, _ := open(t, func(cfg *jetstream.StreamConfig) { cfg.MaxMsgs, cfg.Discard = 100, jetstream.DiscardNew })
	b := newBuffered(t, s, BufferedConfig{QueueSize: 50, BlockTimeout: time.Minute})
	ids := numbered("e", 150)
	take(t, b, ids[:100]...)
	awaitWritten(t, b, 100)
	take(t, b, ids[100:]...)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	wantIs(t, b.Write(ctx, named("more")), ErrQueueFull)
	eventually(t, "the reason", func() error {
		if err := b.Stats().LastError; !errors.Is(err, ErrStreamFull) {
			return fmt.Errorf("it is %w", err)
		}
		return nil
	})
	if _, err := js.UpdateStream(t.Context(), streamConfig()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, b)
	wantStored(t, s, ids)
}

func TestBufferedOnAClosedConnection(t *testing.T) {
	_, _, srv := open(t)
	js := srv.JetStream()
	s := openOn(t, js)
	b := newBuffered(t, s, BufferedConfig{})
	take(t, b, "a")
	awaitWritten(t, b, 1)
	js.Conn().Close()
	take(t, b, "b", "c")
	eventually(t, "the reason", func() error {
		if err := b.Stats().LastError; !errors.Is(err, nats.ErrConnectionClosed) {
			return fmt.Errorf("it is %w", err)
		}
		return nil
	})
	closed := newBuffered(t, s, BufferedConfig{})
	take(t, closed, "d")
	for _, b := range []*Buffered{b, closed} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		wantIs(t, b.Close(ctx), ErrNotForwarded)
	}
	if d, e := b.Stats().Depth, closed.Stats().Depth; d != 2 || e != 1 {
		t.Errorf("%d and %d are left, want 2 and 1", d, e)
	}
}

func TestBufferedGoesThroughAPublisher(t *testing.T) {
	_, js, _ := open(t)
	var published atomic.Int64
	counted := func(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
		published.Add(1)
		return js.PublishMsg(ctx, msg, opts...)
	}
	s, err := New(t.Context(), js, Config{Stream: testStream, Subject: testSubject, Publisher: publisherFunc(counted)})
	if err != nil {
		t.Fatal(err)
	}
	b := newBuffered(t, s, BufferedConfig{})
	take(t, b, "a", "b", "c")
	mustClose(t, b)
	wantStored(t, s, strings.Fields("a b c"))
	if published.Load() != 3 {
		t.Errorf("%d of 3 messages went through the publisher", published.Load())
	}
}

func TestBufferedStartsWhileNATSIsAway(t *testing.T) {
	s, _, srv := open(t)
	srv.Stop()
	nc, err := nats.Connect(srv.URL(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewLazyWriter(js, Config{Stream: testStream, Subject: "a.*"})
	wantIs(t, err, ErrInvalidConfig)
	lazy, err := NewLazyWriter(js, Config{Stream: testStream, Subject: testSubject})
	if err != nil {
		t.Fatal(err)
	}
	unused := newBuffered(t, lazy, BufferedConfig{})
	mustClose(t, unused) // with nothing to forward there is nothing to wait for
	b := newBuffered(t, lazy, BufferedConfig{})
	ids := numbered("e", 1000)
	take(t, b, ids...)
	eventually(t, "the reason", func() error {
		if err := b.Stats().LastError; !errors.Is(err, ErrNotReady) {
			return fmt.Errorf("it is %w", err)
		}
		return nil
	})
	srv.Restart()
	mustClose(t, b)
	wantStored(t, s, ids)
}

// TestBufferedFollowsTheConnectionOfOpen: a connection that was closed for good is replaced, and the window moves to the new one.
func TestBufferedFollowsTheConnectionOfOpen(t *testing.T) {
	srv := runControlled(t, nil)
	client, _ := openDir(t, srv.binding(t, nil))
	if !client.direct() {
		t.Error("a store that Open made is not written to directly")
	}
	b := newBuffered(t, client, BufferedConfig{OnError: func(_ Entry, err error) { t.Errorf("OnError got %v", err) }})
	ids := numbered("e", 3000)
	for i, part := range slices.Collect(slices.Chunk(ids, 1000)) {
		take(t, b, part[:500]...)
		if i < 2 {
			client.Conn().Close()
		}
		take(t, b, part[500:]...)
		awaitWritten(t, b, int64(i+1)*1000)
	}
	mustClose(t, b)
	got := inStream(t, client.StreamStore)
	if slices.Sort(got); !slices.Equal(got, ids) {
		t.Errorf("%d of %d entries are stored", len(got), len(ids))
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	late := newBuffered(t, client, BufferedConfig{})
	take(t, late, "late")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	wantIs(t, late.Close(ctx), ErrNotForwarded)
}

// TestBufferedLeavesNothingToTheClient: what the client keeps for later while it is not connected would be sent behind what had
// been lost, and once for every try.
func TestBufferedLeavesNothingToTheClient(t *testing.T) {
	s, js, srv := open(t)
	b := newBuffered(t, s, BufferedConfig{})
	take(t, b, "a")
	awaitWritten(t, b, 1)
	srv.Stop()
	eventually(t, "the connection to be lost", func() error {
		if js.Conn().IsConnected() {
			return errors.New("not yet")
		}
		return nil
	})
	take(t, b, "b", "c", "d")
	eventually(t, "the reason", func() error {
		if err := b.Stats().LastError; !errors.Is(err, ErrNotReady) {
			return fmt.Errorf("it is %w", err)
		}
		return nil
	})
	if n, err := js.Conn().Buffered(); err != nil || n > 0 {
		t.Errorf("the client keeps %d bytes, %v", n, err)
	}
	srv.Restart()
	mustClose(t, b)
	wantStored(t, s, strings.Fields("a b c d"))
}
