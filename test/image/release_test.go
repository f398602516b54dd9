package image

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReleaseFiles(t *testing.T) {
	files := readTree(t, mustBuild(t, firstBuild).release())
	want := []string{
		"LICENSE", "RELEASE_NOTES.md", "SHA256SUMS", "auditstream-operator-9.8.7-rc.1.tgz", "auditstream-operator-v9.8.7-rc.1-image-oci.tar",
		"auditstream-operator-v9.8.7-rc.1-linux-amd64", "auditstream-operator-v9.8.7-rc.1-linux-amd64.cdx.json",
		"auditstream-operator-v9.8.7-rc.1-linux-arm64", "auditstream-operator-v9.8.7-rc.1-linux-arm64.cdx.json", "install.yaml",
	}
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Errorf("the release has the files\n%v, want\n%v", got, want)
	}
	var sums strings.Builder
	for _, name := range want {
		if name != "SHA256SUMS" {
			sum := sha256.Sum256(files[name])
			sums.WriteString(hex.EncodeToString(sum[:]) + "  " + name + "\n")
		}
	}
	if got := string(files["SHA256SUMS"]); got != sums.String() {
		t.Errorf("SHA256SUMS is\n%s\nwant\n%s", got, sums.String())
	}
}

// TestReleaseIsOfOneImage is about the places that name the image or carry it.
func TestReleaseIsOfOneImage(t *testing.T) {
	layout := operatorLayout(t)
	files := readTree(t, mustBuild(t, firstBuild).release())
	pinned := imageName + ":" + version + "@" + layout.index(t).Manifests[0].Digest
	if !strings.Contains(string(files["install.yaml"]), "image: "+pinned+"\n") {
		t.Errorf("install.yaml does not run %s", pinned)
	}
	if !strings.Contains(string(files["RELEASE_NOTES.md"]), pinned) {
		t.Errorf("the release notes do not name %s", pinned)
	}
	archive := untar(t, files["auditstream-operator-"+version+"-image-oci.tar"])
	for name, content := range readTree(t, layout.dir) {
		if !bytes.Equal(archive[name].content, content) {
			t.Errorf("%s in the release's archive is not the one in the layout", name)
		}
	}
	for _, image := range layout.images(t) {
		program, _ := layout.files(t, layout.manifest(t, image).Layers[1])
		name := project + "-" + version + "-linux-" + image.Platform.Architecture
		if !bytes.Equal(files[name], program["manager"].content) {
			t.Errorf("%s is not the program in the image", name)
		}
		checkSBOM(t, files[name+".cdx.json"], files[name])
	}
}

func TestReleasedChart(t *testing.T) {
	files := readTree(t, mustBuild(t, firstBuild).release())
	unzipped, err := gzip.NewReader(bytes.NewReader(files["auditstream-operator-9.8.7-rc.1.tgz"]))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	chart := string(untar(t, archive)[project+"/Chart.yaml"].content)
	for _, line := range []string{"version: 9.8.7-rc.1\n", "appVersion: v9.8.7-rc.1\n"} {
		if !strings.Contains(chart, "\n"+line) {
			t.Errorf("the chart says\n%s\nand not %s", chart, line)
		}
	}
}

