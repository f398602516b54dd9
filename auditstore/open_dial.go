package auditstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// errNotItsTurn is what the dialer answers for all servers but the one that is tried.
var errNotItsTurn = errors.New("not this server's turn")

// dialer dials for nats.go, and lets Open and Close end a try that is under way: nats.go has no context, and holds the lock of the
// connection while it dials.
type dialer struct {
	inner  nats.CustomDialer // the caller's, or nil
	plain  net.Dialer
	ctx    context.Context
	cancel context.CancelFunc
	failed func(host string, err error)

	mu   sync.Mutex
	only string // the one host that may be dialed, while Open tries one server after the other
	last net.Conn
}

func newDialer(o nats.Options, failed func(host string, err error)) *dialer {
	d := &dialer{inner: o.CustomDialer, failed: failed, plain: net.Dialer{Timeout: o.Timeout}}
	if o.Dialer != nil {
		d.plain = *o.Dialer
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Dial implements nats.CustomDialer. The name is resolved here, within the time-out, where nats.go would do so without any.
func (d *dialer) Dial(network, host string) (net.Conn, error) {
	d.mu.Lock()
	only := d.only
	d.mu.Unlock()
	if only != "" && only != host {
		return nil, errNotItsTurn
	}
	var conn net.Conn
	var err error
	if d.inner != nil {
		conn, err = d.inner.Dial(network, host)
	} else {
		conn, err = d.plain.DialContext(d.ctx, network, host)
	}
	if err != nil {
		d.failed(host, err)
		return nil, err
	}
	d.mu.Lock()
	d.last = conn
	d.mu.Unlock()
	if d.ctx.Err() != nil { // aborted meanwhile
		_ = conn.Close()
	}
	return conn, nil
}

// SkipTLSHandshake passes on what a dialer of the caller's says; nats.go asks for it.
func (d *dialer) SkipTLSHandshake() bool {
	inner, asks := d.inner.(interface{ SkipTLSHandshake() bool })
	return asks && inner.SkipTLSHandshake()
}

func (d *dialer) restrict(host string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.only = host
}

// abort ends what is being dialed, also past the TCP connection, and all dialing from now on.
func (d *dialer) abort() {
	d.cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != nil {
		_ = d.last.Close()
	}
}

// establish tries until a server has taken a new connection or the context ends.
//
// nats.go could do so in the background (RetryOnFailedConnect), but then keeps to itself why a server refuses: it reports only
// the last error of a round, and not even that one where the connection was refused.
func (c *Client) establish(ctx context.Context, message string) error {
	var why dialReasons
	for round := 1; ; round++ {
		if nc := c.round(ctx, &why); nc != nil {
			return c.use(nc, message)
		}
		if !pause(ctx, reconnectDelay(c.given, round)) {
			return fmt.Errorf("%w: not connected in time (%w): %w", ErrNotReady, context.Cause(ctx), why.join())
		}
	}
}

func (c *Client) use(nc *nats.Conn, message string) error {
	s, err := newSession(nc, c.target.domain)
	if err != nil {
		nc.Close()
		return fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	if !c.link.install(s, message) {
		nc.Close()
		return fmt.Errorf("%w: %w", ErrNotReady, c.link.fault())
	}
	if c.link.ended(nc) { // before anybody was told of it
		go c.replace()
	}
	return nil
}

// replace goes on until there is a connection or the store is closed.
func (c *Client) replace() {
	// The error is that the store was closed.
	_ = c.establish(c.dialer.ctx, "Reconnected to NATS")
}

// round tries each server of the binding once, in a random order. It returns nil where none took the connection.
func (c *Client) round(ctx context.Context, why *dialReasons) *nats.Conn {
	t, err := c.link.binding.target()
	if err != nil {
		why.note(c.link.binding.name, err)
		return nil
	}
	for _, i := range rand.Perm(len(t.servers)) {
		nc, err := c.try(t.servers, i)
		switch {
		case err == nil:
			c.link.setServers(t.servers)
			return nc
		case ctx.Err() != nil:
			return nil // the error is that of the abort
		}
		why.note(t.servers[i].String(), c.link.serverFailed(t.servers[i], err))
	}
	return nil
}

// try has nats.go know all servers but dial only one. It is the last one, because nats.go returns the error of the last.
func (c *Client) try(servers []serverURL, i int) (*nats.Conn, error) {
	chosen := servers[i]
	options := c.options
	for _, s := range slices.Concat(servers[i+1:], servers[:i+1]) {
		options.Servers = append(options.Servers, s.String())
	}
	options.NoRandomize = true
	c.link.forgetDial()
	c.dialer.restrict(chosen.host)
	defer c.dialer.restrict("")
	nc, err := options.Connect() //nolint:forbidigo // the package that workloads import cannot use internal/jsclient
	if errors.Is(err, nats.ErrNoServers) {
		err = c.link.dialError(err) // nats.go's word for a connection that was refused
	}
	return nc, err
}

// dialReasons are the last error of each server, in the order in which they first failed.
type dialReasons struct {
	names []string
	errs  map[string]error
}

func (r *dialReasons) note(name string, err error) {
	if r.errs == nil {
		r.errs = map[string]error{}
	}
	if r.errs[name] == nil {
		r.names = append(r.names, name)
	}
	r.errs[name] = err
}

func (r *dialReasons) join() error {
	if len(r.names) == 0 {
		return errors.New("no server has answered")
	}
	formats, args := make([]string, len(r.names)), make([]any, len(r.names))
	for i, name := range r.names {
		formats[i], args[i] = "%w", r.errs[name]
	}
	return fmt.Errorf(strings.Join(formats, "; "), args...)
}

// reconnectDelay is how long to wait between two rounds. Services that lost the same server do not all come back at once.
func reconnectDelay(given nats.Options, round int) time.Duration {
	if given.CustomReconnectDelayCB != nil {
		return given.CustomReconnectDelayCB(round)
	}
	wait := given.ReconnectWait
	if given.ReconnectJitter > 0 {
		wait += rand.N(given.ReconnectJitter)
	}
	return wait
}
