package auditstore

import (
	"bytes"
	"encoding/json"
	"strings"
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
