package testenv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/osapi-io/auditstream-operator/internal/freeport"
)

// ServiceOptions says what to start.
type ServiceOptions struct {
	// Binary is the program: one that listens on $ADDRESS and has /readyz, as examples/service does.
	Binary string
	// Env is added to this program's environment, without the variables that lead to a NATS server or a binding.
	Env []string
	// LogFile is where the service's log goes.
	LogFile string
}

// Service is a workload as a process.
type Service struct {
	// URL is where it serves.
	URL string

	proc *process
}

// StartService returns once /readyz answers.
func StartService(ctx context.Context, opts ServiceOptions) (*Service, error) {
	port, err := freeport.Next()
	if err != nil {
		return nil, err
	}
	s := &Service{URL: "http://" + address(port)}
	env := slices.DeleteFunc(managerEnv(), func(variable string) bool {
		return strings.HasPrefix(variable, "AUDITSTORE_") || strings.HasPrefix(variable, "SERVICE_BINDING_ROOT=")
	})
	s.proc, err = startProcess(command{
		name: "service", path: opts.Binary, env: append(append(env, opts.Env...), "ADDRESS="+address(port)), log: opts.LogFile,
	})
	if err != nil {
		return nil, err
	}
	if err := await(ctx, "/readyz to answer", s.proc.done, func(ctx context.Context) error { return probe(ctx, s.URL+"/readyz") }); err != nil {
		return nil, errors.Join(s.proc.failed(err), s.proc.kill())
	}
	return s, nil
}

// Done is closed when the process has ended.
func (s *Service) Done() <-chan struct{} { return s.proc.done }

// Err is how the process ended, nil for exit status 0 and while it runs.
func (s *Service) Err() error {
	if s.proc.running() {
		return nil
	}
	return s.proc.err
}

// Stop ends the service with SIGTERM, and says so where it did not end by itself, or not well. Stopping again does nothing.
func (s *Service) Stop() error {
	if !s.proc.running() {
		return s.ended()
	}
	return errors.Join(s.proc.stop(stopGrace), s.ended())
}

func (s *Service) ended() error {
	if s.proc.err == nil {
		return nil
	}
	return fmt.Errorf("the service ended with %w%s", s.proc.err, lastLines(s.proc.log))
}
