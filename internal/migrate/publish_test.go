package migrate

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestNobodyTakesTheEntries(t *testing.T) {
	f := newFixture(t, func(_ *jetstream.KeyValueConfig, s *jetstream.StreamConfig) { s.Subjects = []string{"elsewhere.>"} })
	f.fill(0, 10)
	reached, err := f.run(Checkpoint{})
	if !errors.Is(err, jetstream.ErrNoStreamResponse) || reached.Migrated != 0 {
		t.Errorf("Run returned %v and has migrated %d, want %v and none", err, reached.Migrated, jetstream.ErrNoStreamResponse)
	}
}

func TestAFullStreamRefusesTheEntries(t *testing.T) {
	f := newFixture(t, func(_ *jetstream.KeyValueConfig, s *jetstream.StreamConfig) {
		s.Discard, s.MaxMsgs = jetstream.DiscardNew, 5
	})
	f.fill(0, 10)
	reached, err := f.run(Checkpoint{})
	if api, ok := errors.AsType[*jetstream.APIError](err); !ok || api.ErrorCode != codeStoreFailed || reached.Migrated != 0 {
		t.Errorf("Run returned %v and has migrated %d, want the server's refusal %d and none", err, reached.Migrated, codeStoreFailed)
	}
}

func TestASingleEntryAfterABatchIsNoPartOfIt(t *testing.T) {
	c := &copier{Job: &Job{Subject: "audit", MaxAge: time.Hour, Now: time.Now}}
	r := &revision{key: key(1), value: entry(key(1)), sequence: 1, stored: time.Now()}
	c.batched(&item{revision: r}, "batch", 2).Header.Set(headerBatchCommit, "1")
	for name := range c.message(&item{revision: r}).Header {
		if strings.HasPrefix(name, "Nats-Batch") {
			t.Errorf("the message has the header %s", name)
		}
	}
}
