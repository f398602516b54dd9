package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

func TestVersion(t *testing.T) {
	manager := filepath.Join(t.TempDir(), "manager")
	build := exec.Command("go", "build", "-ldflags", "-X main.version=v1.2.3-rc.1 -X main.revision=0123abcd", "-o", manager, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the manager: %v\n%s", err, out)
	}
	// No API server, no NATS and a flag that would be refused: none of it matters.
	out, err := exec.Command(manager, "--version", "--max-concurrent-reconciles=0").CombinedOutput()
	if err != nil {
		t.Fatalf("manager --version: %v\n%s", err, out)
	}
	want := regexp.MustCompile(`^auditstream-operator v1\.2\.3-rc\.1 \(revision 0123abcd, go1\.[^,]+, [a-z]+/[a-z0-9]+\)\n$`)
	if !want.Match(out) {
		t.Errorf("manager --version prints %q, want a line like %s", out, want)
	}
}
