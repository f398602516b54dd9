package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

type options struct {
	runs    int
	drifts  int
	idle    time.Duration
	objects int
}

// figures are the last line of the output.
type figures struct {
	ReadyMS             float64 `json:"ready_ms"`
	Ready10kMS          float64 `json:"ready_10k_ms"`
	DriftP50MS          float64 `json:"drift_p50_ms"`
	DriftP95MS          float64 `json:"drift_p95_ms"`
	APIWritesToReady    float64 `json:"api_writes_to_ready"`
	NATSRequestsToReady float64 `json:"nats_requests_to_ready"`
	IdleAPIWrites       float64 `json:"idle_api_writes"`
	IdleNATSRequests    float64 `json:"idle_nats_requests"`
	RSSMB100            float64 `json:"rss_mb_100"`
}

func main() {
	var opts options
	flag.IntVar(&opts.runs, "runs", 5, "how many resources each latency is the median of")
	flag.IntVar(&opts.drifts, "drifts", 100, "how many changes out of band are healed")
	flag.DurationVar(&opts.idle, "idle", 10*time.Minute, "how long the idle operator is watched")
	flag.IntVar(&opts.objects, "objects", 100, "how many resources the idle operator looks after")
	flag.Parse()
	ctrllog.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, opts); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, opts options) (err error) {
	b, err := start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Stop()) }()

	var f figures
	for _, measure := range []func(context.Context, options, *figures) error{b.ready, b.ready10k, b.drift, b.idle} {
		if err := measure(ctx, opts, &f); err != nil {
			return err
		}
	}
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	return nil
}
