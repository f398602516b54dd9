package upgrade

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

const (
	// pace is the time between two entries of the service, and between two pages that somebody reads.
	pace = 20 * time.Millisecond
	// callTimeout is the deadline that the service gives to each of its calls.
	callTimeout = 20 * time.Second
)

// service writes a trail and reads it back, all the time, as a workload does that knows nothing of the operator.
type service struct {
	store auditstore.Store
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu     sync.Mutex
	stored []string // the ids that were acknowledged, in their order
	pages  int
	errs   []error
}

func startService(ctx context.Context, store auditstore.Store) *service {
	s := &service{store: store}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, work := range []func(context.Context) error{s.write, s.read} {
		s.done.Go(func() { s.every(ctx, work) })
	}
	return s
}

// every goes on after an error: how many there were is worth knowing.
func (s *service) every(ctx context.Context, work func(context.Context) error) {
	ticks := time.NewTicker(pace)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		err := work(call)
		cancel()
		if err != nil {
			s.mu.Lock()
			s.errs = append(s.errs, fmt.Errorf("at %s: %w", time.Now().Format(time.TimeOnly), err))
			s.mu.Unlock()
		}
	}
}

func (s *service) write(ctx context.Context) error {
	entry := auditstore.Entry{ID: auditstore.NewID(), Timestamp: time.Now(), User: "alice", Method: "POST", Path: "/jobs"}
	if err := s.store.Write(ctx, entry); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = append(s.stored, entry.ID)
	return nil
}

// read gets the entry that was acknowledged last, and a page.
func (s *service) read(ctx context.Context) error {
	s.mu.Lock()
	last := ""
	if n := len(s.stored); n > 0 {
		last = s.stored[n-1]
	}
	s.mu.Unlock()
	if last == "" {
		return nil
	}
	if _, err := s.store.Get(ctx, last); err != nil {
		return fmt.Errorf("reading %s, which was acknowledged: %w", last, err)
	}
	page, _, err := s.store.List(ctx, 20, 0)
	if err != nil {
		return fmt.Errorf("reading a page: %w", err)
	}
	if len(page) == 0 {
		return errors.New("reading a page: it has no entries")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages++
	return nil
}

// soFar is how much was written and read.
func (s *service) soFar() (entries, pages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.stored), s.pages
}

// failed is every call that has failed.
func (s *service) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

// end ends the service and returns the ids of what it has stored.
func (s *service) end() []string {
	s.stop()
	s.done.Wait()
	return s.stored
}
