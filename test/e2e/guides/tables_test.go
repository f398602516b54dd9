package guides

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReasonsExist: the guide explains reasons that the operator gives.
func TestReasonsExist(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(root, "api", "v1alpha1", "conditions.go"))
	if err != nil {
		t.Fatal(err)
	}
	reasons := firstColumn(t, "Troubleshooting", "[A-Z][A-Za-z]+")
	if len(reasons) < 10 {
		t.Fatalf("the guide explains only %q", reasons)
	}
	for _, reason := range reasons {
		if !strings.Contains(string(source), ` = "`+reason+`"`) {
			t.Errorf("the guide explains %s, which is no reason of the API", reason)
		}
	}
}

// firstColumn returns what the first column of the tables under a heading names in backquotes.
func firstColumn(t *testing.T, heading, form string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "migration.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("the guide has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var names []string
	for _, match := range regexp.MustCompile("(?m)^\\| `("+form+")` \\|").FindAllStringSubmatch(section, -1) {
		names = append(names, match[1])
	}
	return names
}
