package handover

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// mortal is a hand-over whose operator is killed by kill: nothing that it would do after that happens.
func (f *fixture) mortal() (h *HandOver, s *streams, kill func() error) {
	h = f.handOver(bucketName)
	s = h.Streams.(*streams)
	return h, s, func() error { s.dead.Store(true); return errDead }
}

func isFence(cfg *jetstream.StreamConfig) bool {
	return slices.Equal(cfg.Subjects, []string{migrate.HandOverSubject(bucketName)})
}

// crashes are the steps after which an operator can be killed, each with what it leaves.
var crashes = map[string]struct {
	arrange func(f *fixture) *HandOver
	open    bool
}{
	"the fence": {arrange: func(f *fixture) *HandOver {
		h, s, kill := f.mortal()
		s.answered = func(cfg *jetstream.StreamConfig) error {
			if !isFence(cfg) {
				return nil
			}
			return kill()
		}
		return h
	}},
	"the mark": {arrange: func(f *fixture) *HandOver {
		h, _, kill := f.mortal()
		h.Drain = func(context.Context, uint64) (migrate.Checkpoint, error) { return migrate.Checkpoint{}, kill() }
		return h
	}},
	"the drain": {arrange: func(f *fixture) *HandOver {
		h, _, kill := f.mortal()
		h.Open = func(context.Context, migrate.Checkpoint) error { return kill() }
		return h
	}},
	"the opening": {open: true, arrange: func(f *fixture) *HandOver {
		h, _, kill := f.mortal()
		h.Open = func(ctx context.Context, _ migrate.Checkpoint) error {
			if err := f.open(ctx, bucketName); err != nil {
				return err
			}
			return kill()
		}
		return h
	}},
}

// TestRedirectAfterACrash kills the operator after each step while writers go on. The next pass finishes, and loses nothing.
func TestRedirectAfterACrash(t *testing.T) {
	for step, crash := range crashes {
		t.Run(step, func(t *testing.T) {
			f := newFixture(t)
			f.put(f.bucket(), "old")
			w := f.write(4, bucketName)
			w.await(50)
			f.mustCopy(bucketName)
			if _, err := crash.arrange(f).Redirect(f.ctx); !errors.Is(err, ErrStillFenced) {
				t.Fatalf("Redirect of the operator that is killed: %v, want ErrStillFenced", err)
			}
			f.wantState(bucketName, Fenced, crash.open)
			result := f.mustRedirect(bucketName)
			if result.Opened == crash.open || result.Resumed == crash.open {
				t.Errorf("the next Redirect: %+v", result)
			}
			w.await(100)
			w.check(bucketName, "old")
		})
	}
}

// TestReturnAfterACrash is for a resource that does not declare Redirect any more when the operator comes back.
func TestReturnAfterACrash(t *testing.T) {
	for step, crash := range crashes {
		t.Run(step, func(t *testing.T) {
			f := newFixture(t)
			f.put(f.bucket(), "old")
			w := f.write(4, bucketName)
			w.await(50)
			f.mustCopy(bucketName)
			if _, err := crash.arrange(f).Redirect(f.ctx); err == nil {
				t.Fatal("the operator was not killed")
			}
			h := f.handOver(bucketName)
			if crash.open {
				w.await(50)
				if _, err := h.Return(f.ctx); !errors.Is(err, ErrOpen) {
					t.Errorf("Return of an open bucket: %v, want ErrOpen", err)
				}
				f.closeStream(bucketName)
			}
			for _, want := range []bool{true, false} {
				if returned, err := h.Return(f.ctx); err != nil || returned != want {
					t.Errorf("Return: %t, %v, want %t", returned, err, want)
				}
			}
			f.wantState(bucketName, Own, false)
			w.await(100)
			w.check(bucketName, "old")
		})
	}
}

// TestFailureGivesTheSubjectsBack: when a hand-over fails, but the operator lives, writers do not wait for the next pass.
func TestFailureGivesTheSubjectsBack(t *testing.T) {
	failed := errors.New("the server said no")
	tests := map[string]struct {
		arrange func(f *fixture, h *HandOver, cancel context.CancelCauseFunc)
		want    error
	}{
		"the fence's answer is lost": {want: failed, arrange: func(_ *fixture, h *HandOver, _ context.CancelCauseFunc) {
			h.Streams.(*streams).answered = func(cfg *jetstream.StreamConfig) error {
				if isFence(cfg) {
					return failed
				}
				return nil
			}
		}},
		"the drain fails": {want: failed, arrange: func(_ *fixture, h *HandOver, _ context.CancelCauseFunc) {
			h.Drain = func(context.Context, uint64) (migrate.Checkpoint, error) { return migrate.Checkpoint{}, failed }
		}},
		"the drain is too slow": {want: errTooSlow, arrange: func(_ *fixture, h *HandOver, _ context.CancelCauseFunc) {
			h.Limit = time.Second
			h.Drain = func(ctx context.Context, _ uint64) (migrate.Checkpoint, error) {
				<-ctx.Done()
				return migrate.Checkpoint{}, ctx.Err()
			}
		}},
		"the drain ends before the mark": {arrange: func(f *fixture, h *HandOver, _ context.CancelCauseFunc) {
			h.Drain = func(context.Context, uint64) (migrate.Checkpoint, error) { return f.saved[bucketName], nil }
		}},
		"the operator stops": {want: failed, arrange: func(_ *fixture, h *HandOver, cancel context.CancelCauseFunc) {
			h.Drain = func(ctx context.Context, _ uint64) (migrate.Checkpoint, error) {
				cancel(failed)
				return migrate.Checkpoint{}, ctx.Err()
			}
		}},
		"the stream does not open": {want: failed, arrange: func(_ *fixture, h *HandOver, _ context.CancelCauseFunc) {
			h.Open = func(context.Context, migrate.Checkpoint) error { return failed }
		}},
		"a value that is not an entry": {want: ErrNotClean, arrange: func(f *fixture, _ *HandOver, _ context.CancelCauseFunc) {
			f.publish("$KV."+bucketName+".bad", "no JSON")
		}},
		"an entry that differs": {want: ErrNotClean, arrange: func(f *fixture, _ *HandOver, _ context.CancelCauseFunc) {
			f.publish("$KV."+bucketName+".old", `{"id":"old","user":"mallory"}`)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			kv, _ := f.copied("old")
			before := f.info("KV_" + bucketName).Config
			ctx, cancel := context.WithCancelCause(f.ctx)
			defer cancel(nil)
			h := f.handOver(bucketName)
			tt.arrange(f, h, cancel)
			_, err := h.Redirect(ctx)
			if err == nil || errors.Is(err, ErrStillFenced) || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Redirect: %v, want %v", err, tt.want)
			}
			f.wantState(bucketName, Own, false)
			wantSame(t, before, f.info("KV_"+bucketName).Config)
			f.put(kv, "new")
		})
	}
}

