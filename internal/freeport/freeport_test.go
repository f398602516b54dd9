package freeport

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// draw prints ports, and fails on one that was given before.
func draw(t *testing.T, n int) (lines map[string]bool) {
	t.Helper()
	lines = map[string]bool{}
	for range n {
		port, err := Next()
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprint("port ", port)
		if lines[line] {
			t.Errorf("%s was given twice", line)
		}
		lines[line] = true
	}
	return lines
}

// TestProgramsShareNoPort draws so many that two programs which know nothing of each other would share some.
func TestProgramsShareNoPort(t *testing.T) {
	const child, each = "FREEPORT_CHILD", 400
	mine := draw(t, each)
	if os.Getenv(child) != "" {
		for line := range mine {
			fmt.Println(line)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProgramsShareNoPort$")
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.CombinedOutput()
	if n := strings.Count(string(out), "port "); err != nil || n != each {
		t.Fatalf("the other program drew %d: %v:\n%s", n, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); mine[line] {
			t.Errorf("another program was given %s, too", line)
		}
	}
}
