package image

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReleasingGuide takes docs/releasing.md at its word: targets that it names exist, and what can be run without a registry
// is run. make release itself is what the other tests look at.
func TestReleasingGuide(t *testing.T) {
	guide := readFile(t, "docs/releasing.md")
	known := makeTargets(t)
	repository := releaseDir(t)
	git(t, repository, "init", "--quiet", "--bare", "origin.git")
	git(t, repository, "remote", "add", "origin", "origin.git")
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(guide, -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSpace(line)
			switch word, _, _ := strings.Cut(line, " "); word {
			case "git":
				runLine(t, repository, line)
				ran++
			case "sha256sum":
				runLine(t, mustBuild(t, firstBuild).release(), line)
				ran++
			case "docker", "diff": // a registry, and a release from elsewhere
			default:
				for _, target := range targetsOf(job{Steps: []step{{Run: line}}}) {
					if !slices.Contains(known, target) {
						t.Errorf("%q makes %s, which is no target", line, target)
					}
					ran++
				}
			}
		}
	}
	if ran < 7 {
		t.Errorf("%d commands were looked at, want more", ran)
	}
}

func runLine(t *testing.T, dir, line string) {
	t.Helper()
	cmd := exec.Command("bash", "-euc", line)
	cmd.Dir = dir
	cmd.Env = append(cleanEnvironment(), "GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_COMMITTER_NAME=Test",
		"GIT_COMMITTER_EMAIL=test@example.com", "HOME="+os.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", line, err, out)
	}
}

// TestReleasingGuideListsTheFiles compares the guide's table with what make release writes.
func TestReleasingGuideListsTheFiles(t *testing.T) {
	guide := readFile(t, "docs/releasing.md")
	described := strings.NewReplacer("v0.2.0", version, "0.2.0", strings.TrimPrefix(version, "v")).Replace(guide)
	for name := range readTree(t, mustBuild(t, firstBuild).release()) {
		name = regexp.MustCompile(`-linux-(amd64|arm64)`).ReplaceAllString(name, "-<os>-<arch>")
		if !strings.Contains(described, "`"+name+"`") {
			t.Errorf("docs/releasing.md does not say what %s is", name)
		}
	}
}