// releaseDir is a repository with as much in it as hack/release/release.sh check looks at.
func releaseDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := copyFile(filepath.Join(root, "hack/release/release.sh"), filepath.Join(dir, "hack/release/release.sh")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "charts/auditstream-operator/Chart.yaml", "name: auditstream-operator\nversion: 0.2.0\nappVersion: v0.2.0\n")
	write(t, dir, "CHANGELOG.md", "# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n\n## [0.1.0] - 2026-01-01\n\n- The first.\n")
	git(t, dir, "init", "--quiet")
	commit(t, dir)
	return dir
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func commit(t *testing.T, dir string) {
	t.Helper()
	git(t, dir, "add", "--all")
	git(t, dir, "-c", "user.name=Test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message", "Change something")
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func checkRelease(dir string, environment ...string) (string, error) {
	cmd := exec.Command(filepath.Join(dir, "hack/release/release.sh"), "check")
	cmd.Env = append(cleanEnvironment(), environment...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestReleaseCheck(t *testing.T) {
	nothing := func(*testing.T, string) {}
	for name, test := range map[string]struct {
		change      func(t *testing.T, dir string)
		environment []string
		want        string
	}{
		"fit":              {change: nothing},
		"tagged here":      {change: func(t *testing.T, dir string) { git(t, dir, "tag", "v0.2.0") }},
		"dirty, to try it": {change: func(t *testing.T, dir string) { write(t, dir, "new", "") }, environment: []string{"SNAPSHOT=1"}},
		"its own heading": {change: func(t *testing.T, dir string) {
			write(t, dir, "CHANGELOG.md", "# Changelog\n\n## Unreleased\n\n## 0.2.0 - 2026-02-02\n\n- A thing.\n")
			commit(t, dir)
		}},
		"dirty": {
			change: func(t *testing.T, dir string) { write(t, dir, "new", "") },
			want:   "changes that are not committed: commit them, or try with SNAPSHOT=1. They are\n?? new",
		},
		"tagged elsewhere": {
			change: func(t *testing.T, dir string) {
				git(t, dir, "tag", "v0.2.0")
				write(t, dir, "new", "")
				commit(t, dir)
			},
			want: "the tag v0.2.0 is on commit",
		},
		"another version": {
			change: nothing, environment: []string{"VERSION=v0.3.0"},
			want: "Chart.yaml says version: 0.2.0: set it to 0.3.0",
		},
		"another version of the operator": {
			change: func(t *testing.T, dir string) {
				write(t, dir, "charts/auditstream-operator/Chart.yaml", "version: 0.2.0\nappVersion: v0.1.0\n")
				commit(t, dir)
			},
			want: "Chart.yaml says appVersion: v0.1.0: set it to v0.2.0",
		},
		"nothing new": {
			change: func(t *testing.T, dir string) {
				write(t, dir, "CHANGELOG.md", "# Changelog\n\n## Unreleased\n\n## 0.1.0\n\n- The first.\n")
				commit(t, dir)
			},
			want: "CHANGELOG.md says nothing under 0.2.0 or Unreleased",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := releaseDir(t)
			test.change(t, dir)
			out, err := checkRelease(dir, append([]string{"VERSION=v0.2.0"}, test.environment...)...)
			if test.want == "" && err != nil {
				t.Errorf("refused: %s", out)
			}
			if test.want != "" && (err == nil || !strings.Contains(out, test.want)) {
				t.Errorf("got %q, %v; want a refusal with %q", out, err, test.want)
			}
		})
	}
}

func TestReleaseVersion(t *testing.T) {
	dir := releaseDir(t)
	for _, good := range []string{"v0.0.0", "v1.20.300", "v1.2.3-rc.1", "v1.2.3-0", "v0.0.0-dev.g0123abc.dirty", "v1.0.0-x-y.7z"} {
		if out, err := checkRelease(dir, "VERSION="+good, "SNAPSHOT=1"); err != nil {
			t.Errorf("%s is refused: %s", good, out)
		}
	}
	for _, bad := range []string{
		"", "1.2.3", "v1.2", "v1.2.3.4", "v01.2.3", "v1.2.3-", "v1.2.3-rc..1", "v1.2.3-01", "v1.2.3+build", "v1.2.3 ", "v1.2.3;id", "vx.y.z", "latest",
	} {
		out, err := checkRelease(dir, "VERSION="+bad, "SNAPSHOT=1")
		if err == nil || !strings.Contains(out, `VERSION is "`+bad+`": give one such as v0.2.0`) {
			t.Errorf("%q: got %q, %v; want a refusal", bad, out, err)
		}
	}
}

// TestReleaseNeedsAVersion is about make, which has a version for builds between releases.
func TestReleaseNeedsAVersion(t *testing.T) {
	cmd := exec.Command("make", "release")
	cmd.Dir = root
	cmd.Env = cleanEnvironment()
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), `VERSION is "": give one`) {
		t.Errorf("make release says %q, %v; want it to ask for a version", out, err)
	}
}
