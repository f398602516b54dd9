package jsclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	dialTimeout     = 3 * time.Second
	reconnectWait   = time.Second
	reconnectJitter = time.Second
	// A peer that vanished without closing the connection is noticed after pingInterval * (maxPingsOut + 1).
	pingInterval = 10 * time.Second
	maxPingsOut  = 2
	flushTimeout = 10 * time.Second
)

// errNotArmed is what the dialer answers before the connection object has been handed over. nats.go dials the first
// time inside Connect, with the caller waiting; refusing that first try moves all dialing to the background.
var errNotArmed = errors.New("not dialing yet")

// gate holds the dialing back until the connection object is known to the client.
type gate struct {
	armed chan struct{}
	once  sync.Once
	net.Dialer
}

func newGate() *gate {
	return &gate{armed: make(chan struct{}), Dialer: net.Dialer{Timeout: dialTimeout}}
}

// Dial implements nats.CustomDialer.
func (g *gate) Dial(network, address string) (net.Conn, error) {
	select {
	case <-g.armed:
		return g.Dialer.Dial(network, address)
	default:
		return nil, errNotArmed
	}
}

// delay is called by nats.go each time it has tried all servers, and says how long to wait before the next round. The
// very first round has failed at the gate, so the second follows at once.
func (g *gate) delay() time.Duration {
	wait := reconnectWait + rand.N(reconnectJitter)
	g.once.Do(func() {
		<-g.armed
		wait = 0
	})
	return wait
}

// dial makes the connection object. It does not touch the network and fails only for a configuration that NATS could
// never be reached with.
func (c *Client) dial() error {
	g := newGate()
	nc, err := c.connectOptions(g).Connect()
	if err != nil {
		return err
	}
	js, err := newJetStream(nc, c.cfg.Domain)
	if err != nil {
		nc.Close()
		return err
	}
	c.link.Store(&link{nc: nc, js: js})
	close(g.armed)
	return nil
}

func newJetStream(nc *nats.Conn, domain string) (jetstream.JetStream, error) {
	if domain == "" {
		return jetstream.New(nc, jetstream.WithDefaultTimeout(requestTimeout))
	}
	return jetstream.NewWithDomain(nc, domain, jetstream.WithDefaultTimeout(requestTimeout))
}

func (c *Client) connectOptions(g *gate) nats.Options {
	o := nats.GetDefaultOptions()
	o.Servers = splitURLs(c.cfg.URL)
	o.Name = c.opts.Name
	o.CustomDialer = g
	o.Timeout = dialTimeout
	// The dialer resolves names itself, within its time-out; nats.go would do so without any, holding its lock.
	o.SkipHostLookup = true

	o.RetryOnFailedConnect = true
	o.MaxReconnect = -1
	o.IgnoreAuthErrorAbort = true
	o.CustomReconnectDelayCB = func(int) time.Duration {
		c.noteLastError()
		return g.delay()
	}
	// nats.go would keep what is sent during an outage and send it once it is connected again. A STREAM.CREATE or a
	// STREAM.DELETE that arrives minutes after its caller gave up is a hazard, so there is no such buffer: requests
	// during an outage fail at once.
	o.ReconnectBufSize = -1
	o.PingInterval = pingInterval
	o.MaxPingsOut = maxPingsOut
	o.FlusherTimeout = flushTimeout
	o.ReconnectOnFlusherError = true

	o.ConnectedCB = c.onConnected
	o.ReconnectedCB = c.onConnected
	o.DisconnectedErrCB = c.onDisconnected
	o.ReconnectErrCB = func(_ *nats.Conn, err error) { c.noteFailure(err) }
	o.AsyncErrorCB = c.onAsyncError
	o.ClosedCB = c.onClosed
	c.setCredentials(&o)
	c.setTLS(&o)
	return o
}

// setCredentials has nats.go read the files anew for each connection. It sets the callbacks directly, because the
// options that nats.go has for them read the files at once and fail for good when one is not there yet.
func (c *Client) setCredentials(o *nats.Options) {
	cfg := c.cfg
	switch {
	case cfg.CredsFile != "":
		o.UserJWT = func() (string, error) {
			jwt, err := readJWT(cfg.CredsFile)
			return jwt, c.secrets.note(err)
		}
		o.SignatureCB = func(nonce []byte) ([]byte, error) { return signNonce(cfg.CredsFile, nonce) }
	case cfg.User != "":
		o.UserInfo = func() (string, string) {
			password, err := readSecret("--nats-password-file", cfg.PasswordFile)
			_ = c.secrets.note(err)
			return cfg.User, password
		}
	case cfg.TokenFile != "":
		o.TokenHandler = func() string {
			token, err := readSecret("--nats-token-file", cfg.TokenFile)
			_ = c.secrets.note(err)
			return token
		}
	}
}

func (c *Client) setTLS(o *nats.Options) {
	cfg := c.cfg
	// Also used when it is the server that asks for TLS.
	o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		o.Secure = true
		o.RootCAsCB = func() (*x509.CertPool, error) { return readCAs(cfg.CAFile) }
	}
	if cfg.CertFile != "" {
		o.Secure = true
		o.TLSCertCB = func() (tls.Certificate, error) { return readKeyPair(cfg.CertFile, cfg.KeyFile) }
	}
}

// secrets remembers the last fault of reading credentials. Some of nats.go's callbacks cannot return an error, so that
// the server is then shown empty credentials and answers only that they are wrong.
type secrets struct {
	mu  sync.Mutex
	err error
}

func (s *secrets) note(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	return err
}

func (s *secrets) fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
