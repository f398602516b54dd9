package migrate

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// TestALeaderThatIsBehindIsNotBelieved has a leader answer that has been elected before it had all messages.
func TestALeaderThatIsBehindIsNotBelieved(t *testing.T) {
	nc := natstest.Run(t).Connect()
	js, err := jetstream.NewWithAPIPrefix(nc, "fake")
	if err != nil {
		t.Fatal(err)
	}
	var last, found atomic.Uint64
	answer := func(subject, text string, value *atomic.Uint64) {
		t.Helper()
		if _, err := nc.Subscribe("fake."+subject, func(m *nats.Msg) { _ = m.Respond(fmt.Appendf(nil, text, value.Load())) }); err != nil {
			t.Fatal(err)
		}
	}
	answer("STREAM.INFO.S", `{"config":{"name":"S"},"state":{"last_seq":%d}}`, &last)
	if _, err := nc.Subscribe("fake.STREAM.MSG.GET.S", func(m *nats.Msg) {
		if n := found.Load(); n > 0 {
			_ = m.Respond(fmt.Appendf(nil, `{"message":{"seq":%d}}`, n))
			return
		}
		_ = m.Respond([]byte(`{"error":{"code":404,"err_code":10037,"description":"no message found"}}`))
	}); err != nil {
		t.Fatal(err)
	}
	r := &reader{js: js, stream: "S"}
	for name, test := range map[string]struct {
		last, found uint64
		want        bool
	}{
		"behind":                  {last: 7, want: false},
		"at the goal":             {last: 10, want: true},
		"with more to read":       {last: 10, found: 8, want: false},
		"with more after the end": {last: 12, found: 12, want: true},
	} {
		last.Store(test.last)
		found.Store(test.found)
		if got, err := r.exhausted(t.Context(), 5, 10); err != nil || got != test.want {
			t.Errorf("A leader %s has the stream count as read: %t, %v, want %t", name, got, err, test.want)
		}
	}
}
