package auditstore

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestReadingAgreesWithAModelThatExpires lets the server remove messages by itself: those whose own time is over, anywhere, and the
// oldest by max_age. Stores read while that goes on, and what they read afterwards is the model.
func TestReadingAgreesWithAModelThatExpires(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel() // most of it is waiting
			watcher, js, _ := open(t, func(cfg *jetstream.StreamConfig) { cfg.AllowMsgTTL = true })
			m := newModel(t, js, 500+seed)
			m.noSource, m.noDouble = seed%2 == 1, seed >= 2
			single := openOn(t, js)
			single.limits.probe = int(seed)
			stores := func() []*StreamStore { return []*StreamStore{watcher, single, openOn(t, js)} }
			for range 2 {
				for range 4 {
					m.change()
					m.addPassing()
				}
				m.expire(stores())
				for _, s := range stores() {
					m.check(s)
				}
				m.age(stores())
				for _, s := range stores() {
					m.checkPages(s)
					m.check(s)
				}
			}
		})
	}
}

// addPassing stores messages that the server removes after a second.
func (m *model) addPassing() {
	m.t.Helper()
	for range m.random.IntN(5) {
		m.made++
		id := fmt.Sprintf("passing%d", m.made)
		msg := &nats.Msg{Subject: testSubject + "." + id, Data: body(id, "ada"), Header: nats.Header{"Nats-TTL": {"1s"}}}
		if _, err := m.js.PublishMsg(m.t.Context(), msg); err != nil {
			m.t.Fatal(err)
		}
	}
}

// expire reads until the messages that pass have passed.
func (m *model) expire(stores []*StreamStore) {
	m.t.Helper()
	eventually(m.t, "messages to expire", func() error {
		m.readOn(stores)
		info, err := m.stream.Info(m.t.Context())
		if err == nil && info.State.Msgs != uint64(len(m.live)) {
			err = fmt.Errorf("there are %d messages, want %d", info.State.Msgs, len(m.live))
		}
		return err
	})
}

// age has the server remove by max_age what is older than a second, and takes the same out of the model.
func (m *model) age(stores []*StreamStore) {
	m.t.Helper()
	time.Sleep(1100 * time.Millisecond)
	before, err := m.stream.Info(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	last := before.State.LastSeq // all up to it, so that the server has nothing left to remove once it is gone
	for range 5 {
		m.add()
	}
	m.maxAge(time.Second)
	eventually(m.t, "the oldest to go", func() error {
		m.readOn(stores)
		if info, err := m.stream.Info(m.t.Context()); err != nil || info.State.FirstSeq <= last {
			return errors.Join(err, errors.New("they are there"))
		}
		return nil
	})
	m.maxAge(0)
	info, err := m.stream.Info(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	m.live = slices.DeleteFunc(m.live, func(message stored) bool { return message.sequence < info.State.FirstSeq })
	if info.State.Msgs != uint64(len(m.live)) {
		m.t.Fatalf("there are %d messages, want %d", info.State.Msgs, len(m.live))
	}
}

func (m *model) maxAge(age time.Duration) {
	m.t.Helper()
	cfg := m.stream.CachedInfo().Config
	cfg.MaxAge, cfg.Duplicates = age, time.Second // which may not be longer
	if _, err := m.js.UpdateStream(m.t.Context(), cfg); err != nil {
		m.t.Fatal(err)
	}
}

// readOn reads whatever is there. Nothing may fail but what is corrupt.
func (m *model) readOn(stores []*StreamStore) {
	m.t.Helper()
	for _, s := range stores {
		_, _, listErr := s.List(m.t.Context(), m.random.IntN(8), m.random.IntN(8))
		_, allErr := s.ListAll(m.t.Context())
		for _, err := range []error{listErr, allErr} {
			if err != nil && (!errors.Is(err, ErrCorrupt) || errors.Is(err, ErrIncomplete) || errors.Is(err, ErrNotReady)) {
				m.t.Fatalf("reading while messages expire: %v", err)
			}
		}
	}
}
