package guides

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../../.."

// block is a fenced block of the guide.
type block struct {
	heading  string
	language string
	line     int
	lines    []string
}

// command is a command that the guide shows, with the lines that it should print.
type command struct {
	text   string
	line   int
	output []string
}

func readGuide(t *testing.T, page string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	heading, open := "", false
	for i, line := range strings.Split(string(text), "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && !open:
			blocks = append(blocks, block{heading: heading, language: fence, line: i + 1})
			open = true
		case isFence:
			open = false
		case open:
			last := &blocks[len(blocks)-1]
			last.lines = append(last.lines, line)
		case strings.HasPrefix(line, "##"):
			heading = strings.TrimLeft(line, "# ")
		}
	}
	if open || len(blocks) == 0 {
		t.Fatalf("the guide has %d blocks; the last one is open: %t", len(blocks), open)
	}
	return blocks
}

func (b *block) text() string { return strings.Join(b.lines, "\n") + "\n" }

func (b *block) commands() []command {
	var commands []command
	for i, line := range b.lines {
		if text, found := strings.CutPrefix(line, "$ "); found {
			commands = append(commands, command{text: text, line: b.line + i + 1})
		} else if n := len(commands); n > 0 && strings.TrimSpace(line) != "" {
			commands[n-1].output = append(commands[n-1].output, line)
		}
	}
	return commands
}

// repeatable says whether the command only looks at things, so that it may be repeated until it shows what it should.
func (c *command) repeatable() bool {
	return regexp.MustCompile(`^(kubectl (get|events|auth)|nats (\w+ info|stream get)) `).MatchString(c.text)
}

// endless says whether the command does not end by itself.
func (c *command) endless() bool { return strings.HasSuffix(c.text, " --watch") }

// expected are the lines that have to be printed. What a watch shows before the last line depends on how fast all goes.
func (c *command) expected() []string {
	if n := len(c.output); c.endless() && n > 0 {
		return c.output[n-1:]
	}
	return c.output
}

// missing is the first expected line that the command has not printed, in this order, among others.
func (c *command) missing(printed string) error {
	lines := strings.Split(printed, "\n")
	for _, want := range c.expected() {
		matches := pattern(want)
		for ; len(lines) > 0 && !matches.MatchString(lines[0]); lines = lines[1:] {
			continue
		}
		if len(lines) == 0 {
			return fmt.Errorf("line %d of the guide: %s\ndoes not print (in this place)\n%s\nbut\n%s", c.line, c.text, want, printed)
		}
		lines = lines[1:]
	}
	return nil
}

// pattern matches a line that is the given one but for spaces and for what its ellipses stand for.
func pattern(line string) *regexp.Regexp {
	quoted := regexp.QuoteMeta(strings.Join(strings.Fields(line), " "))
	quoted = strings.ReplaceAll(quoted, " ", `\s+`)
	return regexp.MustCompile(`^\s*` + strings.ReplaceAll(quoted, "…", ".*") + `\s*$`)
}
