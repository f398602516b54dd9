package auditstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// stored is a message as the model remembers it.
type stored struct {
	id       string
	sequence uint64
	at       time.Time
	corrupt  bool
	marker   bool
	entry    Entry
}

// model is the trail by brute force: all messages that are there, nothing else.
type model struct {
	t      *testing.T
	js     jetstream.JetStream
	stream jetstream.Stream
	random *rand.Rand
	live   []stored
	made   int
	// What is left out, so that each of the store's ways is taken: one for a trail that is in order, one for any other.
	noSource, noDouble bool
}

func newModel(t *testing.T, js jetstream.JetStream, seed uint64) *model {
	t.Helper()
	stream, err := js.Stream(t.Context(), testStream)
	if err != nil {
		t.Fatal(err)
	}
	return &model{t: t, js: js, stream: stream, random: rand.New(rand.NewPCG(seed, 1))}
}

// change stores and removes a few messages.
func (m *model) change() {
	for range m.random.IntN(12) {
		if m.random.IntN(4) == 0 {
			m.remove()
		} else {
			m.add()
		}
	}
}

// add stores a message: native or with a source time, new or under an id that exists, whole or corrupt, or a deletion marker.
func (m *model) add() {
	m.made++
	id := fmt.Sprintf("e%d", m.made)
	if len(m.live) > 0 && !m.noDouble && m.random.IntN(8) == 0 {
		id = m.live[m.random.IntN(len(m.live))].id
	}
	if m.random.IntN(6) == 0 {
		m.mark(id)
		return
	}
	data, corrupt := m.encode(m.entry(id)), m.random.IntN(10) == 0
	if corrupt {
		data = []byte("{broken")
	}
	var source []time.Time
	if !m.noSource && m.random.IntN(3) == 0 {
		source = append(source, time.Now().Add(-time.Duration(m.random.IntN(5))*time.Minute).Truncate(time.Minute))
	}
	m.put(id, data, corrupt, source...)
}

// entry has something for each condition of a query to tell apart.
func (m *model) entry(id string) Entry {
	pick := func(values ...string) string { return values[m.random.IntN(len(values))] }
	return Entry{
		ID: id, Timestamp: time.Now().Add(-time.Duration(m.random.IntN(10)) * time.Minute).UTC(), User: pick("ada", "eve"),
		Method: pick("GET", "POST"), Path: pick("/nodes/1", "/nodes/2", "/jobs"), TraceID: pick("", "4bf92f3577b34da6a3ce929d0e0e4736"),
		ResponseCode: 200 + m.random.IntN(2)*204, Roles: []string{"admin", "a,b"},
	}
}

func (m *model) encode(entry Entry) []byte {
	m.t.Helper()
	data, err := json.MarshalIndent(entry, "", " ")
	if err != nil {
		m.t.Fatal(err)
	}
	return data
}

// mark stores what a key-value client leaves where it deletes a key.
func (m *model) mark(id string) {
	msg := nats.NewMsg(testSubject + "." + id)
	msg.Header.Set("KV-Operation", "DEL")
	ack, err := m.js.PublishMsg(m.t.Context(), msg)
	if err != nil {
		m.t.Fatal(err)
	}
	m.live = append(m.live, stored{id: id, sequence: ack.Sequence, at: m.storedAt(ack.Sequence), corrupt: true, marker: true})
}

// storedAt asks until the replica that answers has the message.
func (m *model) storedAt(sequence uint64) (at time.Time) {
	m.t.Helper()
	eventually(m.t, "a replica that has the message", func() error {
		raw, err := m.stream.GetMsg(m.t.Context(), sequence)
		if err == nil {
			at = raw.Time
		}
		return err
	})
	return at
}

func (m *model) put(id string, data []byte, corrupt bool, source ...time.Time) {
	sequence := publish(m.t, m.js, id, data, source...)
	at := m.storedAt(sequence)
	if len(source) > 0 {
		at = source[0]
	}
	var entry Entry
	if err := json.Unmarshal(data, &entry); (err != nil) != corrupt {
		m.t.Fatalf("%s: %v", data, err)
	}
	m.live = append(m.live, stored{id: id, sequence: sequence, at: at, corrupt: corrupt, entry: entry})
}

func (m *model) remove() {
	if len(m.live) == 0 {
		return
	}
	i := m.random.IntN(len(m.live))
	remove(m.t, m.js, m.live[i].sequence)
	m.live = slices.Delete(m.live, i, i+1)
}

