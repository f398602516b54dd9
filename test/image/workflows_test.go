package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// workflow is as much of a GitHub workflow as is looked at here.
type workflow struct {
	Name        string         `json:"name"`
	Permissions any            `json:"permissions"`
	Jobs        map[string]job `json:"jobs"`
}

type job struct {
	Permissions    any    `json:"permissions"`
	TimeoutMinutes int    `json:"timeout-minutes"`
	Uses           string `json:"uses"`
	Steps          []step `json:"steps"`
	Strategy       struct {
		Matrix struct {
			Target []string `json:"target"`
		} `json:"matrix"`
	} `json:"strategy"`
}

type step struct {
	Uses string         `json:"uses"`
	Run  string         `json:"run"`
	Env  map[string]any `json:"env"`
	With map[string]any `json:"with"`
}

// workflows are those in .github/workflows by their file names, with their texts.
func workflows(t *testing.T) (parsed map[string]workflow, texts map[string]string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.y*ml"))
	if err != nil || len(paths) < 2 {
		t.Fatalf("found the workflows %v, %v", paths, err)
	}
	parsed, texts = map[string]workflow{}, map[string]string{}
	for _, path := range paths {
		name := filepath.Base(path)
		texts[name] = readFile(t, filepath.Join(".github/workflows", name))
		var w workflow
		if err := yaml.Unmarshal([]byte(texts[name]), &w); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		parsed[name] = w
	}
	return parsed, texts
}

