package auditstore

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestParseReply(t *testing.T) {
	want := delivery{sequence: 12, delivered: 3, stored: time.Unix(1767323045, 678)}
	for _, reply := range []string{
		"$JS.ACK.audit.c1.1.12.3.1767323045000000678.9",
		"$JS.ACK._.ACC.audit.c1.1.12.3.1767323045000000678.9",
		"$JS.ACK.hub.ACC.audit.c1.1.12.3.1767323045000000678.9.x7",
	} {
		if got, ok := parseReply(reply); !ok || got != want {
			t.Errorf("%s is %+v (%t), want %+v", reply, got, ok, want)
		}
	}
	for _, reply := range []string{"", "_INBOX.a", "$JS.ACK.audit.c1", "$JS.ACK.audit.c1.1.12", "$JS.ACK.audit.c1.1.1x2.3.5.9", "$JS.ACK.audit.c1.1..3.5.9",
		"$JS.NAK.audit.c1.1.12.3.1767323045000000678.9"} {
		if got, ok := parseReply(reply); ok {
			t.Errorf("%s is %+v", reply, got)
		}
	}
}

// TestAnExportUsesOneConsumer however many requests for messages it takes, also where their bytes end them.
func TestAnExportUsesOneConsumer(t *testing.T) {
	for name, payload := range map[string]int{"many": 0, "large": 200_000} {
		t.Run(name, func(t *testing.T) {
			_, js, srv := open(t)
			n := 2*walkMessages + 10
			if payload == 0 {
				fill(t, js, n)
			} else {
				n = 100
				for i := range n {
					publish(t, js, fmt.Sprint("e", i), body(fmt.Sprint("e", i), strings.Repeat("x", payload)))
				}
			}
			g := newGateway(t, srv)
			s := patient(openOn(t, g.js))
			s.limits.probe = 10
			var made, asked atomic.Int64
			g.set(func(operation string, _ *nats.Msg) bool {
				if strings.HasPrefix(operation, "CONSUMER.CREATE.") {
					made.Add(1)
				}
				if strings.HasPrefix(operation, "CONSUMER.MSG.NEXT.") {
					asked.Add(1)
				}
				return false
			})
			if entries, err := s.ListAll(t.Context()); err != nil || len(entries) != n {
				t.Errorf("got %d of %d entries and %v", len(entries), n, err)
			}
			if made.Load() != 1 || asked.Load() < 4 {
				t.Errorf("made %d consumers and %d requests, want 1 and some", made.Load(), asked.Load())
			}
		})
	}
}

// TestAServerThatDoesNotKnowTheConsumerYet is asked again.
func TestAServerThatDoesNotKnowTheConsumerYet(t *testing.T) {
	_, js, srv := open(t)
	fill(t, js, 50)
	g := newGateway(t, srv)
	s := patient(openOn(t, g.js))
	s.limits.probe = 10
	var made, refused atomic.Int64
	g.set(func(operation string, msg *nats.Msg) bool {
		if strings.HasPrefix(operation, "CONSUMER.CREATE.") {
			made.Add(1)
		}
		if !strings.HasPrefix(operation, "CONSUMER.MSG.NEXT.") || refused.Add(1) > 4 {
			return false
		}
		answer := nats.NewMsg(msg.Reply)
		answer.Header.Set("Status", "503")
		_ = msg.RespondMsg(answer)
		return true
	})
	if entries, err := s.ListAll(t.Context()); err != nil || len(entries) != 50 || made.Load() != 1 {
		t.Errorf("got %d of 50 entries and %v through %d consumers", len(entries), err, made.Load())
	}
}

// TestAConsumerThatIsRemovedIsReplaced where it was, and the walk goes on in order.
func TestAConsumerThatIsRemovedIsReplaced(t *testing.T) {
	s, js, _ := open(t)
	s.limits.probe = 10
	n := 2 * walkMessages
	fill(t, js, n)
	snap, err := s.observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	err = s.walk(t.Context(), snap, 0, func(m *message) error {
		if m.sequence == 1 {
			stream, err := js.Stream(t.Context(), testStream)
			if err != nil {
				return err
			}
			for name := range stream.ConsumerNames(t.Context()).Name() {
				if err := stream.DeleteConsumer(t.Context(), name); err != nil {
					return err
				}
			}
		}
		if m.sequence != last+1 {
			t.Errorf("%d came after %d", m.sequence, last)
		}
		last = m.sequence
		return nil
	})
	if err != nil || last != uint64(n) {
		t.Errorf("went up to %d of %d: %v", last, n, err)
	}
}

// TestAWalkMissesNoLostMessage that was lost between the server and here.
func TestAWalkMissesNoLostMessage(t *testing.T) {
	s, js, _ := open(t)
	fill(t, js, 20)
	p, err := s.pull(t.Context(), 1, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close(t.Context())
	var m message
	if err := p.read(t.Context(), &m); err != nil || m.sequence != 1 {
		t.Fatalf("read %d, %v", m.sequence, err)
	}
	<-p.messages
	wantIs(t, p.read(t.Context(), &m), errBroken)
}
