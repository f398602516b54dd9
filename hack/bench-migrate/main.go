// Command bench-migrate measures how a legacy bucket gets into an audit stream: through the operator as a user meets it,
// beside what a hand-written script does and beside a server-side source, which is the ceiling for a copy. It prints a
// table, and ends with one JSON object. What it asserts is that every entry was copied, never how fast.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

type options struct {
	sizes  []int
	naive  int
	runs   int
	maxAge string
}

// figures are the last line of the output.
type figures struct {
	R1VsSource         float64 `json:"r1_vs_source"`
	R3VsSource         float64 `json:"r3_vs_source"`
	R1VsNaive          float64 `json:"r1_vs_naive"`
	MemoryMBAboveIdle  float64 `json:"memory_mb_above_idle"`
	APIWritesPerSecond float64 `json:"api_writes_per_second"`
}

func main() {
	var opts options
	entries := flag.String("entries", "100000,1000000", "how many entries the buckets hold; the largest decides the figures at the end")
	flag.IntVar(&opts.naive, "naive", 100_000, "how many entries are copied one by one at most, which takes long")
	flag.IntVar(&opts.runs, "runs", 1, "how often each copy is made; the figures are the medians")
	flag.StringVar(&opts.maxAge, "max-age", "30d", "spec.maxAge of the AuditStream; empty keeps entries for ever, which costs the server less")
	flag.Parse()
	ctrllog.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := opts.parse(*entries)
	if err == nil {
		err = run(ctx, opts)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-migrate:", err)
		os.Exit(1)
	}
}

func (o *options) parse(entries string) error {
	for text := range strings.SplitSeq(entries, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 2 {
			return fmt.Errorf("-entries has %q: give numbers from 2 on, separated by commas", text)
		}
		o.sizes = append(o.sizes, n)
	}
	if o.runs < 1 || o.naive < 2 {
		return fmt.Errorf("-runs is %d and -naive %d: give at least 1 and 2", o.runs, o.naive)
	}
	return nil
}

func run(ctx context.Context, opts options) error {
	var results []result
	for _, replicas := range []int{1, 3} {
		some, err := measure(ctx, opts, replicas)
		if err != nil {
			return fmt.Errorf("with %d replicas: %w", replicas, err)
		}
		results = append(results, some...)
	}
	printTable(os.Stdout, results)
	line, err := json.Marshal(summarise(results))
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	return nil
}
