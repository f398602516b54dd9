package auditstore

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"
)

// LazyWriter is a Writer on a stream that need not be there yet. With it a process that starts while NATS is away can spool.
type LazyWriter struct {
	js  jetstream.JetStream
	cfg Config

	opening chan struct{} // held by the call that opens the store, so that waiting for it ends with the context
	store   atomic.Pointer[StreamStore]
}

var _ Writer = (*LazyWriter)(nil)

// NewLazyWriter returns a LazyWriter. It asks the server nothing, so that it only returns ErrInvalidConfig. The connection may be
// one that was opened with nats.RetryOnFailedConnect.
func NewLazyWriter(js jetstream.JetStream, cfg Config) (*LazyWriter, error) {
	if err := checkConfig(js, cfg); err != nil {
		return nil, err
	}
	return &LazyWriter{js: js, cfg: cfg, opening: make(chan struct{}, 1)}, nil
}

// Write opens the store as New does, unless an earlier call has, and writes the entry. It returns what New or StreamStore.Write
// return.
func (l *LazyWriter) Write(ctx context.Context, entry Entry) error {
	s, err := l.streamStore(ctx)
	if err != nil {
		return &WriteError{ID: entry.ID, Err: err}
	}
	return s.Write(ctx, entry)
}

func (l *LazyWriter) streamStore(ctx context.Context) (*StreamStore, error) {
	if err := l.opened(); err != nil {
		return nil, err
	}
	if s := l.store.Load(); s != nil {
		return s, nil
	}
	if ctx == nil {
		ctx = context.Background()
	}
	select {
	case l.opening <- struct{}{}:
		defer func() { <-l.opening }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: another call is opening the stream: %w", ErrNotReady, ctx.Err())
	}
	if s := l.store.Load(); s != nil {
		return s, nil
	}
	s, err := New(ctx, l.js, l.cfg)
	if err == nil {
		l.store.Store(s)
	}
	return s, err
}

// opened lets a nil or zero LazyWriter fail with an error.
func (l *LazyWriter) opened() error {
	if l == nil || l.js == nil {
		return fmt.Errorf("%w: the store was not made by NewLazyWriter", ErrInvalidConfig)
	}
	return nil
}

func (l *LazyWriter) handle() (jetstream.JetStream, string) { return l.js, l.cfg.Stream }
