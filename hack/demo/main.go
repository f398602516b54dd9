package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

type options struct {
	once    bool
	entries int
	keepDir bool
}

func main() {
	opts, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitUsage)
	}
	// What the control plane writes is in its own logs.
	ctrllog.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	os.Exit(run(opts))
}

func parse(args []string) (options, error) {
	var opts options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.BoolVar(&opts.once, "once", false, "end after having shown everything, with exit status 0 only if all of it came true")
	flags.IntVar(&opts.entries, "entries", 10_000, "how many entries the legacy bucket holds")
	flags.BoolVar(&opts.keepDir, "keep-dir", false, "keep the directory with the logs at the end")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	switch {
	case flags.NArg() > 0:
		return opts, fmt.Errorf("unexpected argument %q: the demo takes flags only, see --help", flags.Arg(0))
	case opts.entries < 1:
		return opts, fmt.Errorf("--entries is %d: give a number above 0", opts.entries)
	}
	return opts, nil
}

// run keeps catching signals until the clean-up is through, so that a second Ctrl-C does not cut it short.
func run(opts options) int {
	ctx, restore := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer restore()
	d := newDemo(opts, os.Stdout)
	showErr := d.show(ctx)
	interrupted := ctx.Err() != nil
	if showErr != nil && !interrupted {
		fmt.Fprintf(os.Stderr, "\nThe demo failed: %v\n%s", showErr, d.explain())
	}
	d.say("Stopping everything")
	if err := d.cleanUp(); err != nil {
		fmt.Fprintf(os.Stderr, "Cleaning up: %v\n", err)
		return exitFailed
	}
	switch {
	case showErr == nil:
		d.say("Done; nothing is left behind%s", d.kept())
		return 0
	case interrupted:
		d.say("Interrupted; nothing is left behind%s", d.kept())
		return exitInterrupted
	default:
		return exitFailed
	}
}
