package main

import (
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"
)

func parsed(t *testing.T, args ...string) *options {
	t.Helper()
	opts := &options{}
	flags := flag.NewFlagSet("manager", flag.ContinueOnError)
	opts.register(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return opts
}

func TestOnlyTheGivenNamespacesAreWatched(t *testing.T) {
	for value, want := range map[string][]string{
		"":                   nil,
		"payments":           {"payments"},
		"payments, ledger":   {"ledger", "payments"},
		"payments,payments ": {"payments"},
	} {
		opts := parsed(t, "--namespaces="+value)
		if err := opts.validate(); err != nil {
			t.Errorf("--namespaces=%q: %v", value, err)
		}
		watched := slices.Sorted(maps.Keys(opts.cacheOptions().DefaultNamespaces))
		if !slices.Equal(watched, want) {
			t.Errorf("--namespaces=%q watches %q, want %q", value, watched, want)
		}
	}
}

func TestWhatIsNoNamespaceIsRefused(t *testing.T) {
	for _, value := range []string{"Payments", "payments,", "a/b", "*"} {
		err := parsed(t, "--namespaces="+value).validate()
		if err == nil || !strings.Contains(err.Error(), "--namespaces") {
			t.Errorf("--namespaces=%q: %v", value, err)
		}
	}
}
