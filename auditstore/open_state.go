package auditstore

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
)

// fault says why there is no connection. It matches nats.ErrConnectionClosed once the store was closed.
func (l *link) fault() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return fmt.Errorf("the store was closed: %w", nats.ErrConnectionClosed)
	case !l.down:
		return nil
	case l.refused == nil:
		return fmt.Errorf("no connection to NATS: %w", l.last)
	case l.last == nil:
		return fmt.Errorf("no connection to NATS: %w", l.refused)
	}
	return fmt.Errorf("no connection to NATS: %w (and: %w)", l.refused, l.last)
}

// now is the connection of the moment, be it up or down.
func (l *link) now() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session
}

func (l *link) setServers(servers []serverURL) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.servers = servers
}

// install makes the session the one of the moment, unless the store was closed meanwhile.
func (l *link) install(s *session, message string) bool {
	l.mu.Lock()
	closed := l.closed
	if !closed {
		l.session = s
	}
	l.mu.Unlock()
	if !closed {
		l.up(message, s.nc)
	}
	return !closed
}

func (l *link) up(message string, nc *nats.Conn) {
	l.mu.Lock()
	l.down, l.refused, l.last = false, nil, nil
	clear(l.seen)
	closed := l.closed
	l.mu.Unlock()
	if !closed {
		l.log.Info(message, "binding", l.binding.name, "server", nc.ConnectedUrlRedacted())
	}
}

func (l *link) lost(err error) {
	if err == nil {
		err = nats.ErrDisconnected
	}
	l.mu.Lock()
	l.down, l.last = true, err
	closed := l.closed
	l.mu.Unlock()
	if !closed {
		l.log.Warn("Lost the connection to NATS", "binding", l.binding.name, "error", err)
	}
}

// tryFailed takes down why a try to reconnect failed.
func (l *link) tryFailed(err error) {
	if err == nil {
		return
	}
	err = l.describe("NATS", err)
	l.mu.Lock()
	l.take(err)
	news := l.down && l.isNews(err)
	l.mu.Unlock()
	if news {
		l.log.Warn("Failed to reconnect to NATS, trying again", "binding", l.binding.name, "error", err)
	}
}

// take is called with the lock held. A refusal counts also where it comes just before the loss.
func (l *link) take(err error) {
	switch {
	case errors.Is(err, ErrUnauthorized):
		l.refused = err
	case l.down:
		l.last = err
	}
}

// reported takes down an error that nats.go reports for a connection, which may be up.
func (l *link) reported(err error) {
	l.tryFailed(err)
	l.mu.Lock()
	news := !l.down && l.isNews(err)
	l.mu.Unlock()
	if news {
		l.log.Warn("NATS reported an error", "binding", l.binding.name, "error", err)
	}
}

// serverFailed says why the server did not take a new connection.
func (l *link) serverFailed(s serverURL, err error) error {
	err = l.describe(s.String(), err)
	l.mu.Lock()
	if l.session != nil { // this is not Open, which reports it itself
		l.take(err)
	}
	news := l.isNews(err)
	l.mu.Unlock()
	if news {
		l.log.Warn("Failed to connect to NATS, trying again", "binding", l.binding.name, "server", s.String(), "error", err)
	}
	return fmt.Errorf("%s: %w", s, err)
}

// dialFailed is called by the dialer, while nats.go holds its lock.
func (l *link) dialFailed(_ string, err error) {
	l.mu.Lock()
	l.dialErr = err
	l.mu.Unlock()
}

func (l *link) forgetDial() { l.dialFailed("", nil) }

func (l *link) dialError(otherwise error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dialErr == nil {
		return otherwise
	}
	return l.dialErr
}

