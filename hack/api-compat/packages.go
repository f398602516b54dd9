package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "github.com/osapi-io/auditstream-operator"

// imported are the trees of packages that others import.
var imported = []string{"./api/...", "./auditstore/..."}

// packages compares each package of the previous release that others import with the one of this tree.
func (t tools) packages(ctx context.Context) ([]finding, error) {
	list, err := output(ctx, t.old, "go", append([]string{"list"}, imported...)...)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "api-compat-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(work) }()
	var found []finding
	for path := range strings.FieldsSeq(list) {
		name := strings.TrimPrefix(path, module+"/")
		if strings.Contains(path, "/internal") {
			continue
		}
		if _, err := output(ctx, ".", "go", "list", path); err != nil {
			found = append(found, finding{id: "go " + name + ": the package is gone"})
			continue
		}
		was := filepath.Join(work, "export")
		if _, err := output(ctx, t.old, t.apidiff, "-w", was, path); err != nil {
			return nil, err
		}
		changes, err := output(ctx, ".", t.apidiff, "-incompatible", was, path)
		if err != nil {
			return nil, err
		}
		found = append(found, parseChanges(name, changes)...)
	}
	return found, nil
}

// parseChanges takes the lines that name a change: "- Store.Get: removed".
func parseChanges(name, text string) []finding {
	var found []finding
	for line := range strings.Lines(text) {
		if change, ok := strings.CutPrefix(strings.TrimSpace(line), "- "); ok {
			found = append(found, finding{id: "go " + name + ": " + change})
		}
	}
	return found
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) // #nosec G204 -- the tools of this repository
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}