// TestWorkflowsPinActions has every action be of one commit, whatever becomes of its tags, with the release for people beside it.
func TestWorkflowsPinActions(t *testing.T) {
	pinned := regexp.MustCompile(`^\s*(- )?uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	parsed, texts := workflows(t)
	for name, text := range texts {
		lines, uses := 0, 0
		for line := range strings.Lines(text) {
			if !strings.Contains(line, "uses:") {
				continue
			}
			lines++
			if !pinned.MatchString(strings.TrimRight(line, "\n")) {
				t.Errorf("%s: %q is not pinned by 40 hexadecimal digits with its release as a comment", name, strings.TrimSpace(line))
			}
		}
		for _, job := range parsed[name].Jobs {
			for _, step := range append(job.Steps, step{Uses: job.Uses}) {
				if step.Uses != "" {
					uses++
				}
			}
		}
		if lines != uses || uses == 0 {
			t.Errorf("%s: %d actions are on %d lines, want one on each", name, uses, lines)
		}
	}
}

// TestWorkflowsHaveLeastPermissions has nothing granted for all jobs, and nothing but reading granted to jobs that build or test.
func TestWorkflowsHaveLeastPermissions(t *testing.T) {
	parsed, texts := workflows(t)
	for name, workflow := range parsed {
		if granted, ok := workflow.Permissions.(map[string]any); !ok || len(granted) > 0 {
			t.Errorf("%s: permissions is %v, want {}: jobs ask for what they need", name, workflow.Permissions)
		}
		for id, job := range workflow.Jobs {
			granted, ok := job.Permissions.(map[string]any)
			if !ok || len(granted) == 0 {
				t.Errorf("%s: job %s has the permissions %v, want them listed", name, id, job.Permissions)
			}
			for scope, access := range granted {
				publishes := name == "release.yml" && id == "publish" && (scope == "contents" || scope == "packages")
				if access != "read" && !publishes {
					t.Errorf("%s: job %s may %v %s", name, id, access, scope)
				}
			}
			if job.TimeoutMinutes == 0 {
				t.Errorf("%s: job %s has no timeout-minutes", name, id)
			}
		}
		if strings.Contains(texts[name], "pull_request_target") {
			t.Errorf("%s: pull_request_target gives a stranger's pull request this repository's rights", name)
		}
	}
}

// TestWorkflowsKeepSecrets has credentials reach a step by its environment only, and the token of a checkout reach nobody.
func TestWorkflowsKeepSecrets(t *testing.T) {
	parsed, _ := workflows(t)
	for name, workflow := range parsed {
		for id, job := range workflow.Jobs {
			for _, step := range job.Steps {
				if strings.Contains(step.Run, "${{") {
					t.Errorf("%s: job %s has an expression in a script, where its value becomes code: %s", name, id, step.Run)
				}
				if regexp.MustCompile(`set -[a-z]*x|--debug|\benv\b *$|printenv`).MatchString(step.Run) {
					t.Errorf("%s: job %s would print what it knows: %s", name, id, step.Run)
				}
				if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != false {
					t.Errorf("%s: job %s leaves the token in the checkout: set persist-credentials: false", name, id)
				}
			}
		}
	}
}

// TestAReleaseIsPublishedAgain runs what makes the GitHub release, with a gh that knows the release already or does not: a job that
// failed later is run again from its beginning.
func TestAReleaseIsPublishedAgain(t *testing.T) {
	parsed, _ := workflows(t)
	steps := parsed["release.yml"].Jobs["publish"].Steps
	at := slices.IndexFunc(steps, func(s step) bool { return strings.Contains(s.Run, "gh release") })
	if at < 0 {
		t.Fatal("no step makes the GitHub release")
	}
	for known, does := range map[string]string{"true": "release upload v1.2.3 --clobber -- ", "false": "release create v1.2.3 --verify-tag "} {
		dir := t.TempDir()
		write(t, dir, "step.sh", steps[at].Run)
		write(t, dir, "dist/release/v1.2.3/SHA256SUMS", "")
		writeProgram(t, dir, "gh", `echo "$*" >>../calls
case $2 in view | upload) `+known+`;; create) ! `+known+`;; esac`)
		out, err := runScript(dir, "step.sh", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "GITHUB_REF_NAME=v1.2.3", "SHELLOPTS=errexit")
		calls, readErr := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil || readErr != nil || !regexp.MustCompile(`(?m)^`+does+`.*SHA256SUMS$`).Match(calls) {
			t.Errorf("where GitHub knows the release: %s, gh was called with\n%s%v\n%s", known, calls, err, out)
		}
	}
}

// makeTarget finds the first word that make gets as a target; variables may stand before or after it.
var (
	makeCall   = regexp.MustCompile(`(?m)\bmake((?: +[^\s;&|]+)+)`)
	makeTarget = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
)

// TestWorkflowsCallMake has every make in a workflow name targets that there are, for people to run too.
func TestWorkflowsCallMake(t *testing.T) {
	known := makeTargets(t)
	parsed, _ := workflows(t)
	for name, workflow := range parsed {
		called := 0
		for id, job := range workflow.Jobs {
			for _, target := range targetsOf(job) {
				called++
				if !slices.Contains(known, target) {
					t.Errorf("%s: job %s makes %s, which is no target", name, id, target)
				}
			}
		}
		if called == 0 {
			t.Errorf("%s calls no make target", name)
		}
	}
}

// targetsOf are the targets that a job makes, those of its matrix among them.
func targetsOf(job job) []string {
	targets := slices.Clone(job.Strategy.Matrix.Target)
	for _, step := range job.Steps {
		for _, call := range makeCall.FindAllStringSubmatch(step.Run, -1) {
			for word := range strings.FieldsSeq(call[1]) {
				if makeTarget.MatchString(word) {
					targets = append(targets, word)
				}
			}
		}
	}
	return targets
}

// makeTargets are the targets that the Makefile and its fragments define for people.
func makeTargets(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("make", "help")
	cmd.Dir = root
	cmd.Env = cleanEnvironment()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, match := range regexp.MustCompile(`(?m)^  ([a-z][a-z0-9-]*) `).FindAllStringSubmatch(string(out), -1) {
		targets = append(targets, match[1])
	}
	if !slices.Contains(targets, "test") {
		t.Fatalf("make help lists %v", targets)
	}
	return targets
}
