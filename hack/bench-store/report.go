package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// figure is the worst of what was measured, and where that was.
type figure struct {
	value float64
	where string
}

// report prints what was measured, and keeps the worst of it.
type report struct {
	out     io.Writer
	largest int
	found   map[string]figure
}

func newReport(largest int) *report {
	return &report{out: os.Stdout, largest: largest, found: map[string]figure{}}
}

func (o options) smallest() int { return slices.Min(o.sizes) }

func (r *report) worst(name string, value float64, where string) {
	if known, is := r.found[name]; !is || value > known.value {
		r.found[name] = figure{value, where}
	}
}

// least is for what should be large.
func (r *report) least(name string, value float64, where string) {
	if known, is := r.found[name]; !is || value < known.value {
		r.found[name] = figure{value, where}
	}
}

// table prints the times of ways; ratios are the first one's.
func (r *report) table(what string, ways ...*way) {
	fmt.Fprintf(r.out, "  %s\n", what)
	t := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "    way\tp50 ms\tp99 ms\tfirst ms\tturns\tp50 of "+ways[0].name+" to it\t")
	for _, w := range ways {
		fmt.Fprintf(t, "    %s\t%s\t%s\t%s\t%d\t%.2f\t\n", w.name, ms(w.quantile(50)), ms(w.quantile(99)), ms(w.first), len(w.took),
			ways[0].against(w))
	}
	_ = t.Flush()
}

// rates prints how many entries a second ways make.
func (r *report) rates(what string, entries int, ways ...*way) {
	fmt.Fprintf(r.out, "  %s\n", what)
	t := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "    way\tp50 s\tentries/s\tturns\tp50 of "+ways[0].name+" to it\t")
	for _, w := range ways {
		p50 := w.quantile(50)
		fmt.Fprintf(t, "    %s\t%.2f\t%.0f\t%d\t%.2f\t\n", w.name, p50.Seconds(), float64(entries)/p50.Seconds(), len(w.took),
			ways[0].against(w))
	}
	_ = t.Flush()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.3f", float64(d.Microseconds())/1000) }

// goals are those of the issue. The last two have no place in the JSON object.
var goals = []struct {
	name string
	goal float64
	more bool // whether more is better
	what string
}{
	{"newest_vs_best", 1.1, false, "newest page of 100, no holes, to the best other way"},
	{"middle_vs_best", 1.1, false, "middle page of 100, no holes, to the best other way"},
	{"newest_holes_vs_consumer", 1. / 3, false, "newest page with holes, most entries, to a consumer"},
	{"middle_holes_vs_consumer", 1. / 3, false, "middle page with holes, most entries, to a consumer"},
	{"get_vs_direct", 1.1, false, "Get to a bare direct get"},
	{"export_vs_consumer", 1.1, false, "Export to a bare ordered consumer"},
	{"write_vs_publish", 1.15, false, "Write to a bare publish"},
	{"buffered_per_second", 100_000, true, "entries a second without waiting"},
	{"p50_ms", 2, false, "p50 of a page, ms"},
	{"allocs_vs_json", 1, false, "allocations per entry of a page to json.Unmarshal"},
}

// printGoals says for each goal what the worst case was.
func (r *report) printGoals(w io.Writer) {
	fmt.Fprintln(w, "\nThe worst of each, ours to theirs: less is better, but for entries a second")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, g := range goals {
		f, measured := r.found[g.name]
		if !measured {
			fmt.Fprintf(t, "  not measured\t%s\t\tgoal %.3g\t\n", g.what, g.goal)
			continue
		}
		verdict := "met"
		if f.value > g.goal != g.more {
			verdict = "missed"
		}
		fmt.Fprintf(t, "  %s\t%s\t%.5g\tgoal %.3g\t%s\n", verdict, g.what, f.value, g.goal, f.where)
	}
	_ = t.Flush()
}

// figures are the last line of the output. What was not measured is null.
func (r *report) figures() any {
	of := func(name string) *float64 {
		f, measured := r.found[name]
		if !measured {
			return nil
		}
		value := math.Round(f.value*1000) / 1000
		if f.value > 1000 {
			value = math.Round(f.value)
		}
		return &value
	}
	return struct {
		Newest      *float64 `json:"newest_vs_best"`
		Middle      *float64 `json:"middle_vs_best"`
		NewestHoles *float64 `json:"newest_holes_vs_consumer"`
		MiddleHoles *float64 `json:"middle_holes_vs_consumer"`
		Get         *float64 `json:"get_vs_direct"`
		Export      *float64 `json:"export_vs_consumer"`
		Write       *float64 `json:"write_vs_publish"`
		Buffered    *float64 `json:"buffered_per_second"`
	}{
		of("newest_vs_best"), of("middle_vs_best"), of("newest_holes_vs_consumer"), of("middle_holes_vs_consumer"),
		of("get_vs_direct"), of("export_vs_consumer"), of("write_vs_publish"), of("buffered_per_second"),
	}
}
