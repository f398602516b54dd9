package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestValuesInOperations renders the chart with the values that docs/operations.md shows.
func TestValuesInOperations(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```yaml\n")[1:]
	if len(blocks) != 1 {
		t.Fatalf("docs/operations.md has %d blocks of YAML, want that of the values", len(blocks))
	}
	values, _, _ := strings.Cut(blocks[0], "```")
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	contains(t, render(t, "--values", file), "name: OTEL_EXPORTER_OTLP_ENDPOINT\n          value: http://otel-collector.observability.svc:4318\n")
}
