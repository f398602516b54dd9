package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// allCases are the parts that -cases can name.
var allCases = []string{"pages", "get", "export", "write", "buffered", "allocs"}

type options struct {
	sizes    []int
	storages []string
	replicas []int
	cases    []string
	seed     uint64
	rounds   int           // of a page, a get and a write
	budget   time.Duration // after which a slow way takes no more turns
	maxR3    int           // how many entries a replicated stream gets at most
}

func main() {
	opts, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err == nil {
		err = run(ctx, opts)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-store:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench-store", flag.ContinueOnError)
	entries := flags.String("entries", "100000,1000000", "how many entries the streams hold")
	storages := flags.String("storage", "file,memory", "the storage of the streams without replicas")
	replicas := flags.String("replicas", "1,3", "how many replicas the streams have; those with several are on file storage")
	cases := flags.String("cases", strings.Join(allCases, ","), "what is measured")
	flags.IntVar(&o.maxR3, "max-replicated", 100_000, "how many entries a stream with replicas gets at most")
	flags.IntVar(&o.rounds, "rounds", 1000, "how many turns each way has")
	flags.DurationVar(&o.budget, "budget", 5*time.Second, "how long a way takes turns in one case at most")
	quick := flags.Bool("quick", false, "a try: 20,000 entries, 100 rounds")
	flags.Uint64Var(&o.seed, "seed", rand.Uint64(), "decides the entries, the holes and the order of the turns; drawn anew for each run")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if *quick {
		*entries, o.rounds, o.budget = "20000", 100, time.Second
	}
	o.storages, o.cases = strings.Split(*storages, ","), strings.Split(*cases, ",")
	var err error
	if o.sizes, err = numbers("entries", *entries, 1000); err != nil {
		return o, err
	}
	if o.replicas, err = numbers("replicas", *replicas, 1); err != nil {
		return o, err
	}
	return o, o.check()
}

func (o options) check() error {
	for _, name := range o.cases {
		if !slices.Contains(allCases, name) {
			return fmt.Errorf("-cases has %q: give some of %s", name, strings.Join(allCases, ", "))
		}
	}
	for _, name := range o.storages {
		if name != "file" && name != "memory" {
			return fmt.Errorf("-storage has %q: give file, memory or both", name)
		}
	}
	if o.rounds < 5 {
		return fmt.Errorf("-rounds is %d: give 5 or more", o.rounds)
	}
	return nil
}

func numbers(name, list string, least int) ([]int, error) {
	var all []int
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < least {
			return nil, fmt.Errorf("-%s has %q: give numbers from %d on, separated by commas", name, text, least)
		}
		all = append(all, n)
	}
	return all, nil
}

// has says whether the case is to be measured.
func (o options) has(name string) bool { return slices.Contains(o.cases, name) }

func run(ctx context.Context, o options) error {
	fmt.Printf("SEED=%d\n", o.seed)
	r := newReport(slices.Max(o.sizes))
	for _, replicas := range o.replicas {
		if err := withServers(ctx, o, replicas, r); err != nil {
			return fmt.Errorf("with %d replicas: %w", replicas, err)
		}
	}
	r.printGoals(os.Stdout)
	line, err := json.Marshal(r.figures())
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	return nil
}
