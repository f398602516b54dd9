package migrate

import (
	"testing"
	"time"
)

func TestSupersedes(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(began time.Time, last uint64, complete bool) Checkpoint {
		c := Checkpoint{StartTime: began, LastSequence: last}
		if complete {
			c.CompletionTime = began.Add(time.Minute)
		}
		return c
	}
	for name, test := range map[string]struct {
		c, stored Checkpoint
		want      bool
	}{
		"the first":                        {at(began, 5, false), Checkpoint{}, true},
		"further":                          {at(began, 6, false), at(began, 5, false), true},
		"the same":                         {at(began, 5, true), at(began, 5, true), true},
		"complete now":                     {at(began, 5, true), at(began, 5, false), true},
		"back":                             {at(began, 4, false), at(began, 5, false), false},
		"no longer complete":               {at(began, 6, false), at(began, 5, true), false},
		"of a copy that began earlier":     {at(began, 6, true), at(began.Add(1), 5, false), false},
		"of one that began anew":           {at(began.Add(1), 1, false), at(began, 5, true), true},
		"without a start over one with it": {Checkpoint{LastSequence: 9}, at(began, 5, false), false},
	} {
		if got := test.c.Supersedes(&test.stored); got != test.want {
			t.Errorf("A checkpoint %s supersedes: %t, want %t", name, got, test.want)
		}
	}
}

// An operator whose clock is behind that of the one before it begins to copy a bucket that was made again.
func TestACopyThatBeginsAnewSupersedesWhateverTheClock(t *testing.T) {
	f := newFixture(t)
	f.fill(0, 3)
	stored := Checkpoint{Created: time.Unix(1000, 0), StartTime: time.Now().Add(time.Hour), LastSequence: 9, CompletionTime: time.Now()}
	if reached := f.mustRun(stored); !reached.Supersedes(&stored) {
		t.Errorf("the checkpoint %+v does not supersede the one before it", reached)
	}
}
