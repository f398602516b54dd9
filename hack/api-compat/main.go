// Command api-compat compares what users build on with the previous release, and fails on what breaks them: the CRD's schema,
// by crdify, and the Go packages that others import, by apidiff. A break that is meant stands in hack/api-compat/allowed, with
// its reason.
//
//	api-compat --apidiff=bin/apidiff --crdify=bin/crdify <tree of the previous release>
//
// It runs in the root of this tree.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
)

const (
	directory   = "hack/api-compat"
	allowedFile = directory + "/allowed"
)

type tools struct{ apidiff, crdify, old string }

// finding is an incompatible change.
type finding struct {
	// id names it in the list of those that are allowed.
	id string
	// text says more, where there is more to say.
	text string
}

func main() {
	var t tools
	flag.StringVar(&t.apidiff, "apidiff", "bin/apidiff", "golang.org/x/exp/cmd/apidiff")
	flag.StringVar(&t.crdify, "crdify", "bin/crdify", "sigs.k8s.io/crdify")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, t, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, t tools, args []string) (err error) {
	if len(args) != 1 {
		return errors.New("give the directory with the tree of the previous release")
	}
	for _, path := range []*string{&t.apidiff, &t.crdify, &args[0]} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	t.old = args[0]
	content, err := os.ReadFile(allowedFile)
	if err != nil {
		return err
	}
	allowed, err := parseAllowed(string(content))
	if err != nil {
		return err
	}
	crds, err := t.crds(ctx)
	if err != nil {
		return err
	}
	packages, err := t.packages(ctx)
	if err != nil {
		return err
	}
	return judge(slices.Concat(crds, packages), allowed)
}
