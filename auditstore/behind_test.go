package auditstore

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// behind lets the gateway answer as a leader does that ends before the sequence: for as many requests as left has.
func behind(t *testing.T, g *gateway, sequence uint64, left *atomic.Int64) {
	t.Helper()
	state, err := g.js.Conn().Request("$JS.API.STREAM.INFO."+testStream, nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var info map[string]any
	if err := json.Unmarshal(state.Data, &info); err != nil {
		t.Fatal(err)
	}
	counts := info["state"].(map[string]any)
	for _, count := range []string{"messages", "num_subjects"} {
		counts[count] = counts[count].(float64) - (counts["last_seq"].(float64) - float64(sequence-1))
	}
	counts["last_seq"] = sequence - 1
	old, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	g.set(func(operation string, msg *nats.Msg) bool {
		if left.Add(-1) < 0 {
			return false
		}
		var q struct {
			query
			Seq uint64 `json:"seq"`
		}
		_ = json.Unmarshal(msg.Data, &q)
		switch {
		case strings.HasPrefix(operation, "STREAM.INFO."):
			_ = msg.Respond(old)
		case q.Seq < sequence && q.LastOf == "" && q.Subject == "":
			return false
		case strings.HasPrefix(operation, "DIRECT."):
			notFound(msg)
		case strings.HasPrefix(operation, "STREAM.MSG.GET."):
			_ = msg.Respond([]byte(`{"error":{"code":404,"err_code":10037,"description":"no message found"}}`))
		default:
			return false
		}
		return true
	})
}

// TestLeaderThatIsBehind has a leader that has not got the newest message for a moment: it counts neither as removed nor as
// unreadable, whenever the moment is.
func TestLeaderThatIsBehind(t *testing.T) {
	for _, moved := range []bool{false, true} {
		for skip := range 6 {
			_, js, srv := open(t)
			var source []time.Time
			if moved {
				source = append(source, time.Now().Add(-time.Hour))
			}
			publish(t, js, "a", body("a", "ada"))
			publish(t, js, "b", body("b", "ada"), source...)
			g := newGateway(t, srv)
			s := openOn(t, g.js)
			want := "a b"
			if !moved {
				want = "b a"
			}
			if got, _ := list(t, s, 5, 0); got != want {
				t.Fatalf("List is %q, want %q", got, want)
			}
			mustWrite(t, s, "c")
			var left atomic.Int64
			left.Store(3)
			behind(t, g, 3, &left)
			refuse := *g.refuse.Load()
			var n atomic.Int64
			g.set(func(operation string, msg *nats.Msg) bool { return n.Add(1) > int64(skip) && refuse(operation, msg) })
			if got, total := list(t, s, 5, 0); got != "c "+want || total != 3 {
				t.Errorf("moved %v, behind after %d requests: List is %q of %d", moved, skip, got, total)
			}
			n.Store(0)
			left.Store(3)
			if entry, err := s.Get(t.Context(), "c"); err != nil || entry.ID != "c" {
				t.Errorf("behind after %d requests: Get gave %+v, %v", skip, entry, err)
			}
			n.Store(0)
			left.Store(3)
			if entries, err := s.ListAll(t.Context()); err != nil || idsOf(entries) != "c "+want {
				t.Errorf("behind after %d requests: ListAll is %q, %v", skip, idsOf(entries), err)
			}
		}
	}
}

// TestStreamThatHasLostItsEnd is told once, and then read as it is.
func TestStreamThatHasLostItsEnd(t *testing.T) {
	_, _, srv := open(t)
	g := newGateway(t, srv)
	s := openOn(t, g.js)
	s.limits.request = time.Second
	mustWrite(t, s, "a", "b", "c")
	var left atomic.Int64
	left.Store(1 << 30)
	behind(t, g, 3, &left)
	_, _, err := s.List(t.Context(), 5, 0)
	wantIs(t, err, ErrNotReady)
	if err != nil && !strings.Contains(err.Error(), "went back from 3 to 2") {
		t.Errorf("the error does not say what is lost: %v", err)
	}
	if got, total := list(t, s, 5, 0); got != "b a" || total != 2 {
		t.Errorf("List is %q of %d", got, total)
	}
}

// TestReadsThatWaitLessThanALeaderMay do not take a leader that is behind for one that has lost its end, unless they have found it
// so for as long as one read would have waited.
func TestReadsThatWaitLessThanALeaderMay(t *testing.T) {
	_, _, srv := open(t)
	g := newGateway(t, srv)
	s := openOn(t, g.js)
	mustWrite(t, s, "a", "b", "c")
	var left atomic.Int64
	left.Store(1 << 30)
	behind(t, g, 3, &left)
	hasty := func() error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		asked := left.Load()
		go func() {
			for left.Load() > asked-2 && pause(ctx, time.Millisecond) {
			}
			cancel()
		}()
		_, _, err := s.List(ctx, 5, 0)
		return err
	}
	for range 3 {
		wantIs(t, hasty(), ErrNotReady, context.Canceled, errBehind)
	}
	s.limits.request = 300 * time.Millisecond
	eventually(t, "the end to be taken for lost", hasty)
}

// TestWhatIsBufferedCountsAsAcknowledged, so that no read believes a leader that ends before it.
func TestWhatIsBufferedCountsAsAcknowledged(t *testing.T) {
	for policy, atomically := range map[Policy]bool{Block: false, Spool: true} {
		t.Run(policy.String(), func(t *testing.T) {
			srv := natstest.Run(t)
			cfg := streamConfig()
			cfg.AllowAtomicPublish = atomically
			create(t, srv.JetStream(), cfg)
			s := openOn(t, srv.JetStream())
			bufferedConfig := BufferedConfig{Policy: policy}
			if policy == Spool {
				bufferedConfig.Dir = t.TempDir()
			}
			b := newBuffered(t, s, bufferedConfig)
			take(t, b, numbered("e", 300)...)
			mustClose(t, b)
			if got := s.end().last; got != 300 {
				t.Errorf("the store knows of a stream that ends at %d, want 300", got)
			}
		})
	}
}