// ended says whether nats.go has closed the connection of the moment without being asked to. It says so once.
func (l *link) ended(nc *nats.Conn) bool {
	l.mu.Lock()
	ended := !l.closed && l.session != nil && l.session.nc == nc && !l.session.ended && nc.IsClosed()
	if ended {
		l.session.ended, l.down = true, true
		if l.last = nc.LastError(); l.last == nil {
			l.last = nats.ErrDisconnected // and not ErrConnectionClosed, which would end a write
		}
	}
	reason := l.last
	l.mu.Unlock()
	if ended {
		l.log.Warn("The connection to NATS was closed, opening another", "binding", l.binding.name, "error", reason)
	}
	return ended
}

// close reports whether the link was open.
func (l *link) close() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := !l.closed
	l.closed = true
	return was
}

// isNews is called with the lock held. The local port differs with every try.
func (l *link) isNews(err error) bool {
	text := err.Error()
	var network *net.OpError
	if errors.As(err, &network) && network.Source != nil {
		text = strings.ReplaceAll(text, network.Source.String(), "")
	}
	if l.seen[text] || len(l.seen) >= maxNews {
		return false
	}
	l.seen[text] = true
	return true
}

// followServers takes up the uri of the binding as it is now. nats.go tries the new servers when it next reconnects.
func (l *link) followServers(nc *nats.Conn) {
	t, err := l.binding.target()
	if err != nil {
		l.tryFailed(err)
		return
	}
	l.mu.Lock()
	old := l.servers
	l.mu.Unlock()
	if len(old) == 0 || slices.Equal(old, t.servers) {
		return
	}
	if old[0].isWebSocket() != t.servers[0].isWebSocket() || anyTLS(old) != anyTLS(t.servers) {
		l.tryFailed(fmt.Errorf("%s now asks for another kind of connection: open the store anew", l.binding.at(keyURI).name))
		return
	}
	urls := make([]string, len(t.servers))
	for i, s := range t.servers {
		urls[i] = s.String()
	}
	if err := nc.SetServerPool(urls); err == nil {
		l.setServers(t.servers)
	}
}

func anyTLS(servers []serverURL) bool { return slices.ContainsFunc(servers, serverURL.isTLS) }

// describe adds what to do, where that can be known.
func (l *link) describe(where string, err error) error {
	var authority x509.UnknownAuthorityError
	switch {
	case errors.Is(err, ErrUnauthorized):
		return err
	case isRefusal(err):
		return fmt.Errorf("%w: %s says %w: %s, which is used without a restart", ErrUnauthorized, where, err, l.remedy())
	case errors.As(err, &authority):
		return fmt.Errorf("%w: put the authority that signed the servers' certificates into %s", err, l.binding.at(keyCA).name)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("%w: the server has no TLS, which %s asks for with %s, %s or a tls:// uri", err, l.binding.name, keyCA, keyCert)
	}
	return err
}

func (l *link) remedy() string {
	names := l.binding.credentialNames()
	if len(names) == 0 {
		return fmt.Sprintf("%s has no credentials: add %s, %s with %s, %s, or %s with %s", l.binding.name,
			keyCredentials, keyUsername, keyPassword, keyToken, keyCert, keyPrivateKey)
	}
	return "renew " + strings.Join(names, " and ")
}

// isRefusal says whether a server has refused the credentials, or the client's certificate. Some answers come as text only.
func isRefusal(err error) bool {
	for _, target := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, target) {
			return true
		}
	}
	text := strings.ToLower(err.Error())
	for _, answer := range []string{nats.AUTHENTICATION_EXPIRED_ERR, nats.AUTHENTICATION_REVOKED_ERR, nats.ACCOUNT_AUTHENTICATION_EXPIRED_ERR} {
		if strings.Contains(text, answer) {
			return true
		}
	}
	// What a server says to a certificate is an alert of TLS, for which crypto/tls exports no error. With TLS 1.3 it comes after
	// the handshake, and the connection may be gone before it is read.
	var alert *net.OpError
	return errors.As(err, &alert) && alert.Op == "remote error" && strings.Contains(text, "certificate") ||
		errors.Is(err, nats.ErrTLS) && strings.Contains(text, "closed by remote after tls handshake")
}
