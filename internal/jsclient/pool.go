package jsclient

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	defaultDisconnectedAfter = 5 * time.Second
	defaultFileInterval      = 5 * time.Second
	defaultName              = "auditstream-operator"
)

// ErrPoolClosed is returned by Get once the pool is closed.
var ErrPoolClosed = errors.New("the NATS connections are closed: the operator is shutting down")

// PoolOptions are what all connections of a pool have in common. The zero value is usable.
type PoolOptions struct {
	// Log receives what happens to the connections.
	Log logr.Logger
	// OnEvent receives the events of all connections. For one connection it is called from one goroutine, in order. It
	// may block, which delays later events and has equal ones merged, but must not call Close.
	OnEvent func(Config, Event)
	// Name is the connections' name, as the server lists it. The default is auditstream-operator.
	Name string
	// Metrics, if set, registers the metrics of the connections.
	Metrics prometheus.Registerer
	// DisconnectedAfter is how long NATS must be out of reach before Disconnected is delivered. The default is 5 s.
	DisconnectedAfter time.Duration
	// FileInterval is how often the files of credentials and certificates are looked at. The default is 5 s.
	FileInterval time.Duration

	// deniedRetry is how often forbidden subscriptions are tried again.
	deniedRetry time.Duration
}

// Pool holds one connection for each identity.
type Pool struct {
	opts    PoolOptions
	metrics *metrics

	mu      sync.Mutex
	closed  bool
	clients map[Config]*Client
}

// NewPool returns a pool without connections.
func NewPool(opts PoolOptions) *Pool {
	if opts.Log.GetSink() == nil {
		opts.Log = logr.Discard()
	}
	if opts.Name == "" {
		opts.Name = defaultName
	}
	if opts.OnEvent == nil {
		opts.OnEvent = func(Config, Event) {}
	}
	if opts.DisconnectedAfter <= 0 {
		opts.DisconnectedAfter = defaultDisconnectedAfter
	}
	if opts.FileInterval <= 0 {
		opts.FileInterval = defaultFileInterval
	}
	if opts.deniedRetry <= 0 {
		opts.deniedRetry = slowRetry
	}
	return &Pool{opts: opts, metrics: newMetrics(opts.Metrics, opts.Log), clients: map[Config]*Client{}}
}

// Get returns the client of an identity, and begins to connect in the background when it is the first to ask. It does
// not wait and does not fail because NATS is down or a file is missing; Err of the client says so. It fails for a
// configuration that contradicts itself, and after Close.
func (p *Pool) Get(cfg Config) (*Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrPoolClosed
	}
	if c, ok := p.clients[cfg]; ok {
		return c, nil
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c, err := newClient(cfg, p.opts, p.metrics)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection to %s: %w", cfg, err)
	}
	p.clients[cfg] = c
	return c, nil
}

// Close closes all connections. Requests that are under way fail. No event begins to be delivered afterwards, but one
// that is being delivered is not waited for.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	clients := p.clients
	p.clients = nil
	p.mu.Unlock()

	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(c.close)
	}
	wg.Wait()
}
