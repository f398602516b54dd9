package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// The guard is a small shell process that waits for the end of its standard input, which comes when this program closes
// it or dies, however it dies. Then it kills what is still registered and removes the directories that are registered.
//
// A parent-death signal would not do: it follows the thread that started the process, not the program, it is Linux's
// only, and envtest starts its processes itself.
//
// Registering cannot come too late: a process writes its own pid file before it becomes what it is meant to be, and goes
// no further when the guard has already taken the registry away.
const (
	guardScript = `
trap '' HUP INT QUIT TERM
read -r _
mv "$1/live" "$1/dead"
for f in "$1"/dead/*/*.pid; do
  [ -s "$f" ] && kill -s KILL -- "-$(cat "$f")" 2>/dev/null
done
for f in "$1"/dead/*/remove; do
  [ -s "$f" ] || continue
  for try in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$(cat "$f")" && break
    sleep 0.1
  done
done 2>/dev/null
rm -rf -- "$1"
`
	// launchScript registers the process in the pid file $1 and becomes the command that follows.
	launchScript = `echo $$ >"$1" && [ -e "$1" ] && shift && exec "$@"`
)

var theGuard guard

// guard lives while there is a lease.
type guard struct {
	mu     sync.Mutex
	leases int
	serial int
	dir    string
	stdin  io.Closer
	cmd    *exec.Cmd
}

// lease is a part's entry in the registry.
type lease struct {
	guard    *guard
	dir      string
	released sync.Once
}

func (g *guard) lease() (*lease, error) {
	l, err := g.register()
	if err != nil {
		return nil, fmt.Errorf("starting the guard of child processes: %w", err)
	}
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		l.release()
		return nil, fmt.Errorf("registering with the guard of child processes: %w", err)
	}
	return l, nil
}

func (g *guard) register() (*lease, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leases == 0 {
		if err := g.start(); err != nil {
			return nil, err
		}
	}
	g.leases++
	g.serial++
	return &lease{guard: g, dir: filepath.Join(g.dir, "live", strconv.Itoa(g.serial))}, nil
}

func (g *guard) start() error {
	dir, err := os.MkdirTemp("", "auditstream-guard-")
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "live"), 0o700); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	cmd := exec.Command("/bin/sh", "-c", guardScript, "sh", dir) // #nosec G204 -- a constant script
	// A group of its own, so that Ctrl-C in the terminal does not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	g.dir, g.stdin, g.cmd = dir, stdin, cmd
	return nil
}

// release takes the entry out of the registry. With the last one the guard ends, and release waits for it, so that
// nothing is left behind when it returns.
func (l *lease) release() {
	l.released.Do(func() {
		g := l.guard
		g.mu.Lock()
		defer g.mu.Unlock()
		_ = os.RemoveAll(l.dir)
		g.leases--
		if g.leases > 0 {
			return
		}
		_ = g.stdin.Close()
		_ = g.cmd.Wait()
	})
}

func (l *lease) pidFile(name string) string { return filepath.Join(l.dir, name+".pid") }

// pid is the process that has registered under name, 0 when there is none.
func (l *lease) pid(name string) int {
	content, err := os.ReadFile(l.pidFile(name))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0
	}
	return pid
}

// launcher writes an executable script that registers and becomes the binary, for a library that wants a path to start.
// A call with --help, by which envtest looks for flags, is passed on as it is.
func (l *lease) launcher(name, binary string) (string, error) {
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = --help ] && exec %[1]s \"$@\"\nset -- %[2]s %[1]s \"$@\"\n%[3]s\n",
		quote(binary), quote(l.pidFile(name)), launchScript)
	path := filepath.Join(l.dir, name)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil { // #nosec G306 -- it is to be executed
		return "", fmt.Errorf("writing the launcher of %s: %w", name, err)
	}
	return path, nil
}

// revoke kills the registered processes of the lease and keeps it from starting others.
func (l *lease) revoke() {
	revoked := filepath.Join(l.guard.dir, filepath.Base(l.dir)+".revoked")
	if err := os.Rename(l.dir, revoked); err != nil {
		return
	}
	pids, _ := fs.Glob(os.DirFS(revoked), "*.pid")
	was := &lease{dir: revoked}
	for _, file := range pids {
		killGroup(was.pid(strings.TrimSuffix(file, ".pid")))
	}
	_ = os.RemoveAll(revoked)
}

func killGroup(pid int) {
	if pid > 0 {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}

func alive(pid int) bool { return pid > 0 && syscall.Kill(pid, 0) == nil }

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// TempDir makes a directory that remove removes, and otherwise the end of this program, however it ends.
func TempDir(pattern string) (dir string, remove func() error, err error) {
	l, err := theGuard.lease()
	if err != nil {
		return "", nil, err
	}
	dir, err = os.MkdirTemp("", pattern)
	if err == nil {
		err = os.WriteFile(filepath.Join(l.dir, "remove"), []byte(dir), 0o600)
	}
	if err != nil {
		l.release()
		return "", nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	return dir, func() error {
		defer l.release()
		// What was killed may still be in its last system call, which may make a file.
		return await(context.Background(), "the directory "+dir+" to go", nil, func(context.Context) error { return os.RemoveAll(dir) })
	}, nil
}

// ensureDir makes dir, or where it is empty a temporary one, which remove removes; a directory that was asked for stays.
func ensureDir(dir, pattern string) (path string, remove func() error, err error) {
	if dir == "" {
		return TempDir(pattern)
	}
	if path, err = filepath.Abs(dir); err == nil {
		err = os.MkdirAll(path, 0o700)
	}
	if err != nil {
		return "", nil, fmt.Errorf("making the directory %s: %w", dir, err)
	}
	return path, func() error { return nil }, nil
}
