package upgrade

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// managerVariable has testenv start another binary than bin/manager.
const managerVariable = "MANAGER"

func previousManager(dir string) string { return filepath.Join(dir, "bin", "manager") }

// buildPrevious writes the tree of the previous release into dir, builds its manager there, and returns its commit.
func buildPrevious(ctx context.Context, root, dir string) (string, error) {
	commit, err := output(exec.CommandContext(ctx, filepath.Join(root, "hack", "previous-release.sh"), dir)) // #nosec G204 -- ours
	if err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-C", dir, "-trimpath", "-o", previousManager(dir), "./cmd/manager") // #nosec G204 -- ours
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	_, err = output(build)
	return commit, err
}

func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// TestTheScriptSaysWhatACloneLacks: CI systems clone shallowly by default, and a downloaded archive is no clone.
func TestTheScriptSaysWhatACloneLacks(t *testing.T) {
	for _, place := range []struct {
		name   string
		make   func(t *testing.T, origin, dir string) error
		advice string
	}{
		{"a shallow clone", func(t *testing.T, origin, dir string) error {
			return git(t, dir, "clone", "--quiet", "--depth=1", "file://"+origin, dir)
		}, "git fetch --unshallow"},
		{"a clone without the branch", func(t *testing.T, _, dir string) error { return git(t, dir, "init", "--quiet") }, "fetch the branch that has it"},
		{"no clone", func(*testing.T, string, string) error { return nil }, "clone the repository"},
	} {
		t.Run(place.name, func(t *testing.T) {
			g := NewWithT(t)
			origin, dir := t.TempDir(), t.TempDir()
			identity := []string{"-c", "user.name=a", "-c", "user.email=a@example.com"}
			g.Expect(git(t, origin, "init", "--quiet")).To(Succeed())
			for range 2 {
				g.Expect(git(t, origin, append(identity, "commit", "--quiet", "--allow-empty", "--message=a")...)).To(Succeed())
			}
			g.Expect(place.make(t, origin, dir)).To(Succeed())
			script := scriptIn(t, dir)

			_, err := output(exec.CommandContext(t.Context(), script, t.TempDir())) // #nosec G204 -- ours
			g.Expect(err).To(MatchError(SatisfyAll(ContainSubstring(strings.Repeat("a", 40)), ContainSubstring(place.advice))))
		})
	}
}

func git(t *testing.T, dir string, args ...string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...) // #nosec G204 -- ours
	cmd.Dir = dir
	_, err := output(cmd)
	return err
}

// scriptIn puts the script into a repository whose previous release is a commit that nobody has.
func scriptIn(t *testing.T, dir string) string {
	t.Helper()
	g := NewWithT(t)
	script, err := os.ReadFile("../../hack/previous-release.sh")
	g.Expect(err).NotTo(HaveOccurred())
	path := filepath.Join(dir, "hack", "previous-release.sh")
	g.Expect(os.MkdirAll(filepath.Dir(path), 0o700)).To(Succeed())
	g.Expect(os.WriteFile(path, script, 0o700)).To(Succeed()) // #nosec G306 -- it is to be run
	g.Expect(os.WriteFile(filepath.Join(dir, "hack", "previous-release"), []byte(strings.Repeat("a", 40)+"\n"), 0o600)).To(Succeed())
	return path
}
