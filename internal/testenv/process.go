package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	stopGrace    = 15 * time.Second
	logTailLines = 20
)

// command is what to start.
type command struct {
	name string
	path string
	args []string
	// env is the whole environment; nil is this program's.
	env []string
	// log is the file that gets what the process writes; it is appended to.
	log string
}

// process is a started command. It leads a process group of its own, so that Ctrl-C in the terminal reaches this
// program only, which then stops everything in order.
type process struct {
	command
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; read it once done is closed
}

func startProcess(c command) (*process, error) {
	if err := os.MkdirAll(filepath.Dir(c.log), 0o700); err != nil {
		return nil, fmt.Errorf("starting %s: making the directory of its log: %w", c.name, err)
	}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting %s: opening its log: %w", c.name, err)
	}
	defer func() { _ = log.Close() }()
	l, err := theGuard.lease()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.name, err)
	}
	args := append([]string{"-c", launchScript, "sh", l.pidFile(c.name), c.path}, c.args...)
	cmd := exec.Command("/bin/sh", args...) // #nosec G204 -- running a given command is what this is for
	cmd.Env = c.env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		l.release()
		return nil, fmt.Errorf("starting %s: %w", c.name, err)
	}
	p := &process{command: c, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		l.release()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process with SIGKILL and returns once it is gone. It may have ended before.
func (p *process) kill() error {
	if err := syscall.Kill(-p.pid(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("killing %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// stop ends the process with SIGTERM, and with SIGKILL when it takes longer than grace, which is an error.
func (p *process) stop(grace time.Duration) error {
	if !p.running() {
		return nil
	}
	if err := syscall.Kill(p.pid(), syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stopping %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
		return errors.Join(fmt.Errorf("stopping %s: it was still running %s after SIGTERM and was killed", p.name, grace), p.kill())
	}
}

// failed adds what the process wrote last to an error of its start.
func (p *process) failed(err error) error {
	return fmt.Errorf("starting %s: %w%s", p.name, err, lastLines(p.log))
}

// LogTail returns the last lines of a log file, and an empty string when it cannot be read.
func LogTail(file string, lines int) string {
	content, err := os.ReadFile(file) // #nosec G304 -- a log that this program had written
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func lastLines(file string) string {
	tail := LogTail(file, logTailLines)
	if tail == "" {
		return ""
	}
	return fmt.Sprintf("\nlast lines of %s:\n%s", file, tail)
}