func (f *fixture) publish(subject, data string) {
	f.t.Helper()
	if _, err := f.js.Publish(f.ctx, subject, []byte(data)); err != nil {
		f.t.Fatal(err)
	}
}

// wantSame checks that two configurations are the same to the last key of their metadata.
func wantSame(t *testing.T, want, have jetstream.StreamConfig) {
	t.Helper()
	if d := jsbuilder.Compare(want, have); len(d) != 0 || len(want.Metadata) != len(have.Metadata) {
		t.Errorf("the configuration changed: %+v, metadata %v to %v", d, want.Metadata, have.Metadata)
	}
}

// TestOpenWithoutAnAnswer: whether the stream is open is what counts, not what was heard of it.
func TestOpenWithoutAnAnswer(t *testing.T) {
	f := newFixture(t)
	kv, _ := f.copied("old")
	h := f.handOver(bucketName)
	h.Open = func(ctx context.Context, _ migrate.Checkpoint) error {
		if err := f.open(ctx, bucketName); err != nil {
			return err
		}
		return context.DeadlineExceeded
	}
	if result, err := h.Redirect(f.ctx); err != nil || !result.Opened {
		t.Errorf("Redirect: %+v, %v", result, err)
	}
	f.wantState(bucketName, Fenced, true)
	f.put(kv, "new")
	f.wantStored("old", "new")
}

// TestTwoOperatorsRace: one gives the subjects back while the other opens the stream, and is refused.
func TestTwoOperatorsRace(t *testing.T) {
	f := newFixture(t)
	kv, _ := f.copied("old")
	h := f.handOver(bucketName)
	h.Open = func(ctx context.Context, _ migrate.Checkpoint) error {
		if returned, err := f.handOver(bucketName).Return(ctx); err != nil || !returned {
			t.Errorf("the other operator's Return: %t, %v", returned, err)
		}
		return f.open(ctx, bucketName)
	}
	_, err := h.Redirect(f.ctx)
	if _, lasting := errors.AsType[*jetstream.APIError](err); err == nil || lasting || errors.Is(err, ErrStillFenced) {
		t.Errorf("Redirect: %v, want an error that passes", err)
	}
	f.wantState(bucketName, Own, false)
	f.put(kv, "new")
	f.mustRedirect(bucketName)
	f.wantStored("old", "new")
}

// TestStillFenced: what failed first is not what the next pass is for.
func TestStillFenced(t *testing.T) {
	f := newFixture(t)
	f.copied("old")
	f.publish("$KV."+bucketName+".bad", "no JSON")
	h := f.handOver(bucketName)
	h.Streams.(*streams).asked = func(cfg *jetstream.StreamConfig) error {
		if isFence(cfg) {
			return nil
		}
		return errors.New("the server said no")
	}
	if _, err := h.Redirect(f.ctx); !errors.Is(err, ErrStillFenced) || errors.Is(err, ErrNotClean) {
		t.Errorf("Redirect: %v, want ErrStillFenced only", err)
	}
	f.wantState(bucketName, Fenced, false)
	if _, err := f.handOver(bucketName).Redirect(f.ctx); !errors.Is(err, ErrNotClean) {
		t.Errorf("the next Redirect: %v, want ErrNotClean", err)
	}
	f.wantState(bucketName, Own, false)
}

// TestReturnWhileClaimed: a stream that has lost the bucket's subjects, but is to have them, gets them back when it is healed.
func TestReturnWhileClaimed(t *testing.T) {
	f := newFixture(t)
	f.copied("old")
	f.mustRedirect(bucketName)
	cfg := f.info(streamName).Config
	cfg.Subjects = cfg.Subjects[:1]
	if _, err := f.js.UpdateStream(f.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if returned, err := f.handOver(bucketName).Return(f.ctx); returned || !errors.Is(err, ErrOpen) {
		t.Errorf("Return: %t, %v, want ErrOpen", returned, err)
	}
	if result := f.mustRedirect(bucketName); !result.Opened || !result.Resumed {
		t.Errorf("Redirect: %+v", result)
	}
}
