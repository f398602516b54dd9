package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const (
	crdFiles = "config/crd/bases/*.yaml"
	// idDigits are enough to tell two changes of one field apart.
	idDigits = 8
)

// report is what crdify finds, as far as it matters here.
type report struct {
	CRD           []result                       `json:"crdValidation"`
	SameVersion   map[string]map[string][]result `json:"sameVersionValidation"`
	ServedVersion map[string]map[string][]result `json:"servedVersionValidation"`
}

type result struct {
	Name   string   `json:"name"`
	Errors []string `json:"errors"`
}

// crds compares each CRD of the previous release with the one of this tree.
func (t tools) crds(ctx context.Context) ([]finding, error) {
	files, err := filepath.Glob(filepath.Join(t.old, crdFiles))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(err, fmt.Errorf("the previous release has no %s", crdFiles))
	}
	var found []finding
	for _, file := range files {
		now, err := filepath.Rel(t.old, file)
		if err != nil {
			return nil, err
		}
		if now, err = filepath.Abs(now); err != nil {
			return nil, err
		}
		// It fails where it finds something, and then writes the report all the same.
		cmd := exec.CommandContext(ctx, t.crdify, "--config="+directory+"/crdify.yaml", "--output=json", "file://"+file, "file://"+now) // #nosec G204
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || len(out) == 0) {
			return nil, fmt.Errorf("comparing %s: %w: %s", now, err, stderr.Bytes())
		}
		more, err := parseReport(out)
		if err != nil {
			return nil, fmt.Errorf("comparing %s: %w", now, err)
		}
		found = append(found, more...)
	}
	return found, nil
}

func parseReport(text []byte) ([]finding, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	var r report
	// What follows the report is help for people.
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&r); err != nil {
		return nil, fmt.Errorf("reading the report of crdify: %w", err)
	}
	found := findingsOf("crd", r.CRD)
	for _, versions := range []map[string]map[string][]result{r.SameVersion, r.ServedVersion} {
		for _, version := range slices.Sorted(maps.Keys(versions)) {
			for _, field := range slices.Sorted(maps.Keys(versions[version])) {
				found = append(found, findingsOf("crd "+version+" "+strings.TrimPrefix(field, "^"), versions[version][field])...)
			}
		}
	}
	return found, nil
}

// findingsOf gives each error an id that another change of the same field does not have.
func findingsOf(place string, results []result) []finding {
	var found []finding
	for _, r := range results {
		for _, text := range r.Errors {
			// The differ puts other kinds of spaces into its output in each build, so that nobody relies on it.
			sum := sha256.Sum256([]byte(strings.Join(strings.Fields(text), " ")))
			found = append(found, finding{id: place + " " + r.Name + " " + hex.EncodeToString(sum[:])[:idDigits], text: text})
		}
	}
	return found
}
