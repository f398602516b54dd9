package handover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/migrate"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// writers are legacy writers that nobody redeploys: each puts one key after the other, and goes on when a put fails.
type writers struct {
	f      *fixture
	stop   context.CancelFunc
	group  sync.WaitGroup
	mu     sync.Mutex
	acked  map[string]bool
	failed map[string]error
	change chan struct{} // closed, and made anew, when a put was acknowledged
}

func (f *fixture) write(n int, bucket string) *writers {
	f.t.Helper()
	ctx, stop := context.WithCancel(f.ctx)
	w := &writers{f: f, stop: stop, acked: map[string]bool{}, failed: map[string]error{}, change: make(chan struct{})}
	f.t.Cleanup(func() { stop(); w.group.Wait() })
	for i := range n {
		kv := f.legacy(bucket)
		w.group.Go(func() { w.run(ctx, kv, i) })
	}
	return w
}

func (w *writers) run(ctx context.Context, kv jetstream.KeyValue, writer int) {
	pause := time.NewTicker(4 * time.Millisecond)
	defer pause.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("w%02d-%06d", writer, i)
		// The put is not ended with the test, so that its outcome is known.
		putCtx, cancel := context.WithTimeout(w.f.ctx, 5*time.Second)
		_, err := kv.Put(putCtx, key, entry(key))
		cancel()
		w.mu.Lock()
		if err != nil {
			w.failed[key] = err
		} else {
			w.acked[key] = true
			close(w.change)
			w.change = make(chan struct{})
		}
		w.mu.Unlock()
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// await waits for n more acknowledged puts.
func (w *writers) await(n int) {
	w.f.t.Helper()
	w.mu.Lock()
	goal := len(w.acked) + n
	for len(w.acked) < goal {
		change := w.change
		w.mu.Unlock()
		select {
		case <-change:
		case <-w.f.ctx.Done():
			w.f.t.Fatalf("waited for %d more acknowledged puts", n)
		}
		w.mu.Lock()
	}
	w.mu.Unlock()
}

// check stops the writers, copies what the bucket may still hold, and compares what was acknowledged with the stream.
func (w *writers) check(bucket string, before ...string) {
	t := w.f.t
	t.Helper()
	w.stop()
	w.group.Wait()
	if reached := w.f.mustCopy(bucket); reached.Mismatched != 0 || reached.Invalid != 0 {
		t.Errorf("after the hand-over: %+v", reached.Counts)
	}
	ids := w.f.stored()
	for _, key := range before {
		w.acked[key] = true
	}
	missing, doubled, foreign := 0, 0, 0
	for key := range w.acked {
		if ids[key] == 0 {
			missing++
		}
	}
	for key, n := range ids {
		if n > 1 {
			doubled++
		}
		// A put that failed may have been stored all the same.
		if _, failed := w.failed[key]; !failed && !w.acked[key] {
			foreign++
		}
	}
	if missing+doubled+foreign != 0 {
		t.Errorf("of %d acknowledged puts %d are missing; %d entries are doubled, %d were never put", len(w.acked), missing, doubled, foreign)
	}
	kinds := map[string]int{}
	for _, err := range w.failed {
		kinds[err.Error()]++
	}
	t.Logf("%d puts acknowledged, %d failed: %v", len(w.acked), len(w.failed), kinds)
}

const unit = 100 * time.Microsecond

func since(took *time.Duration, start time.Time) { *took = time.Since(start) }

// TestRedirectUnderWriters is the cut-over as it happens on the day.
func TestRedirectUnderWriters(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		kv := f.bucket()
		f.put(kv, "old-1", "old-2")
		w := f.write(16, bucketName)
		w.await(200)
		f.mustCopy(bucketName)
		var drained, opened time.Duration
		h := f.handOver(bucketName)
		drain, open := h.Drain, h.Open
		h.Drain = func(ctx context.Context, through uint64) (migrate.Checkpoint, error) {
			defer since(&drained, time.Now())
			return drain(ctx, through)
		}
		h.Open = func(ctx context.Context, reached migrate.Checkpoint) error {
			defer since(&opened, time.Now())
			return open(ctx, reached)
		}
		var result Result
		tries := 0
		f.pass("Redirect", func() (err error) {
			tries++
			result, err = h.Redirect(f.ctx)
			return err
		})
		f.wantState(bucketName, Fenced, true)
		// A further try goes on from wherever the one before has come to.
		if tries == 1 && (!result.Opened || result.Resumed || result.Mark == 0 || result.Checkpoint.LastSequence < result.Mark) {
			t.Errorf("Redirect: %+v", result)
		}
		t.Logf("gap from fence to open: %s, of which the drain took %s, the opening %s",
			result.Gap.Round(unit), drained.Round(unit), opened.Round(unit))
		w.await(500)
		if last := f.info("KV_" + bucketName).State.LastSeq; last != result.Mark {
			t.Logf("%d messages came after the mark", last-result.Mark)
		}
		w.check(bucketName, "old-1", "old-2")
		if again := f.mustRedirect(bucketName); again.Opened {
			t.Error("a second Redirect opened the stream again")
		}
	})
}

