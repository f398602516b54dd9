package migrate

import (
	"strings"
	"testing"
)

// TestComparingLargeEntriesTakesLittleMemory has entries of nearly 1 MB compared, which a window of a thousand must not hold.
func TestComparingLargeEntriesTakesLittleMemory(t *testing.T) {
	f := newFixture(t)
	const n = 120
	large := strings.Repeat("x", 900_000)
	for i := range n {
		f.put(key(i), []byte(`{"id":"`+key(i)+`","user":"`+large+`"}`))
	}
	first := f.mustRun(Checkpoint{})

	c, err := (&Job{JetStream: f.js, Bucket: "audit-log", Stream: "AUDIT", Subject: "audit", Resume: first}).open(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close(f.ctx)
	largest, entries := 0, 0
	err = c.eachLive(f.ctx, 0, first.LastSequence, func(batch []*item) error {
		size := 0
		for _, it := range batch {
			size += len(it.value)
		}
		largest, entries = max(largest, size), entries+len(batch)
		return nil
	})
	if err != nil || entries != n {
		t.Fatalf("compared %d entries: %v", entries, err)
	}
	if largest > windowBytes+len(large)+100 {
		t.Errorf("%d MB of entries were held at once", largest>>20)
	}
}

func TestFewLargeMessagesAreFetchedAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		sizes []int
		want  int
	}{
		"small":     {[]int{400, 400}, comparisons},
		"none":      {nil, comparisons},
		"one large": {[]int{400, 1 << 20, 400}, windowBytes >> 20},
		"huge":      {[]int{64 << 20}, 1},
	} {
		var items []*item
		for _, size := range test.sizes {
			items = append(items, &item{revision: &revision{value: make([]byte, size)}, fate: fateCompare})
		}
		if got := atOnce(items); got != test.want {
			t.Errorf("of %s messages %d are fetched at once, want %d", name, got, test.want)
		}
	}
}