// entries is what a reader has to see, newest first.
func (m *model) entries() []stored {
	seen := map[string]bool{}
	var entries []stored
	for _, markers := range []bool{false, true} { // a marker has a place only where its id has no entry
		for _, message := range m.live { // in the order of sequences
			if message.marker == markers && !seen[message.id] {
				entries = append(entries, message)
				seen[message.id] = true
			}
		}
	}
	slices.SortFunc(entries, func(a, b stored) int {
		if c := b.at.Compare(a.at); c != 0 {
			return c
		}
		return int(b.sequence) - int(a.sequence)
	})
	return entries
}

// describe writes a page as the ids of whole entries and then the sequences of corrupt ones.
func describe(page []stored) string {
	var ids, corrupt []string
	for _, entry := range page {
		if entry.corrupt {
			corrupt = append(corrupt, fmt.Sprint(entry.sequence))
		} else {
			ids = append(ids, entry.id)
		}
	}
	return strings.Join(ids, " ") + "|" + strings.Join(corrupt, " ")
}

func describeRead(t *testing.T, entries []Entry, err error) string {
	t.Helper()
	var corrupt []string
	if err != nil {
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok {
			t.Fatalf("reading failed: %v", err)
		}
		for _, err := range joined.Unwrap() {
			var one *CorruptError
			if !errors.As(err, &one) {
				t.Fatalf("reading failed: %v", err)
			}
			corrupt = append(corrupt, fmt.Sprint(one.Sequence))
		}
	}
	return idsOf(entries) + "|" + strings.Join(corrupt, " ")
}

func (m *model) check(s *StreamStore) {
	m.t.Helper()
	want := m.entries()
	for range 4 {
		limit, offset := m.random.IntN(len(want)+3), m.random.IntN(len(want)+3)
		if m.random.IntN(3) == 0 {
			offset = 0
		}
		from := min(offset, len(want))
		page := describe(want[from:min(from+limit, len(want))])
		entries, total, err := s.List(m.t.Context(), limit, offset)
		if got := describeRead(m.t, entries, err); got != page || total != len(want) {
			m.t.Fatalf("List(%d, %d) is %q of %d,\nwant %q of %d\nof %+v", limit, offset, got, total, page, len(want), m.live)
		}
	}
	all, err := s.ListAll(m.t.Context())
	if got := describeRead(m.t, all, err); got != describe(want) {
		m.t.Fatalf("ListAll is %q, want %q", got, describe(want))
	}
	if len(want) > 0 {
		m.checkGet(s, want[m.random.IntN(len(want))])
	}
	m.checkQueries(s)
	m.checkExport(s)
	m.checkCursor(s) // which changes the stream
}

// checkPages reads the whole list in pages, in random order.
func (m *model) checkPages(s *StreamStore) {
	m.t.Helper()
	const size = 7
	want := m.entries()
	for _, page := range m.random.Perm(len(want)/size + 1) {
		offset := page * size
		entries, total, err := s.List(m.t.Context(), size, offset)
		expected := describe(want[offset:min(offset+size, len(want))])
		if got := describeRead(m.t, entries, err); got != expected || total != len(want) {
			m.t.Fatalf("List(%d, %d) is %q of %d, want %q of %d", size, offset, got, total, expected, len(want))
		}
	}
}

func (m *model) checkGet(s *StreamStore, want stored) {
	m.t.Helper()
	entry, err := s.Get(m.t.Context(), want.id)
	var corrupt *CorruptError
	switch {
	case want.corrupt && errors.As(err, &corrupt) && corrupt.Sequence == want.sequence:
	case !want.corrupt && err == nil && entry.ID == want.id:
	default:
		m.t.Fatalf("Get(%q) is %+v, %v, want %+v", want.id, entry, err, want)
	}
}

// TestReadingAgreesWithAModel changes a stream at random and compares what stores read, that have watched it from the start and
// that are new to it, through consumers and through single gets, with the model.
func TestReadingAgreesWithAModel(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			watcher, js, _ := open(t, func(cfg *jetstream.StreamConfig) {
				if seed%3 == 0 {
					cfg.Storage = jetstream.MemoryStorage
				}
			})
			m := newModel(t, js, seed)
			m.noSource, m.noDouble = seed%2 == 1, seed%4 >= 2
			single := openOn(t, js)
			single.limits.probe, single.limits.window = int(seed%4), 3
			for range 10 {
				m.change()
				fresh := openOn(t, js)
				fresh.limits.probe = m.random.IntN(20)
				for _, s := range []*StreamStore{watcher, single, fresh} {
					m.check(s)
				}
			}
		})
	}
}

