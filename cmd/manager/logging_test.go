package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	stdlog "log"
	"os"
	"testing"

	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// logged is what is written, after the flags, by all that logs in the process: one line of JSON for each.
func logged(t *testing.T, flags ...string) (lines []map[string]any) {
	t.Helper()
	opts := logOptions()
	fs := flag.NewFlagSet("manager", flag.ContinueOnError)
	opts.BindFlags(fs)
	if err := fs.Parse(flags); err != nil {
		t.Fatal(err)
	}
	out := &bytes.Buffer{}
	opts.DestWriter = out
	setLogger(&opts)
	t.Cleanup(func() {
		klog.ClearLogger()
		stdlog.SetOutput(os.Stderr)
		stdlog.SetFlags(stdlog.LstdFlags)
	})
	zap.New(zap.UseFlagOptions(&opts)).WithName("setup").Error(errors.New("no"), "Stopped the operator")
	klog.InfoS("Waiting for the lease", "lease", "x")
	klog.Warning("of client-go")
	stdlog.Print("http: TLS handshake error")
	for line := range bytes.Lines(out.Bytes()) {
		values := map[string]any{}
		if err := json.Unmarshal(line, &values); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		lines = append(lines, values)
	}
	return lines
}

func TestEverythingIsLoggedAsJSONWithoutStackTraces(t *testing.T) {
	lines := logged(t)
	if len(lines) != 4 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	for i, logger := range []string{"setup", "client-go", "client-go", "go"} {
		if line := lines[i]; line["logger"] != logger || line["msg"] == "" || line["stacktrace"] != nil {
			t.Errorf("line %d is %v", i, line)
		}
	}
	if got := lines[3]["text"]; got != "http: TLS handshake error" {
		t.Errorf("the line of the standard logger has the text %q", got)
	}
	if ctrl.Log.GetSink() == nil {
		t.Error("controller-runtime has no logger")
	}
}

func TestStackTracesCanBeAskedFor(t *testing.T) {
	if line := logged(t, "--zap-stacktrace-level=error")[0]; line["stacktrace"] == nil {
		t.Errorf("the line is %v", line)
	}
}
