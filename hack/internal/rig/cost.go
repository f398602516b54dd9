package rig

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
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

// ticksPerSecond is the unit of times in /proc, which is the same on every architecture that Go runs on.
const ticksPerSecond = 100

// ProcessorTime is what the processes have used of the processors since they began.
func ProcessorTime(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// After the name, which is in parentheses, utime and stime are the 12th and 13th field.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 13 {
			return 0, fmt.Errorf("/proc/%d/stat is %q", pid, text)
		}
		for _, field := range fields[11:13] {
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
			}
			sum += time.Duration(ticks) * time.Second / ticksPerSecond
		}
	}
	return sum, nil
}

// ServersProcessorTime is what the nats-servers have used of the processors since they began.
func (r *Rig) ServersProcessorTime() (time.Duration, error) {
	pids := make([]int, len(r.servers))
	for i, server := range r.servers {
		pids[i] = server.Pid()
	}
	return ProcessorTime(pids...)
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
