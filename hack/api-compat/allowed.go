package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// parseAllowed reads the list of breaks that are meant: one on a line, each below a comment that gives the reason. A comment
// may be for several lines, up to the next empty one.
func parseAllowed(content string) ([]string, error) {
	var allowed []string
	reason := false
	number := 0
	for line := range strings.Lines(content) {
		number++
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			reason = false
		case strings.HasPrefix(line, "#"):
			reason = reason || strings.Trim(line, "# ") != ""
		case !reason:
			return nil, fmt.Errorf("%s:%d: %q has no reason: give it in a comment right above", allowedFile, number, line)
		default:
			allowed = append(allowed, line)
		}
	}
	return allowed, nil
}

// judge fails on findings that are not allowed, and on what is allowed and not found: it would cover up a later break.
func judge(found []finding, allowed []string) error {
	var errs []error
	for _, f := range found {
		if !slices.Contains(allowed, f.id) {
			errs = append(errs, fmt.Errorf("breaks users of the previous release: %s%s", f.id, indented(f.text)))
		}
	}
	for _, id := range allowed {
		if !slices.ContainsFunc(found, func(f finding) bool { return f.id == id }) {
			errs = append(errs, fmt.Errorf("%s allows what is not so any more; remove it: %s", allowedFile, id))
		}
	}
	if len(errs) == 0 {
		fmt.Printf("Nothing breaks users of the previous release, but for %d changes that %s allows\n", len(allowed), allowedFile)
		return nil
	}
	return errors.Join(append(errs, fmt.Errorf("keep what users have, or add the change with its reason to %s", allowedFile))...)
}

func indented(text string) string {
	if text == "" {
		return ""
	}
	return "\n    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}
