package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi" // #nosec G504 -- what it serves is a test's, and git's own way
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// gitBranch is the branch that is committed to and served.
const gitBranch = "main"

// GitServer serves one repository over HTTP, for reading, through git's own http-backend.
type GitServer struct {
	dir, tree string
	server    *http.Server
	url       string
	ended     chan error
}

// StartGitServer makes an empty repository below dir and serves it. It needs git.
func StartGitServer(ctx context.Context, dir string) (*GitServer, error) {
	s := &GitServer{dir: dir, tree: filepath.Join(dir, "tree"), ended: make(chan error, 1)}
	bare := filepath.Join(dir, "served", "fleet.git")
	for _, args := range [][]string{
		{"init", "--quiet", "--bare", "--initial-branch=" + gitBranch, bare},
		{"clone", "--quiet", bare, s.tree},
		{"-C", s.tree, "checkout", "--quiet", "-B", gitBranch},
	} {
		if _, err := s.git(ctx, args...); err != nil {
			return nil, err
		}
	}
	libexec, err := s.git(ctx, "--exec-path")
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address(0))
	if err != nil {
		return nil, fmt.Errorf("serving git: %w", err)
	}
	s.url = fmt.Sprintf("http://%s/fleet.git", listener.Addr())
	s.server = &http.Server{ReadHeaderTimeout: checkTimeout, Handler: &cgi.Handler{
		Path: filepath.Join(libexec, "git-http-backend"),
		Env:  append(gitEnv(), "GIT_PROJECT_ROOT="+filepath.Join(dir, "served"), "GIT_HTTP_EXPORT_ALL=1"),
	}}
	go func() { s.ended <- s.server.Serve(listener) }()
	return s, nil
}

// URL is where the repository is cloned from.
func (s *GitServer) URL() string { return s.url }

// Tree is the directory whose files Commit commits.
func (s *GitServer) Tree() string { return s.tree }

// Write writes a file of the tree, which the next Commit takes.
func (s *GitServer) Write(name, content string) error {
	path := filepath.Join(s.tree, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o600)
}

// Commit commits and pushes the tree as it is, and returns the commit's hash.
func (s *GitServer) Commit(ctx context.Context, message string) (string, error) {
	for _, args := range [][]string{
		{"add", "--all"},
		{"commit", "--quiet", "--message=" + message},
		{"push", "--quiet", "origin", gitBranch},
	} {
		if _, err := s.git(ctx, append([]string{"-C", s.tree}, args...)...); err != nil {
			return "", err
		}
	}
	return s.git(ctx, "-C", s.tree, "rev-parse", "HEAD")
}

// Stop ends the serving. The files stay.
func (s *GitServer) Stop() error {
	err := s.server.Close()
	if ended := <-s.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	s.ended <- http.ErrServerClosed
	return err
}

func (s *GitServer) git(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...) // #nosec G204 -- the arguments are this package's
	cmd.Env = append(os.Environ(), gitEnv()...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// gitEnv keeps out what this machine's user has configured, and says who commits.
func gitEnv() []string {
	const name, email = "Platform Team", "platform@example.com"
	return []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=" + name, "GIT_AUTHOR_EMAIL=" + email,
		"GIT_COMMITTER_NAME=" + name, "GIT_COMMITTER_EMAIL=" + email,
	}
}
