package jsclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
)

const (
	// unavailableRetry is short because the Connected event normally comes first.
	unavailableRetry = 10 * time.Second
	// slowRetry is for what a person has to mend.
	slowRetry = time.Minute
	// authMemory is how long a refusal of credentials outweighs other errors, which the other servers of a list or a
	// restarting server may give in turn.
	authMemory = 15 * time.Second
	// settleTimeout bounds how long the first try to connect is waited for.
	settleTimeout = 4 * time.Second
)

// call is a request that waits for its answer.
type call struct {
	subject string
	cancel  context.CancelCauseFunc
}

// state is what is known about a connection. nats.go's own methods wait for a lock that it holds while it dials, so
// nothing that has to answer at once may ask them.
type state struct {
	disconnectedAfter time.Duration
	onDisconnected    func()
	settled           chan struct{}

	mu        sync.Mutex
	closed    bool
	connected bool
	version   string
	domain    string
	lastErr   error
	authErr   error
	authAt    time.Time
	seen      map[string]bool
	downTimer *time.Timer
	calls     map[*call]struct{}
	denials   denials
}

func newState(disconnectedAfter time.Duration, onDisconnected func()) *state {
	s := &state{
		disconnectedAfter: disconnectedAfter,
		onDisconnected:    onDisconnected,
		settled:           make(chan struct{}),
		calls:             map[*call]struct{}{},
		seen:              map[string]bool{},
	}
	s.downTimer = time.AfterFunc(disconnectedAfter, s.downLong)
	time.AfterFunc(settleTimeout, s.settleNow)
	return s
}

func (s *state) downLong() {
	s.mu.Lock()
	down := !s.connected && !s.closed
	s.mu.Unlock()
	if down {
		s.onDisconnected()
	}
}

func (s *state) settleNow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
}

// settle is called with the lock held.
func (s *state) settle() {
	select {
	case <-s.settled:
	default:
		close(s.settled)
	}
}

// connect reports whether the connection was down before.
func (s *state) connect(version, domain string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	was := s.connected
	s.connected, s.version, s.domain = true, version, domain
	s.lastErr, s.authErr, s.seen = nil, nil, map[string]bool{}
	s.denials.reset()
	s.downTimer.Stop()
	return !was
}

// disconnect reports whether the connection was up before. It ends all requests: their answers cannot come any more.
func (s *state) disconnect(cfg Config) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.connected
	if !was || s.closed {
		return false
	}
	s.connected = false
	s.downTimer.Reset(s.disconnectedAfter)
	s.cancelCalls(unavailable("the connection to NATS at %s was lost while waiting for an answer; the request may have been carried out", cfg))
	return true
}

// close reports whether the connection was up before.
func (s *state) close() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.connected
	s.closed, s.connected = true, false
	s.downTimer.Stop()
	s.settle()
	s.cancelCalls(unavailable("%w", ErrPoolClosed))
	return was
}

// cancelCalls is called with the lock held.
func (s *state) cancelCalls(cause error) {
	for c := range s.calls {
		c.cancel(cause)
	}
}

func (s *state) isConnected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connected
}

// fail records why the connection is down and reports whether that is news. The message changes only for a cause that
// was not seen before, so that servers which fail in different ways do not make it swing to and fro.
func (s *state) fail(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connected {
		return false
	}
	text := stableText(err)
	news := !s.seen[text]
	s.seen[text] = true
	if isAuthError(err) {
		s.authErr, s.authAt = err, time.Now()
	} else if news {
		s.lastErr = err
	}
	s.settle()
	return news
}

func (s *state) err(cfg Config, fileErr error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.errLocked(cfg, fileErr)
}

func (s *state) errLocked(cfg Config, fileErr error) error {
	switch {
	case s.connected:
		return nil
	case s.closed:
		return unavailable("%w", ErrPoolClosed)
	case s.authErr != nil && (s.lastErr == nil || time.Since(s.authAt) < authMemory):
		return authenticationFailed(cfg, s.authErr, fileErr)
	case fileErr != nil:
		return authenticationFailed(cfg, s.lastErr, fileErr)
	case s.lastErr != nil:
		return unavailable("NATS at %s cannot be reached: %w", cfg, stable(s.lastErr))
	default:
		return unavailable("connecting to NATS at %s", cfg)
	}
}

func unavailable(format string, args ...any) error {
	return &failure.Waiting{Reason: v1alpha1.ReasonNATSUnavailable, After: unavailableRetry, Err: fmt.Errorf(format, args...)}
}

func authenticationFailed(cfg Config, err, fileErr error) error {
	var cause error
	switch {
	case fileErr != nil:
		cause = fmt.Errorf("the credentials for NATS at %s cannot be read: %w", cfg, fileErr)
	default:
		cause = fmt.Errorf("NATS at %s refuses the operator's credentials (%s): %w; renew them, a changed file is taken up without a restart",
			cfg, cfg.credentialFlags(), stable(err))
	}
	return &failure.Waiting{Reason: v1alpha1.ReasonAuthenticationFailed, After: slowRetry, Err: cause}
}

// isAuthError says whether a server has refused the credentials, by name and password or by certificate.
func isAuthError(err error) bool {
	for _, target := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, target) {
			return true
		}
	}
	return isCertificateAlert(err)
}

// certificateAlerts are the TLS alerts by which a server refuses a client's certificate, or the lack of one.
var certificateAlerts = []uint64{42, 43, 44, 45, 46, 48, 49, 116}

// isCertificateAlert looks at the number of the alert, for which crypto/tls has only a type of its own, not exported.
func isCertificateAlert(err error) bool {
	opErr, ok := errors.AsType[*net.OpError](err)
	if !ok || opErr.Op != "remote error" {
		return false
	}
	alert := reflect.ValueOf(opErr.Err)
	return alert.Kind() == reflect.Uint8 && slices.Contains(certificateAlerts, alert.Uint())
}

// stableError is an error with a text that does not change from one try to the next.
type stableError struct {
	text string
	err  error
}

func stable(err error) error { return &stableError{text: stableText(err), err: err} }

func (e *stableError) Error() string { return e.text }

func (e *stableError) Unwrap() error { return e.err }
