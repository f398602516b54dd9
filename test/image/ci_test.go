package image

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// ciSteps are the targets that .ci/run makes.
func ciSteps(t *testing.T) []string {
	t.Helper()
	var steps []string
	for _, match := range regexp.MustCompile(`(?m)^ *step make ([a-z0-9-]+)`).FindAllStringSubmatch(readFile(t, ".ci/run"), -1) {
		steps = append(steps, match[1])
	}
	if len(steps) < 5 {
		t.Fatalf("found the steps %v in .ci/run", steps)
	}
	return steps
}

// TestWorkflowCoversCIRun has GitHub try what .ci/run tries.
func TestWorkflowCoversCIRun(t *testing.T) {
	parsed, _ := workflows(t)
	var made []string
	for _, job := range parsed["ci.yml"].Jobs {
		made = append(made, targetsOf(job)...)
	}
	for _, target := range ciSteps(t) {
		if !slices.Contains(made, target) {
			t.Errorf("ci.yml does not make %s, which is a step of .ci/run", target)
		}
	}
}

// TestNoSuiteTakesAllTheTime has a suite that hangs end well before a CI run as a whole does.
func TestNoSuiteTakesAllTheTime(t *testing.T) {
	fragments, err := filepath.Glob(filepath.Join(root, "hack/make/*.mk"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range append(fragments, filepath.Join(root, "Makefile")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`(?m)^([A-Z0-9]+_TIMEOUT) \?= (.*)$`).FindAllStringSubmatch(string(text), -1) {
			found++
			if limit, err := time.ParseDuration(match[2]); err != nil || limit > 30*time.Minute {
				t.Errorf("%s is %s: %v", match[1], match[2], err)
			}
		}
	}
	if found < 8 {
		t.Errorf("found %d timeouts", found)
	}
}

// TestCIRunFailsWhereAStepDoes runs .ci/run with a make of which test-pods fails: only without root that is left out.
func TestCIRunFailsWhereAStepDoes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, ".ci/run", readFile(t, ".ci/run"))
	writeProgram(t, dir, "make", `[[ $1 != test-pods ]]`)
	out, err := runScript(dir, ".ci/run", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	if root := os.Geteuid() == 0 && runtime.GOOS == "linux"; root != (err != nil) {
		t.Errorf("as root on Linux: %t; .ci/run ended with %v:\n%s", root, err, out)
	}
}

// TestPackagesAreAskedForAgain has apt fail, as it does while a mirror is updated or another apt runs.
func TestPackagesAreAskedForAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("hack/kubelet/require.sh installs as root only")
	}
	for failures, wanted := range map[int]string{0: "+", 2: "--+", 9: "---"} {
		dir := t.TempDir()
		write(t, dir, "require.sh", readFile(t, "hack/kubelet/require.sh"))
		writeProgram(t, dir, "sleep", ":")
		writeProgram(t, dir, "apt-get", fmt.Sprintf(`[[ $1 == install ]] || exit 100
tries=$(<../tries)
if ((${#tries} < %d)); then printf - >>../tries; exit 100; fi
printf + >>../tries`, failures))
		write(t, dir, "tries", "")
		out, err := runScript(dir, "require.sh", filepath.Join(dir, "bin"))
		tries, readErr := os.ReadFile(filepath.Join(dir, "tries"))
		if string(tries) != wanted || (err == nil) != strings.HasSuffix(wanted, "+") {
			t.Errorf("apt was tried %q, want %q: %v, %v\n%s", tries, wanted, err, readErr, out)
		}
	}
}

// writeProgram writes a bash script that takes the place of a program.
func writeProgram(t *testing.T, dir, name, script string) {
	t.Helper()
	path := filepath.Join(dir, "bin", name)
	write(t, dir, filepath.Join("bin", name), "#!/bin/bash\ncd \"${BASH_SOURCE[0]%/*}\"\n"+script+"\n")
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

// runScript runs a script of dir, with programs from path.
func runScript(dir, script, path string, environment ...string) (string, error) {
	cmd := exec.Command("/bin/bash", script)
	cmd.Dir = dir
	cmd.Env = append(append(cleanEnvironment(), environment...), "PATH="+path, "INSTALL=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