// TestReadingAgreesWithAModelInACluster does the same where any of three replicas answers.
func TestReadingAgreesWithAModelInACluster(t *testing.T) {
	servers := natstest.RunCluster(t)
	js := servers[0].JetStream()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			cfg := streamConfig()
			cfg.Replicas, cfg.Storage = 3, jetstream.StorageType(seed%2) // file, memory
			create(t, js, cfg)
			defer func() {
				if err := js.DeleteStream(t.Context(), testStream); err != nil {
					t.Error(err)
				}
			}()
			watcher := openOn(t, js)
			m := newModel(t, js, 100+seed)
			m.noSource, m.noDouble = seed%2 == 1, seed >= 2
			for round := range 5 {
				m.change()
				fresh := openOn(t, servers[round%len(servers)].JetStream())
				fresh.limits.probe = m.random.IntN(20)
				m.check(watcher)
				m.check(fresh)
			}
		})
	}
}

// TestBucketMovedIntoAStreamInUse is the case of a real trail: native entries, a bucket's entries, native entries.
func TestBucketMovedIntoAStreamInUse(t *testing.T) {
	s, js, _ := open(t)
	m := newModel(t, js, 1)
	native := func(n int) {
		for range n {
			m.made++
			id := fmt.Sprintf("n%d", m.made)
			m.put(id, body(id, "ada"), false)
		}
	}
	migrate := func(n int) {
		for i := range n {
			m.made++
			id := fmt.Sprintf("m%d", m.made)
			m.put(id, body(id, "ada"), false, time.Now().Add(time.Duration(i-1000)*time.Second))
		}
	}
	s.limits.probe = 20
	for _, grow := range []func(){func() { migrate(30) }, func() { native(30) }, func() { migrate(30) }, func() { native(5) },
		func() { native(60) }, func() { m.remove(); m.remove() }, func() { migrate(1) }} {
		grow()
		for _, store := range []*StreamStore{s, openOn(t, js)} {
			m.checkPages(store)
			m.check(store)
		}
	}
}

// TestOldEntryAfterAnOrderedTrail moves one entry into a stream whose order by sequence was known to be right.
func TestOldEntryAfterAnOrderedTrail(t *testing.T) {
	s, js, _ := open(t)
	s.limits.probe = 0
	mustWrite(t, s, "a", "b", "c")
	if got, _ := list(t, s, 1, 2); got != "a" || s.ordered.upTo != 3 || s.ordered.kept {
		t.Fatalf("List is %q; the order is known up to %d", got, s.ordered.upTo)
	}
	publish(t, js, "old", body("old", "ada"), time.Now().Add(-time.Hour))
	for offset, want := range []string{"c", "b", "a", "old", ""} {
		if got, total := list(t, s, 1, offset); got != want || total != 4 {
			t.Errorf("List(1, %d) is %q of %d, want %q of 4", offset, got, total, want)
		}
	}
}

func TestHolesAgreeWithAModel(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	for range 2000 {
		first := 1 + random.Uint64N(20)
		h := holes{first: first, last: first - 1 + random.Uint64N(20)}
		var live []uint64
		for sequence := h.first; sequence <= h.last; sequence++ {
			if random.IntN(3) == 0 && sequence != h.first && sequence != h.last {
				h.deleted = append(h.deleted, sequence)
			} else {
				live = append(live, sequence)
			}
		}
		if h.count() != uint64(len(live)) {
			t.Fatalf("%+v counts %d, want %d", h, h.count(), len(live))
		}
		for sequence := uint64(0); sequence <= h.last+2; sequence++ {
			want := 0
			for _, one := range live {
				if one <= sequence {
					want++
				}
			}
			if h.upTo(sequence) != uint64(want) || h.has(sequence) != slices.Contains(live, sequence) {
				t.Fatalf("%+v at %d: upTo %d, has %v, want of %v", h, sequence, h.upTo(sequence), h.has(sequence), live)
			}
		}
		if got := h.between(0, h.last); !slices.Equal(got, live) {
			t.Fatalf("%+v lists %v, want %v", h, got, live)
		}
		slices.Reverse(live)
		skip, n := random.IntN(25), random.IntN(25)
		want := live[min(skip, len(live)):min(skip+n, len(live))]
		if got := h.newest(uint64(skip), uint64(n)); !slices.Equal(got, want) {
			t.Fatalf("%+v newest(%d, %d) is %v, want %v", h, skip, n, got, want)
		}
	}
}
