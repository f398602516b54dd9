package image

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const (
	root = "../.."

	project     = "auditstream-operator"
	imageName   = "ghcr.io/osapi-io/auditstream-operator"
	version     = "v9.8.7-rc.1"
	revision    = "0123456789abcdef0123456789abcdef01234567"
	created     = "1700000000"
	createdTime = "2023-11-14T22:13:20Z"
)

// platforms are those that both the image and this suite's releases are for. Those of Darwin would double its time.
var platforms = []string{"linux/amd64", "linux/arm64"}

var scratch string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "image-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	scratch = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build is a copy of the sources in which a release was made.
type build struct {
	dir string
	err error
}

var (
	firstBuild  = sync.OnceValue(func() build { return makeRelease(filepath.Join(scratch, "one"), nil) })
	secondBuild = sync.OnceValue(func() build {
		return makeRelease(filepath.Join(scratch, "another", "place-with-a-longer-name"), []string{
			"TZ=Pacific/Auckland", "LC_ALL=C.UTF-8", "GOFLAGS=-buildvcs=auto", "GOAMD64=v3", "USER=somebody",
		})
	})
)

// image is the directory that make image wrote.
func (b build) image() string { return filepath.Join(b.dir, "dist", "image", project) }

// release is the directory that make release wrote.
func (b build) release() string { return filepath.Join(b.dir, "dist", "release", version) }

func mustBuild(t *testing.T, get func() build) build {
	t.Helper()
	b := get()
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b
}

// makeRelease runs make release on a copy of the sources that has no repository around it.
func makeRelease(dir string, environment []string) build {
	if err := copySources(dir); err != nil {
		return build{err: err}
	}
	cmd := exec.Command("make", "release", "SNAPSHOT=1", "VERSION="+version, "REVISION="+revision, "SOURCE_DATE_EPOCH="+created,
		"RELEASE_PLATFORMS="+strings.Join(platforms, " "))
	cmd.Dir = dir
	cmd.Env = append(cleanEnvironment(), environment...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return build{err: fmt.Errorf("make release: %w\n%s", err, out)}
	}
	return build{dir: dir}
}

// cleanEnvironment is ours without what a make that runs this test has set.
func cleanEnvironment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch name {
		case "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "VERSION", "REVISION", "SOURCE_DATE_EPOCH", "IMAGE", "SNAPSHOT":
		default:
			kept = append(kept, variable)
		}
	}
	return kept
}

// copySources copies what git would have in a commit of everything that is here, and the tools that make built already.
func copySources(dir string) error {
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("listing the sources: %w", err)
	}
	files := strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
	for _, tool := range []string{"helm", "kustomize", "image"} { // last, so that they are newer than their sources
		tool = filepath.Join("bin", tool)
		if _, err := os.Stat(filepath.Join(root, tool)); err != nil {
			return fmt.Errorf("%w: run make helm kustomize image-tool", err)
		}
		files = append(files, tool)
	}
	for _, file := range files {
		if err := copyFile(filepath.Join(root, file), filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if os.IsNotExist(err) { // deleted, but not committed yet
		return nil
	}
	if err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, info.Mode().Perm())
}

// TestBuiltTwice is about everything that make image and make release write: layout, archives, binaries, chart, SBOMs.
func TestBuiltTwice(t *testing.T) {
	first, second := mustBuild(t, firstBuild), mustBuild(t, secondBuild)
	for _, dirs := range [][2]string{{first.image(), second.image()}, {first.release(), second.release()}} {
		one, other := readTree(t, dirs[0]), readTree(t, dirs[1])
		if len(one) < 5 {
			t.Errorf("%s has %d files, want an image or a release", dirs[0], len(one))
		}
		for name := range one {
			if _, found := other[name]; !found {
				t.Errorf("%s is missing in the second build", name)
			} else if !bytes.Equal(one[name], other[name]) {
				t.Errorf("%s differs between two builds of the same sources", name)
			}
		}
		for name := range other {
			if _, found := one[name]; !found {
				t.Errorf("%s is in the second build only", name)
			}
		}
	}
}

func readTree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files[name], err = os.ReadFile(filepath.Join(dir, name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
