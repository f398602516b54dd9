package image

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// instructions are those of a Dockerfile, with lines put together that a backslash continues.
func instructions(dockerfile string) []string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(dockerfile, "\\\n", "")) {
		if line = strings.Join(strings.Fields(line), " "); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestDockerfile has docker build make what make image makes.
func TestDockerfile(t *testing.T) {
	lines := instructions(readFile(t, "Dockerfile"))
	for _, want := range []string{"USER 65532:65532", `ENTRYPOINT ["/manager"]`, "WORKDIR /"} {
		if !slices.Contains(lines, want) {
			t.Errorf("the Dockerfile lacks %q", want)
		}
	}
	labels := map[string]string{}
	for _, line := range lines {
		if rest, found := strings.CutPrefix(line, "LABEL "); found {
			for _, pair := range regexp.MustCompile(`([a-z.]+)="([^"]*)"`).FindAllStringSubmatch(rest, -1) {
				labels[pair[1]] = pair[2]
			}
		}
	}
	want := wantLabels()
	for label, argument := range map[string]string{"version": "${VERSION}", "revision": "${REVISION}", "created": "${CREATED}"} {
		want["org.opencontainers.image."+label] = argument
	}
	if !maps.Equal(labels, want) {
		t.Errorf("the Dockerfile has the labels\n%v, the image of make image\n%v", labels, want)
	}
}

// TestDockerfileCopiesTheSources fails where a package or an embedded file of the manager is not in the build's context.
func TestDockerfileCopiesTheSources(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-f",
		`{{if and .Module .Module.Main}}{{range .GoFiles}}{{$.Dir}}/{{.}}{{"\n"}}{{end}}{{range .EmbedFiles}}{{$.Dir}}/{{.}}{{"\n"}}{{end}}{{end}}`, "./cmd/manager")
	list.Dir = root
	list.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	absolute, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	copied, sent := instructions(readFile(t, "Dockerfile")), readFile(t, ".dockerignore")
	files := strings.Fields(string(out))
	if len(files) < 50 {
		t.Errorf("the manager has %d files of its own, want more", len(files))
	}
	for _, file := range files {
		file, err := filepath.Rel(absolute, file)
		if err != nil {
			t.Fatal(err)
		}
		directory, _, _ := strings.Cut(file, "/")
		if !slices.Contains(copied, "COPY "+directory+"/ "+directory+"/") {
			t.Errorf("the Dockerfile does not copy %s, which the manager is built from", file)
		}
		if !strings.Contains(sent, "\n!"+directory+"/**/*"+filepath.Ext(file)+"\n") || ignored(sent, file) {
			t.Errorf(".dockerignore leaves out %s, which the manager is built from", file)
		}
	}
}

// ignored is whether one of the directories that .dockerignore leaves out has the file.
func ignored(dockerignore, file string) bool {
	for line := range strings.Lines(dockerignore) {
		if strings.HasPrefix(file, strings.TrimSpace(line)+"/") {
			return true
		}
	}
	return false
}
