package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// The ways to copy.
const (
	wayOperator = "operator"
	waySource   = "source"
	wayNaive    = "naive"
)

// result is a copy that was made once or several times.
type result struct {
	way      string
	replicas int
	entries  int
	samples  []sample
}

func median[T int64 | float64 | time.Duration](samples []sample, of func(sample) T) T {
	values := make([]T, 0, len(samples))
	for _, s := range samples {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func (r *result) copying() time.Duration {
	return median(r.samples, func(s sample) time.Duration { return s.copying })
}

func (r *result) whole() time.Duration {
	return median(r.samples, func(s sample) time.Duration { return s.whole })
}

func (r *result) memory() float64 {
	return median(r.samples, func(s sample) float64 { return s.memory })
}

// perEntry is a processor time for each entry, in microseconds.
func (r *result) perEntry(of func(sample) time.Duration) float64 {
	return float64(median(r.samples, of).Nanoseconds()) / 1000 / float64(r.entries)
}

// writesPerSecond is over all that the operator does until Migrated is True.
func (r *result) writesPerSecond() float64 {
	return median(r.samples, func(s sample) float64 { return s.writes.Sum() / s.whole.Seconds() })
}

func rate(entries int, took time.Duration) float64 { return float64(entries) / took.Seconds() }

func printTable(w io.Writer, results []result) {
	fmt.Fprintln(w, "\nCopy: from the first to the last entry stored. To the end: from the request; with the operator until every entry was")
	fmt.Fprintln(w, "read back and compared. Memory: the operator's peak above idle. Writes: the operator's to the API server, by the second.")
	fmt.Fprintln(w, "Servers, operator: the processor time of all nats-servers, and of the operator, to the end, in microseconds an entry.")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "replicas\tentries\tway\tcopy s\tcopy/s\tto the end s\tto the end/s\tservers\toperator\tmemory MB\twrites/s\t")
	for _, r := range results {
		fmt.Fprintf(t, "%d\t%d\t%s\t%.1f\t%.0f\t%.1f\t%.0f\t%.1f\t", r.replicas, r.entries, r.way,
			r.copying().Seconds(), rate(r.entries, r.copying()), r.whole().Seconds(), rate(r.entries, r.whole()),
			r.perEntry(func(s sample) time.Duration { return s.servers }))
		if r.way == wayOperator {
			fmt.Fprintf(t, "%.1f\t%.0f\t%.2f\t\n", r.perEntry(func(s sample) time.Duration { return s.operator }), r.memory(), r.writesPerSecond())
		} else {
			fmt.Fprint(t, "\t\t\t\n")
		}
	}
	_ = t.Flush()
}

// summarise compares the ways by the largest number of entries that both copied, and takes the cost from the operator's
// largest copy without replicas.
func summarise(results []result) figures {
	largest := largestOf(results, wayOperator, 1, 0)
	if largest == nil {
		return figures{}
	}
	return figures{
		R1VsSource:         ratio(results, waySource, 1),
		R3VsSource:         ratio(results, waySource, 3),
		R1VsNaive:          ratio(results, wayNaive, 1),
		MemoryMBAboveIdle:  round(largest.memory()),
		APIWritesPerSecond: round(largest.writesPerSecond()),
	}
}

// ratio is the operator's rate divided by the other way's.
func ratio(results []result, way string, replicas int) float64 {
	other := largestOf(results, way, replicas, 0)
	if other == nil {
		return 0
	}
	ours := largestOf(results, wayOperator, replicas, other.entries)
	return round(rate(ours.entries, ours.copying()) / rate(other.entries, other.copying()))
}

// largestOf finds the result with the most entries, or with exactly so many when entries is not 0.
func largestOf(results []result, way string, replicas, entries int) *result {
	var found *result
	for i, r := range results {
		if r.way != way || r.replicas != replicas || entries != 0 && r.entries != entries {
			continue
		}
		if found == nil || r.entries > found.entries {
			found = &results[i]
		}
	}
	return found
}

func round(x float64) float64 { return float64(int64(x*100+0.5)) / 100 }
