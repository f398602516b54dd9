package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

const operations = "../../docs/operations.md"

// constants are what keys are that the code does not spell out where it logs.
var constants = map[string]string{"resourceKind": "AuditStream", "LogKey": "trace_id"}

// logLine is a call that logs something, or that gives a logger values for later.
type logLine struct {
	where   string
	message string
	keys    []string
}

// The keys of log lines are relied on by whoever searches the log: each one is described, and none is described that is not
// used any more.
func TestTheKeysOfLogLinesAreThoseOfTheManual(t *testing.T) {
	used := map[string]string{}
	lines := logLines(t)
	if len(lines) < 40 {
		t.Fatalf("found %d lines, which cannot be all", len(lines))
	}
	for _, line := range lines {
		for _, key := range line.keys {
			used[key] = line.where
		}
	}
	documented := documentedKeys(t, "### What a line is about")
	for _, key := range slices.Sorted(maps.Keys(used)) {
		if !documented[key] {
			t.Errorf("%s logs the key %q, which %s does not have", used[key], key, operations)
		}
	}
	for key := range documented {
		if _, found := used[key]; !found {
			t.Errorf("%s has the key %q, which nothing logs", operations, key)
		}
	}
}

// A message is the same text each time, begins with a capital letter and has no full stop; what varies is in the values.
func TestMessagesOfLogLines(t *testing.T) {
	pattern := regexp.MustCompile(`^[A-Z].*[^.!?:]$`)
	for _, line := range logLines(t) {
		if line.message != "" && !pattern.MatchString(line.message) {
			t.Errorf("%s logs %q", line.where, line.message)
		}
	}
}

// The line that the manual shows of healed drift is one that the operator writes.
func TestTheLogLineOfTheManual(t *testing.T) {
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	var line struct{ Msg, Differences string }
	_, block, _ := strings.Cut(string(text), "```json\n")
	if err := json.NewDecoder(strings.NewReader(block)).Decode(&line); err != nil {
		t.Fatal(err)
	}
	changed := jsbuilder.Compare(jetstream.StreamConfig{MaxAge: 720 * time.Hour}, jetstream.StreamConfig{MaxAge: time.Hour})
	if len(changed) != 1 {
		t.Fatalf("found %v", changed)
	}
	want := fmt.Sprintf("%s (is %s, declared %s)", changed[0].Field, changed[0].Have, changed[0].Want)
	if line.Msg != "Healed drift" || line.Differences != want {
		t.Errorf("%s shows %q with %q, want %q", operations, line.Msg, line.Differences, want)
	}
}

// documentedKeys reads the first column of the table below a heading.
func documentedKeys(t *testing.T, heading string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), heading+"\n")
	if !found {
		t.Fatalf("%s has no heading %q", operations, heading)
	}
	section, _, _ = strings.Cut(section, "\n#")
	keys := map[string]bool{}
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
			keys[match[1]] = true
		}
	}
	return keys
}

// logLines finds what the operator logs, in everything that it is made of.
func logLines(t *testing.T) (lines []logLine) {
	t.Helper()
	files := token.NewFileSet()
	for _, root := range []string{"../../cmd", "../../internal"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(node ast.Node) bool {
				if call, ok := node.(*ast.CallExpr); ok {
					if line, ok := readCall(t, files, call); ok {
						lines = append(lines, line)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return lines
}

// readCall reads Info("message", ...), Info(level, "message", ...), Error(err, "message", ...) and WithValues(...). What is
// called alike and has no text there is something else, and so is what passes on the values of others.
func readCall(t *testing.T, files *token.FileSet, call *ast.CallExpr) (logLine, bool) {
	t.Helper()
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || call.Ellipsis.IsValid() {
		return logLine{}, false
	}
	if of, ok := method.X.(*ast.Ident); ok && of.Name == "http" {
		return logLine{}, false // http.Error answers a request
	}
	line := logLine{where: files.Position(call.Pos()).String()}
	values := call.Args
	switch method.Sel.Name {
	case "WithValues":
	case "Info", "Error":
		at := slices.IndexFunc(values[:min(2, len(values))], func(arg ast.Expr) bool { return text(arg) != "" })
		if at < 0 || at == 0 && method.Sel.Name == "Error" {
			return logLine{}, false
		}
		line.message, values = text(values[at]), values[at+1:]
	default:
		return logLine{}, false
	}
	if len(values)%2 != 0 {
		t.Errorf("%s: a key has no value", line.where)
	}
	for i := 0; i < len(values); i += 2 {
		key := text(values[i])
		if key == "" {
			t.Errorf("%s: a key is no constant text", line.where)
		}
		line.keys = append(line.keys, key)
	}
	return line, true
}

// text is the value of a constant, and empty for everything else.
func text(expr ast.Expr) string {
	switch e := expr.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			value, _ := strconv.Unquote(e.Value)
			return value
		}
	case *ast.Ident:
		return constants[e.Name]
	case *ast.SelectorExpr:
		return constants[e.Sel.Name]
	}
	return ""
}
