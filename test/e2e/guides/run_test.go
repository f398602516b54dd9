package guides

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/onsi/gomega/gbytes"
)

// run runs a command of the guide and compares what it prints with what the guide shows.
func (g *guide) run(ctx context.Context, c command) error {
	if c.endless() {
		return g.runUntilShown(ctx, c)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*soon)
	defer cancel()
	for deadline := time.Now().Add(soon); ; time.Sleep(poll) {
		out, err := g.shell(ctx, c.text).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("line %d of the guide: %s: %w\n%s", c.line, c.text, err, out)
		} else {
			err = c.missing(string(out))
		}
		if err == nil || !c.repeatable() || time.Now().After(deadline) {
			return err
		}
	}
}

// runUntilShown ends the command once it has printed what it should.
func (g *guide) runUntilShown(ctx context.Context, c command) error {
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	out := gbytes.NewBuffer()
	cmd := g.shell(ctx, c.text)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		err := c.missing(string(out.Contents()))
		select {
		case ran := <-ended:
			return fmt.Errorf("line %d of the guide: %s has ended: %w: %w", c.line, c.text, ran, err)
		case <-time.After(poll):
		}
		if err == nil {
			cancel()
			g.t.Logf("Ended the watch: %v", <-ended)
			return nil
		}
	}
}

// shell is the command as a process group of its own, which ends as a whole.
func (g *guide) shell(ctx context.Context, text string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", text) // #nosec G204 -- the guide's commands are what is tested
	cmd.Dir, cmd.Env = g.dir, g.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}
