package auditstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestConsumerThatBringsWhatTheLeaderHasRemoved: a replica that lags still delivers a message which the stream no longer counts.
// The last entry must not be lost for it.
func TestConsumerThatBringsWhatTheLeaderHasRemoved(t *testing.T) {
	_, js, srv := open(t)
	fill(t, js, 10)
	g := newGateway(t, srv)
	s := openOn(t, g.js)
	s.limits.probe = 0 // so that a consumer reads
	nc := srv.Connect()
	g.set(func(operation string, msg *nats.Msg) bool {
		return strings.HasPrefix(operation, "STREAM.INFO.") && answerWithout(nc, 4, operation, msg)
	})
	const want = "e9 e8 e7 e6 e5 e4 e2 e1 e0"
	if all, err := s.ListAll(t.Context()); err != nil || idsOf(all) != want {
		t.Errorf("ListAll is %q, %v, want %s", idsOf(all), err, want)
	}
	if got, total := list(t, s, 3, 5); got != "e4 e2 e1" || total != 9 {
		t.Errorf("List is %q of %d, want e4 e2 e1 of 9", got, total)
	}
	var out bytes.Buffer
	n, err := s.Export(t.Context(), &out, ExportOptions{})
	if n != 9 || err != nil || !strings.Contains(out.String(), `"e9"`) {
		t.Errorf("Export wrote %d, %v:\n%s", n, err, out.String())
	}
}

// answerWithout answers with the stream's state as though it had removed the message at the sequence.
func answerWithout(nc *nats.Conn, sequence uint64, operation string, msg *nats.Msg) bool {
	reply, err := nc.Request(jetstream.DefaultAPIPrefix+operation, msg.Data, time.Second)
	if err != nil {
		return true // it is lost
	}
	var info map[string]any
	if err := json.Unmarshal(reply.Data, &info); err != nil {
		return true
	}
	state := info["state"].(map[string]any)
	state["messages"] = state["messages"].(float64) - 1
	state["num_subjects"] = state["num_subjects"].(float64) - 1
	state["num_deleted"] = 1
	if bytes.Contains(msg.Data, []byte("deleted_details")) {
		state["deleted"] = []uint64{sequence}
	}
	answer, _ := json.Marshal(info)
	_ = msg.Respond(answer)
	return true
}

// TestStreamMadeAgainUnderARead: what is read is never that of another stream of the same name, nor nothing.
func TestStreamMadeAgainUnderARead(t *testing.T) {
	reads := map[string]func(*StreamStore) (int, error){
		"ListAll": func(s *StreamStore) (int, error) {
			all, err := s.ListAll(t.Context())
			return len(all), err
		},
		"Export": func(s *StreamStore) (int, error) {
			_, err := s.Export(t.Context(), io.Discard, ExportOptions{})
			return 0, err // what was written before is there
		},
		"Query": func(s *StreamStore) (_ int, last error) {
			for _, err := range s.Query(t.Context(), Query{}) {
				last = err
			}
			return 0, last
		},
	}
	for name, read := range reads {
		for _, after := range []int{0, 10} { // how many there are of the ten sequences in the new stream
			for _, probe := range []int{0, 4096} {
				if name == "Query" && after == 0 {
					continue // its first page finds out, and begins anew
				}
				t.Run(fmt.Sprintf("%s, %d again, probe %d", name, after, probe), func(t *testing.T) {
					s, again := madeAgain(t, after)
					s.limits.probe = probe
					n, err := read(s)
					wantIs(t, err, ErrIncomplete)
					if n != 0 || !again.Load() {
						t.Errorf("got %d entries; made again: %v", n, again.Load())
					}
				})
			}
		}
	}
}

// madeAgain is a store on a stream of ten entries, which is deleted and made again with others once its messages are asked for.
func madeAgain(t *testing.T, others int) (*StreamStore, *atomic.Bool) {
	t.Helper()
	_, js, srv := open(t)
	fill(t, js, 10)
	g := newGateway(t, srv)
	s := openOn(t, g.js)
	var once atomic.Bool
	g.set(func(operation string, _ *nats.Msg) bool {
		if (strings.HasPrefix(operation, "DIRECT.GET.") || strings.HasPrefix(operation, "CONSUMER.MSG.NEXT.")) && once.CompareAndSwap(false, true) {
			if err := js.DeleteStream(t.Context(), testStream); err != nil {
				t.Error(err)
			}
			create(t, js, streamConfig())
			fill(t, js, others)
		}
		return false
	})
	return s, &once
}
