package auditstore

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestGetAsksOnceForWhatWriteHasStored(t *testing.T) {
	_, _, srv := open(t)
	g := newGateway(t, srv)
	s := patient(openOn(t, g.js))
	mustWrite(t, s, "a")
	before := g.asked.Load()
	if _, err := s.Get(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if asked := g.asked.Load() - before; asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// TestTheFirstMessageWins over later ones, also over those that seem to be the first: because another subject had none, or
// because they say where they were copied from.
func TestTheFirstMessageWins(t *testing.T) {
	for name, header := range map[string]nats.Header{
		"unconditional":   {},
		"another subject": {jetstream.ExpectedLastSubjSeqHeader: {"0"}, jetstream.ExpectedLastSubjSeqSubjHeader: {testSubject + ".none"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, js, _ := open(t)
			publish(t, js, "a", body("a", "ada"))
			msg := &nats.Msg{Subject: testSubject + ".a", Header: header, Data: body("a", "eve")}
			if _, err := js.PublishMsg(t.Context(), msg); err != nil {
				t.Fatal(err)
			}
			if entry, err := s.Get(t.Context(), "a"); err != nil || entry.User != "ada" {
				t.Errorf("got %+v, %v", entry, err)
			}
		})
	}
	copied := message{header: nats.Header{jetstream.ExpectedLastSubjSeqHeader: {"0"}, "Nats-Stream-Source": {"other 1 > > >"}}}
	if copied.isFirst() {
		t.Error("what another stream took first is taken for the first one here")
	}
}
