package auditstore

import (
	"testing"
	"time"
)

func TestLearnJoinsOnlyWhatOverlaps(t *testing.T) {
	now := time.Now()
	tests := map[string]struct{ known, seen, want span }{
		"first":         {span{}, span{created: now, low: 5, high: 9}, span{created: now, low: 5, high: 9}},
		"overlapping":   {span{created: now, low: 5, high: 9}, span{created: now, low: 3, high: 12}, span{created: now, low: 3, high: 12}},
		"sharing one":   {span{created: now, low: 5, high: 9}, span{created: now, low: 9, high: 12}, span{created: now, low: 5, high: 12}},
		"touching":      {span{created: now, low: 5, high: 9}, span{created: now, low: 10, high: 12}, span{created: now, low: 10, high: 12}},
		"later":         {span{created: now, low: 5, high: 9, latest: 8}, span{created: now, low: 9, high: 12, latest: 11}, span{created: now, low: 5, high: 12, latest: 11}},
		"reach":         {span{created: now, low: 5, high: 9, reach: 7}, span{created: now, moved: 3, reach: 6}, span{created: now, low: 5, high: 9, moved: 3, reach: 7}},
		"gap":           {span{created: now, low: 5, high: 9}, span{created: now, low: 11, high: 12}, span{created: now, low: 11, high: 12}},
		"older":         {span{created: now, low: 5, high: 9}, span{created: now, low: 1, high: 3}, span{created: now, low: 5, high: 9}},
		"within":        {span{created: now, low: 5, high: 9}, span{created: now, low: 6, high: 8}, span{created: now, low: 5, high: 9}},
		"moved":         {span{created: now, low: 5, high: 9}, span{created: now, moved: 3}, span{created: now, low: 5, high: 9, moved: 3}},
		"moved, lower":  {span{created: now, low: 5, high: 9, moved: 4}, span{created: now, moved: 3}, span{created: now, low: 5, high: 9, moved: 4}},
		"another store": {span{created: now, low: 5, high: 9, moved: 4}, span{created: now.Add(1), low: 1, high: 2}, span{created: now.Add(1), low: 1, high: 2}},
	}
	for name, test := range tests {
		s := &StreamStore{native: test.known}
		s.learn(test.seen)
		if s.native != test.want {
			t.Errorf("%s: %+v and %+v gave %+v, want %+v", name, test.known, test.seen, s.native, test.want)
		}
	}
}

func TestDisorderIsMovedAndSkewedMessages(t *testing.T) {
	at := func(sequence uint64, seconds int64) *message {
		return &message{sequence: sequence, stored: time.Unix(seconds, 0)}
	}
	tests := map[string]struct {
		messages []*message
		moved    uint64
		reach    int64 // in seconds
	}{
		"none":   {nil, 0, 0},
		"rising": {[]*message{at(1, 1), at(3, 3), at(4, 3)}, 0, 0},
		"skewed": {[]*message{at(1, 1), at(2, 3), at(3, 2), at(4, 4)}, 3, 3},
		"moved": {[]*message{at(1, 1), {sequence: 2, stored: time.Unix(2, 0),
			header: map[string][]string{HeaderSourceTime: {"1970-01-01T00:00:01.5Z"}}}, at(3, 2)}, 2, 0},
		"unreadable source time": {[]*message{{sequence: 2, stored: time.Unix(2, 0),
			header: map[string][]string{HeaderSourceTime: {"yesterday"}}}}, 0, 0},
	}
	for name, test := range tests {
		want := span{moved: test.moved, reach: test.reach * int64(time.Second)}
		if got := disorder(test.messages); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestTimeOfAnEntry(t *testing.T) {
	stored := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for source, want := range map[string]int64{
		"":                               stored.UnixNano(),
		"yesterday":                      stored.UnixNano(),
		"2026-01-02T03:04:05.000000005Z": stored.UnixNano() - 1,
		"2027-01-02T03:04:05Z":           stored.UnixNano(), // recorded after it was stored cannot be
		"9999-01-02T03:04:05Z":           stored.UnixNano(),
		"0001-01-01T00:00:00Z":           -1 << 63,
	} {
		m := &message{stored: stored, header: map[string][]string{HeaderSourceTime: {source}}}
		if got, _ := m.at(); got != want {
			t.Errorf("source time %q: got %d, want %d", source, got, want)
		}
	}
}
