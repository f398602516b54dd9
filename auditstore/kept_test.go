package auditstore

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestKeptMessagesAreTheStreams changes the stream under a store that has read its newest page.
func TestKeptMessagesAreTheStreams(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, s *StreamStore, js jetstream.JetStream)
		want   []string
	}{
		"nothing": {func(*testing.T, *StreamStore, jetstream.JetStream) {}, []string{"e9", "e8", "e7"}},
		"new ones": {func(t *testing.T, _ *StreamStore, js jetstream.JetStream) {
			publish(t, js, "new", body("new", "ada"))
		}, []string{"new", "e9", "e8"}},
		"the newest is deleted": {func(t *testing.T, _ *StreamStore, js jetstream.JetStream) {
			remove(t, js, 10)
		}, []string{"e8", "e7", "e6"}},
		"another one is deleted": {func(t *testing.T, _ *StreamStore, js jetstream.JetStream) {
			remove(t, js, 9)
		}, []string{"e9", "e7", "e6"}},
		"it is made again": {func(t *testing.T, _ *StreamStore, js jetstream.JetStream) {
			info, err := js.Stream(t.Context(), testStream)
			if err != nil {
				t.Fatal(err)
			}
			if err := js.DeleteStream(t.Context(), testStream); err != nil {
				t.Fatal(err)
			}
			create(t, js, info.CachedInfo().Config)
			for _, id := range []string{"x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10"} {
				publish(t, js, id, body(id, "eve"))
			}
		}, []string{"x10", "x9", "x8"}},
		// A backup keeps the time of the stream's creation, so that this is as if the store had read what it has not.
		"a backup takes its place, and goes on in another way": {func(_ *testing.T, s *StreamStore, _ jetstream.JetStream) {
			for sequence, m := range s.kept.messages {
				other := *m
				other.stored = m.stored.Add(-time.Hour)
				other.subject = strings.Replace(m.subject, ".e", ".x", 1)
				other.data = []byte(strings.Replace(string(m.data), `"e`, `"x`, 1))
				s.kept.messages[sequence] = &other
			}
		}, []string{"e9", "e8", "e7"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, js, _ := open(t)
			fill(t, js, 10)
			if got, _ := list(t, s, 3, 0); len(s.kept.messages) < 3 {
				t.Fatalf("of the page %q %d messages are kept", got, len(s.kept.messages))
			}
			test.change(t, s, js)
			if got, _ := list(t, s, 3, 0); !slices.Equal(strings.Fields(got), test.want) {
				t.Errorf("the newest page is %q, want %q", got, test.want)
			}
		})
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	var k kept
	add := func(last uint64, sequences ...uint64) {
		messages := make([]*message, 0, len(sequences)+1)
		for _, sequence := range sequences {
			messages = append(messages, &message{sequence: sequence})
		}
		k.keep(snapshot{holes: holes{last: last}}, append(messages, nil))
	}
	add(1000, 1000, 999, 400)
	if _, old := k.messages[400]; old || len(k.messages) != 2 {
		t.Errorf("kept are %v: 400 is none of the newest", k.messages)
	}
	add(999+keptMessages, 999+keptMessages)
	if _, old := k.messages[999]; old || len(k.messages) != 2 {
		t.Errorf("kept are %v: 999 is none of the newest any more", k.messages)
	}
	k.keep(snapshot{holes: holes{last: 2000}}, []*message{{sequence: 2000, data: make([]byte, keptLargest+1)}})
	if len(k.find(time.Time{}, []uint64{2000})) != 1 || k.find(time.Time{}, []uint64{2000})[0] != nil {
		t.Error("a large one is kept")
	}
}
