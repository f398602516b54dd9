package chaos

import (
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// What all specs rely on notices each fault there can be.
func TestDifference(t *testing.T) {
	live := []entry{
		{key: "a", value: []byte("1"), sequence: 3, stored: time.Unix(3, 0)},
		{key: "b", value: []byte("2"), sequence: 5, stored: time.Unix(5, 0)},
		{key: "c", value: []byte("3"), sequence: 6, stored: time.Unix(6, 0)},
	}
	changed := func(change func(*entry)) []entry {
		copied := slices.Clone(live)
		change(&copied[1])
		return copied
	}
	for fault, test := range map[string]struct {
		copied []entry
		says   string
	}{
		"lost":        {live[:2], "entry c of sequence 6 is missing"},
		"doubled":     {append(slices.Clone(live), live[2]), "message 4: entry c is there for the second time"},
		"foreign":     {append(slices.Clone(live), entry{key: "d"}), "entry d is no live entry"},
		"other bytes": {changed(func(e *entry) { e.value = []byte("4") }), "entry b has other bytes"},
		"sequence":    {changed(func(e *entry) { e.sequence = 4 }), "entry b is said to be sequence 4"},
		"time":        {changed(func(e *entry) { e.stored = time.Unix(4, 0) }), "entry b is said to be sequence 5 of"},
		"order":       {[]entry{live[0], live[2], live[1]}, "message 3: entry b of sequence 5 follows c of sequence 6"},
	} {
		t.Run(fault, func(t *testing.T) {
			NewWithT(t).Expect(difference(live, test.copied)).To(MatchError(ContainSubstring(test.says)))
		})
	}
	t.Run("none", func(t *testing.T) {
		NewWithT(t).Expect(difference(live, slices.Clone(live))).To(Succeed())
	})
}
