package auditstore

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// TestSpoolKeepsTheOrder where messages are lost on their way, and where the server takes only small batches.
func TestSpoolKeepsTheOrder(t *testing.T) {
	const lost = "front.e00100"
	small := func(o *server.Options) { o.JetStreamLimits.MaxBatchSize = 7 }
	tests := map[string]struct {
		options []natstest.Option
		relay   func(forward func(*nats.Msg), msg *nats.Msg, first bool)
	}{
		"one is lost": {relay: func(forward func(*nats.Msg), msg *nats.Msg, first bool) {
			if !first || msg.Subject != lost {
				forward(msg)
			}
		}},
		"all are lost": {relay: func(forward func(*nats.Msg), msg *nats.Msg, first bool) {
			if !first || msg.Header.Get(headerBatchID) == "" {
				forward(msg)
			}
		}},
		"small batches": {options: []natstest.Option{small}, relay: func(forward func(*nats.Msg), msg *nats.Msg, _ bool) { forward(msg) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			srv := natstest.Run(t, test.options...)
			cfg := streamConfig()
			cfg.AllowAtomicPublish = true
			create(t, srv.JetStream(), cfg)
			var away, tried atomic.Bool
			away.Store(true)
			seen := map[string]bool{}
			var batched atomic.Int64
			s := relayed(t, srv, func(forward func(*nats.Msg), msg *nats.Msg) {
				if away.Load() {
					tried.Store(true)
					return
				}
				if msg.Header.Get(headerBatchID) != "" {
					batched.Add(1)
				}
				first := !seen[msg.Subject]
				seen[msg.Subject] = true
				test.relay(forward, msg, first)
			})
			s.limits.try, s.limits.request = 300*time.Millisecond, time.Second
			b := newBuffered(t, s, BufferedConfig{Policy: Spool, Dir: t.TempDir()})
			ids := numbered("e", 300)
			take(t, b, ids[0])
			until(t, "the first to be tried alone", tried.Load)
			take(t, b, ids[1:]...)
			away.Store(false)
			mustClose(t, b)
			if got := inStream(t, openOn(t, srv.JetStream())); !slices.Equal(got, ids) {
				t.Errorf("the stream holds %d entries, want %d in their order: %v", len(got), len(ids), got)
			}
			// What was tried while the server was away goes alone, and so does what is read from the disk later than the others.
			if batched.Load() < 200 {
				t.Errorf("%d messages went in batches", batched.Load())
			}
		})
	}
}

// TestBatchesWhoseAnswersAreLate are stored once, whatever was stored when they were given up.
func TestBatchesWhoseAnswersAreLate(t *testing.T) {
	srv := natstest.Run(t)
	cfg := streamConfig()
	cfg.AllowAtomicPublish = true
	create(t, srv.JetStream(), cfg)
	dir, ids := t.TempDir(), numbered("e", 300)
	silent := relayed(t, srv, func(func(*nats.Msg), *nats.Msg) {})
	b := newBuffered(t, silent, BufferedConfig{Policy: Spool, Dir: dir})
	take(t, b, ids...)
	ended, end := context.WithCancel(t.Context())
	end()
	if err := b.Close(ended); err == nil {
		t.Fatal("nothing was left in the spool")
	}
	s := openOn(t, srv.JetStream())
	s.limits.request = time.Nanosecond
	mustClose(t, newBuffered(t, s, BufferedConfig{Policy: Spool, Dir: dir}))
	if got := inStream(t, openOn(t, srv.JetStream())); !slices.Equal(got, ids) {
		t.Errorf("the stream holds %d entries, want %d in their order: %v", len(got), len(ids), got)
	}
}

// TestBufferedBatchesOnlyWhereTheyHelp: to a stream without replicas single messages are faster.
func TestBufferedBatchesOnlyWhereTheyHelp(t *testing.T) {
	for _, test := range []struct {
		policy   Policy
		atomic   bool
		replicas int
		want     bool
	}{
		{Block, true, 1, false}, {Block, true, 3, true}, {Drop, true, 3, true}, {Spool, true, 1, true},
		{Spool, false, 1, false}, {Block, false, 3, false},
	} {
		b := &Buffered{cfg: BufferedConfig{Policy: test.policy}}
		if got := b.inBatches(jetstream.StreamConfig{AllowAtomicPublish: test.atomic, Replicas: test.replicas}); got != test.want {
			t.Errorf("%+v: got %v", test, got)
		}
	}
}