// TestCloseUnderLoad: what the stream has taken for the bucket, and not stored yet when the bucket's subjects are taken from
// it, becomes an entry all the same.
func TestCloseUnderLoad(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		f.bucket()
		f.mustCopy(bucketName)
		f.mustRedirect(bucketName)
		nc := f.connect().Conn()
		puts := 0
		put := func() {
			if err := nc.Publish(fmt.Sprintf("$KV.%s.%06d", bucketName, puts), nil); err != nil {
				t.Error(err)
			}
			puts++
		}
		const ahead = 50_000 // of what the server stores, which takes them faster
		ctx, stop := context.WithCancel(f.ctx)
		var writer sync.WaitGroup
		writer.Go(func() {
			for ctx.Err() == nil {
				if put(); puts > ahead && puts%1000 == 0 {
					_ = nc.FlushWithContext(ctx)
				}
			}
		})
		f.await("the first entry", func() bool { return f.info(streamName).State.Msgs > 0 })
		early := f.info(streamName).State.Msgs
		f.closeStream(bucketName)
		stop()
		writer.Wait()
		f.await("nobody to take what is put", func() bool {
			ctx, cancel := context.WithTimeout(f.ctx, requestTimeout)
			defer cancel()
			_, err := nc.RequestWithContext(ctx, "$KV."+bucketName+".last", nil)
			return errors.Is(err, nats.ErrNoResponders)
		})
		put()
		ids := f.stored() // which finds what is under another subject
		delete(ids, "last")
		t.Logf("of %d puts, %d were stored when the subjects were taken, %d in all", puts, early, len(ids))
		if len(ids) == 0 || len(ids) >= puts {
			t.Errorf("of %d puts %d were stored: the subjects were not taken in their midst", puts, len(ids))
		}
	})
}

// TestRedirectWithoutAReplica: a replica that is away knows nothing of what the stream is to do with the bucket's subjects.
func TestRedirectWithoutAReplica(t *testing.T) {
	f := newCluster(t)
	kv, _ := f.copied("old")
	leader := f.info(streamName).Cluster.Leader
	away := f.servers[slices.IndexFunc(f.servers, func(s *natstest.Server) bool { return s.Name() != leader })]
	away.Stop()
	f.await("the stream to miss its replica", func() bool { return heardOf(f.info(streamName)) != nil })
	err := f.answer(func(ctx context.Context) error {
		_, err := f.handOver(bucketName).Redirect(ctx)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "replica on "+away.Name()) {
		t.Errorf("Redirect while %s is away: %v", away.Name(), err)
	}
	f.wantState(bucketName, Own, false)
	f.put(kv, "new")
	away.Restart()
	f.await("the stream to hear of its replica", func() bool { return heardOf(f.info(streamName)) == nil })
	f.mustRedirect(bucketName)
	f.wantStored("old", "new")
}
