package rig

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Writes counts, from the API server's own metrics, the writes of the operator: to AuditStreams, but for their creation
// and deletion, which are the benchmark's, and to events.
type Writes struct{ AuditStreams, Events float64 }

// Minus is what has been written since before.
func (w Writes) Minus(before Writes) Writes {
	return Writes{w.AuditStreams - before.AuditStreams, w.Events - before.Events}
}

// Sum is how many writes there are in all.
func (w Writes) Sum() float64 { return w.AuditStreams + w.Events }

// Writes reads the count as it is now.
func (r *Rig) Writes(ctx context.Context) (Writes, error) {
	text, err := r.raw.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return Writes{}, err
	}
	var w Writes
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "apiserver_request_total{") || hasVerb(line, "GET", "LIST", "WATCH") {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
		if err != nil {
			return Writes{}, fmt.Errorf("reading the metric %q: %w", line, err)
		}
		switch {
		case strings.Contains(line, `resource="auditstreams"`) && !hasVerb(line, "POST", "DELETE"):
			w.AuditStreams += value
		case strings.Contains(line, `resource="events"`):
			w.Events += value
		}
	}
	return w, nil
}

func hasVerb(line string, verbs ...string) bool {
	for _, verb := range verbs {
		if strings.Contains(line, `verb="`+verb+`"`) {
			return true
		}
	}
	return false
}

// ResidentMB is the resident set size of a process.
func ResidentMB(pid int) (float64, error) { return memoryMB(pid, "VmRSS:") }

// PeakResidentMB is the largest resident set size since ResetPeak.
func PeakResidentMB(pid int) (float64, error) { return memoryMB(pid, "VmHWM:") }

// ResetPeak forgets the largest resident set size of a process.
func ResetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o200) // #nosec G306 -- not a file of ours
}

func memoryMB(pid int, field string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if kb, found := strings.CutPrefix(line, field); found {
			n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 64)
			return n / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", pid, field)
}
