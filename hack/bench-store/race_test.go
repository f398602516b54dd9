package main

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"
)

// drawn is what the seed decides of a run: the turns of three ways, and the ids that are read.
func drawn(t *testing.T, seed uint64) (all []string) {
	t.Helper()
	b := &bench{options: options{seed: seed}, trail: newTrail(seed, 100, 1, "file")}
	var ways []*way
	for _, name := range []string{"a", "b", "c"} {
		ways = append(ways, &way{name: name, do: func(context.Context) error { all = append(all, name); return nil }})
	}
	if err := b.race(t.Context(), 20, time.Minute, ways...); err != nil {
		t.Fatal(err)
	}
	mine, others := b.turns(), b.turns()
	for range 20 {
		id := mine()
		if id != others() {
			t.Error("two ways do not read the same entries")
		}
		all = append(all, strconv.Itoa(slices.Index(b.trail.ids, id)))
	}
	return all
}

func TestTheSeedDecidesTheOrder(t *testing.T) {
	if one, again := drawn(t, 1), drawn(t, 1); !slices.Equal(one, again) {
		t.Errorf("one seed gave %v, and then %v", one, again)
	}
	if one, two := drawn(t, 1), drawn(t, 2); slices.Equal(one, two) {
		t.Errorf("two seeds gave %v", one)
	}
}
