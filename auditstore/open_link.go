package auditstore

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// maxNews is how many different errors are logged between two connections. Texts may hold a local port or an id, so that there
// is no end to them.
const maxNews = 16

// link is what is known about the connection. nats.go's own methods wait for a lock that it holds while it dials, so what has to
// answer at once asks here.
type link struct {
	log     *slog.Logger
	binding *binding
	replace func() // makes a new connection in place of one that nats.go has closed

	id    identity // read and used by nats.go within one try
	idErr error

	mu      sync.Mutex
	session *session
	servers []serverURL
	down    bool
	closed  bool
	dialErr error
	refused error
	last    error
	seen    map[string]bool
}

func newLink(log *slog.Logger, b *binding) *link {
	return &link{log: log, binding: b, seen: map[string]bool{}}
}

// adopt adds what Open stands for to the caller's options.
func (l *link) adopt(o *nats.Options, d *dialer) {
	o.CustomDialer = d
	o.SkipHostLookup = true
	o.AllowReconnect, o.MaxReconnect = true, -1
	// By default nats.go closes the connection for good when a server gives the same authentication error twice.
	o.IgnoreAuthErrorAbort = true
	o.RetryOnFailedConnect = false
	// nats.go would keep what is published during an outage and send it afterwards. A write that was reported as failed
	// would then be stored long after, and each of its tries would be kept. The expected last sequence would keep
	// them from being stored twice; without a buffer the question does not arise.
	o.ReconnectBufSize = -1
	l.setCredentials(o)
	l.setTLS(o)
	l.setCallbacks(o)
}

// setCredentials has nats.go read the binding anew for each try. It asks for the user first, whose callback has no error to
// return; that of the JWT has.
func (l *link) setCredentials(o *nats.Options) {
	o.UserInfo = func() (user, password string) {
		l.id, l.idErr = l.binding.identity()
		return l.id.user, l.id.password
	}
	o.UserJWT = func() (string, error) { return l.id.jwt, l.idErr }
	o.SignatureCB = func(nonce []byte) ([]byte, error) { return l.id.sign(nonce) }
	o.TokenHandler = func() string { return l.id.token }
}

func (l *link) setTLS(o *nats.Options) {
	if l.binding.has(keyCA) {
		o.Secure = true
		o.RootCAsCB = func() (*x509.CertPool, error) {
			pool, err := l.binding.neededCAs()
			l.tryFailed(err)
			return pool, err
		}
	}
	if l.binding.has(keyCert) {
		o.Secure = true
		o.TLSCertCB = func() (tls.Certificate, error) {
			pair, err := l.binding.certificate()
			l.tryFailed(err)
			return pair, err
		}
	}
}

// setCallbacks puts ours before the caller's.
func (l *link) setCallbacks(o *nats.Options) {
	given := *o
	o.CustomReconnectDelayCB = func(round int) time.Duration {
		// The only place to learn of a TLS handshake that failed.
		if s := l.now(); s != nil {
			l.tryFailed(s.nc.LastError())
		}
		return reconnectDelay(given, round)
	}
	o.DisconnectedErrCB = func(nc *nats.Conn, err error) {
		l.lost(err)
		l.followServers(nc)
		if given.DisconnectedErrCB != nil {
			given.DisconnectedErrCB(nc, err)
		} else if given.DisconnectedCB != nil {
			given.DisconnectedCB(nc)
		}
	}
	o.ReconnectErrCB = func(nc *nats.Conn, err error) {
		l.tryFailed(err)
		l.followServers(nc)
		if given.ReconnectErrCB != nil {
			given.ReconnectErrCB(nc, err)
		}
	}
	o.ReconnectedCB = func(nc *nats.Conn) {
		l.up("Reconnected to NATS", nc)
		if given.ReconnectedCB != nil {
			given.ReconnectedCB(nc)
		}
	}
	o.AsyncErrorCB = func(nc *nats.Conn, sub *nats.Subscription, err error) {
		l.reported(err)
		l.followServers(nc)
		if given.AsyncErrorCB != nil {
			given.AsyncErrorCB(nc, sub, err)
		}
	}
	o.ClosedCB = func(nc *nats.Conn) {
		again := l.ended(nc)
		if given.ClosedCB != nil {
			given.ClosedCB(nc)
		}
		if again {
			go l.replace()
		}
	}
}
