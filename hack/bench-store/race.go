package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// way is one of several ways to do the same.
type way struct {
	name string
	do   func(context.Context) error
	// after, where it is set, checks and cleans up: it takes no part of the time.
	after func(context.Context) error
	// slow ways have a few turns only.
	slow bool

	first time.Duration // of the turn that nobody counts
	took  []time.Duration
	sum   time.Duration
}

// race gives each way its turns, one after the other and in an order that the seed decides anew for each round, so that whatever else
// the machine does, and what one way leaves to be done, meets all of them. A way whose turns have taken longer than the budget has
// no more of them.
func (b *bench) race(ctx context.Context, rounds int, budget time.Duration, ways ...*way) error {
	return b.raceAmid(ctx, nothing, rounds, budget, ways...)
}

func nothing(context.Context) error { return nil }

// raceAmid is race with something that is done between the rounds, and takes no part of anybody's time.
func (b *bench) raceAmid(ctx context.Context, between func(context.Context) error, rounds int, budget time.Duration, ways ...*way) error {
	order := b.seeded(0)
	for round := range rounds + 1 { // the first turn is to warm up
		left := 0
		for _, i := range order.Perm(len(ways)) {
			w := ways[i]
			if w.sum > budget && len(w.took) >= 5 || w.slow && len(w.took) >= 5 {
				continue
			}
			left++
			if err := w.turn(ctx); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
		if left == 0 {
			return nil
		}
		if err := between(ctx); err != nil {
			return err
		}
		if round == 0 {
			runtime.GC()
		}
	}
	return nil
}

func (w *way) turn(ctx context.Context) error {
	began := time.Now()
	err := w.do(ctx)
	took := time.Since(began)
	if err == nil && w.after != nil {
		err = w.after(ctx)
	}
	if w.first == 0 {
		w.first = took
		return err
	}
	w.took, w.sum = append(w.took, took), w.sum+took
	return err
}

// quantile is the duration that so many of 100 turns did not exceed.
func (w *way) quantile(percent int) time.Duration {
	if len(w.took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(w.took))
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

// against is the ratio of the medians. It compares the turns that both had at about the same time.
func (w *way) against(other *way) float64 {
	n := min(len(w.took), len(other.took))
	mine, others := &way{took: w.took[:n]}, &way{took: other.took[:n]}
	return float64(mine.quantile(50)) / float64(others.quantile(50))
}
