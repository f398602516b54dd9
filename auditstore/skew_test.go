package auditstore

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// skewed is a store on a stream of 30 entries, of which the one at the sequence was stamped by a leader whose clock was ahead.
func skewed(t *testing.T, sequence string, ahead time.Duration) *StreamStore {
	t.Helper()
	_, js, srv := open(t)
	fill(t, js, 30)
	g := newGateway(t, srv)
	nc := srv.Connect()
	g.set(func(operation string, msg *nats.Msg) bool {
		if !strings.HasPrefix(operation, "DIRECT.GET.") {
			return false
		}
		answer, err := nc.Request(jetstream.DefaultAPIPrefix+operation, msg.Data, time.Second)
		if err != nil {
			return true // it is lost
		}
		if answer.Header.Get(jetstream.SequenceHeader) == sequence {
			at, _ := time.Parse(time.RFC3339Nano, answer.Header.Get(jetstream.TimeStampHeaer))
			answer.Header.Set(jetstream.TimeStampHeaer, at.Add(ahead).Format(time.RFC3339Nano))
		}
		_ = msg.RespondMsg(&nats.Msg{Header: answer.Header, Data: answer.Data})
		return true
	})
	return openOn(t, g.js)
}

// TestSkewAtTheBorderOfAPage: the message right below a page was stamped with a later time than those of the page.
func TestSkewAtTheBorderOfAPage(t *testing.T) {
	s := skewed(t, "20", 5*time.Second)
	var want []string
	for i := 29; i >= 0; i-- {
		want = append(want, fmt.Sprintf("e%d", i))
	}
	want = slices.Concat([]string{"e19"}, want[:10], want[11:])
	var got []string
	for entry, err := range pagesOf(t, s, 10) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, entry.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages of 10 show %s,\nwant %s", got, want)
	}
	for offset := range 3 { // what is known now holds for pages above, too
		if page, _ := list(t, s, 5, offset); page != strings.Join(want[offset:offset+5], " ") {
			t.Errorf("List(5, %d) is %q, want %q", offset, page, want[offset:offset+5])
		}
	}
}

// TestSkewAboveWhatIsKnown: what was written since is compared with the last that was known, also for a page that holds neither.
func TestSkewAboveWhatIsKnown(t *testing.T) {
	s := skewed(t, "30", time.Hour)
	list(t, s, 5, 0)
	mustWrite(t, s, "after")
	if page, _ := list(t, s, 3, 2); page != "e28 e27 e26" {
		t.Errorf("List(3, 2) is %q", page)
	}
	if s.native.moved != 31 {
		t.Errorf("what was learned is %+v, want that the message 31 is older than the one before", s.native)
	}
	if page, _ := list(t, s, 2, 0); page != "e29 after" {
		t.Errorf("List(2, 0) is %q, want the one of the clock that was ahead first", page)
	}
}
