package jsclient

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// subscribeTimeout bounds how long the server's word on subscriptions is waited for before Connected is delivered.
const subscribeTimeout = time.Second

// Client is one connection to NATS with its identity. It is safe for concurrent use.
type Client struct {
	cfg     Config
	opts    PoolOptions
	log     logr.Logger
	metrics *metrics
	secrets secrets
	state   *state
	events  *eventQueue
	buckets buckets

	// link is replaced when nats.go closes a connection for good, which some protocol errors make it do.
	link       atomic.Pointer[link]
	advisories chan *nats.Msg

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

type link struct {
	nc *nats.Conn
	js jetstream.JetStream

	mu         sync.Mutex
	advisories []*nats.Subscription
}

func newClient(cfg Config, opts PoolOptions, m *metrics) (*Client, error) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{
		cfg: cfg, opts: opts, metrics: m, ctx: ctx, cancel: cancel,
		log:        opts.Log.WithValues("servers", cfg.String()),
		events:     newEventQueue(),
		advisories: make(chan *nats.Msg, advisoryBuffer),
	}
	c.buckets.client = c
	c.state = newState(opts.DisconnectedAfter, c.onDisconnectedLong)
	if err := c.dial(); err != nil {
		c.state.close()
		cancel()
		return nil, err
	}
	m.open(cfg)
	c.wg.Go(c.readAdvisories)
	c.wg.Go(c.watch)
	go c.events.deliver(ctx, func(e Event) { opts.OnEvent(cfg, e) })
	return c, nil
}

// JetStream gives access to what this package does not wrap. Requests without a deadline of their own are given 5 s;
// a context with a deadline replaces that, so callers should keep theirs short. Errors are raw: pass them to Explain.
// Ask for it anew for each piece of work, since the connection below can be replaced.
func (c *Client) JetStream() jetstream.JetStream { return c.link.Load().js }

// Connected says whether the connection is up.
func (c *Client) Connected() bool { return c.state.isConnected() }

// Settled is closed once the first try to connect has failed, or has succeeded and the server has taken or refused the
// subscriptions to advisories. Before that Err says that the client is still connecting, which after a start of the operator is
// no news; requests wait for it by themselves.
func (c *Client) Settled() <-chan struct{} { return c.state.settled }

// Err returns nil when the connection is up, otherwise a *failure.Waiting that says why not: NATSUnavailable, or
// AuthenticationFailed when a server has refused the credentials.
func (c *Client) Err() error {
	return c.state.err(c.cfg, c.secrets.fault())
}

func (c *Client) close() {
	c.cancel()
	if c.state.close() {
		c.metrics.down(c.cfg)
	}
	c.link.Load().nc.Close()
	c.wg.Wait()
	c.metrics.close(c.cfg)
}

func (c *Client) closing() bool { return c.ctx.Err() != nil }

func (c *Client) onConnected(nc *nats.Conn) {
	if c.closing() {
		return
	}
	if c.state.connect(nc.ConnectedServerVersion(), nc.ConnectedDomain()) {
		c.metrics.up(c.cfg)
	}
	c.log.Info("Connected to NATS", "server", nc.ConnectedServerName(), "address", nc.ConnectedAddr(), "version", nc.ConnectedServerVersion())
	// The subscriptions go first, and the server has seen them: whoever reads after Connected misses nothing that
	// happens later. Where the answer does not come the connection breaks, and Connected comes again.
	c.subscribeAdvisories()
	c.buckets.subscribeAll()
	_ = nc.FlushTimeout(subscribeTimeout)
	// A refusal is handed to the error handler after this callback only, and who has waited for the first connection would not know.
	if err := nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		c.onViolation(err)
	}
	c.state.settleNow()
	c.events.push(Event{Kind: Connected})
}

func (c *Client) onDisconnected(_ *nats.Conn, err error) {
	if c.closing() {
		return
	}
	if c.state.disconnect(c.cfg) {
		c.metrics.lost(c.cfg)
	}
	c.log.Info("Lost the connection to NATS", "cause", causeText(err))
	c.noteFailure(err)
}

func (c *Client) onDisconnectedLong() {
	c.log.Info("NATS has been out of reach", "for", c.opts.DisconnectedAfter.String(), "cause", causeText(c.Err()))
	c.events.push(Event{Kind: Disconnected})
}

// onClosed makes a new connection when nats.go has given up the old one. It does so after errors of the protocol that
// it does not know, whatever it was told about reconnecting.
func (c *Client) onClosed(nc *nats.Conn) {
	if c.closing() || c.link.Load().nc != nc {
		return
	}
	if c.state.disconnect(c.cfg) {
		c.metrics.lost(c.cfg)
	}
	c.noteFailure(nc.LastError())
	c.log.Info("NATS closed the connection, making a new one", "cause", causeText(nc.LastError()))
	go c.redial()
}

func (c *Client) redial() {
	select {
	case <-c.ctx.Done():
		return
	case <-time.After(reconnectWait):
	}
	if err := c.dial(); err != nil {
		c.log.Error(err, "Could not make a new connection to NATS")
		return
	}
	if c.closing() {
		c.link.Load().nc.Close()
	}
}

func (c *Client) onAsyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		c.onViolation(err)
	case errors.Is(err, nats.ErrSlowConsumer):
		c.onSlowConsumer(sub)
	default:
		c.noteFailure(err)
	}
}

// noteLastError picks up what nats.go reports to no callback: errors of the handshake while it has never been
// connected, and those of TLS.
func (c *Client) noteLastError() {
	if l := c.link.Load(); l != nil {
		c.noteFailure(l.nc.LastError())
	}
}

// noteFailure records why there is no connection, and logs each cause once until the next connection.
func (c *Client) noteFailure(err error) {
	if err == nil || c.closing() || errors.Is(err, errNotArmed) || errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	if c.state.fail(err) {
		c.log.Info("Could not connect to NATS, trying again for ever", "cause", causeText(c.Err()))
	}
}

func causeText(err error) string {
	if err == nil {
		return "closed on purpose"
	}
	return stableText(err)
}
