package audithttp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/internal/clientip"
)

const (
	// DefaultWriteTimeout is how long the middleware tries to write an entry where Config.WriteTimeout is 0.
	DefaultWriteTimeout = 5 * time.Second

	// DefaultBufferLimit is how many bytes of body FailClosed holds back where Config.BufferLimit is 0.
	DefaultBufferLimit = 64 << 10
)

// DefaultExclude returns the paths that are not audited where Config.Exclude is nil.
func DefaultExclude() []string { return []string{"/health", "/metrics", "/livez", "/readyz"} }

// FailureMode says what becomes of a response whose entry cannot be written.
type FailureMode uint8

const (
	// FailOpen lets the response go out and reports the failure to Config.OnError.
	FailOpen FailureMode = iota
	// FailClosed withholds the response and answers 503, see "When an entry cannot be written" in the package's description.
	FailClosed
)

// Rejections says what becomes of requests that are answered with 401 or 403.
type Rejections uint8

const (
	// AuditRejections writes an entry for them, as for all others.
	AuditRejections Rejections = iota
	// SkipRejections writes none.
	SkipRejections
)

// ProxyHeader is the header in which proxies say whom they got a request from.
type ProxyHeader uint8

const (
	// XForwardedFor is the header X-Forwarded-For.
	XForwardedFor ProxyHeader = iota
	// Forwarded is the header Forwarded of RFC 7239.
	Forwarded
)

// Config says what is audited and how. Only User has to be set.
type Config struct {
	// User returns who made the request, or "" where nobody is known.
	User func(*http.Request) string
	// Roles returns what the user was allowed to act as. It may be nil.
	Roles func(*http.Request) []string
	// OperationID returns the operation's name in the service's API description. It may be nil. Request.Pattern, which
	// http.ServeMux sets, is set when it is called.
	OperationID func(*http.Request) string

	// TrustedProxies are the networks of the proxies whose ProxyHeader is believed. None are by default. A network of all
	// addresses is refused, since every client could then choose its address.
	TrustedProxies []netip.Prefix
	// ProxyHeader is the one header that the trusted proxies write. The other one is never read: a proxy that does not write it
	// passes on what the client made up.
	ProxyHeader ProxyHeader

	// Exclude are paths that are not audited, each with everything below it: "/health" excludes /health and /health/db, but not
	// /healthz. DefaultExclude stands in for nil; an empty list excludes nothing. A path that a router may read in another
	// way (with "//", "/./", "/../", a backslash, a semicolon, a percent sign or needless escapes) is always audited.
	Exclude []string
	// Rejections says whether requests that are answered with 401 or 403 are audited.
	Rejections Rejections

	// OnFailure says what becomes of a response whose entry cannot be written.
	OnFailure FailureMode
	// WriteTimeout is how long writing an entry may take, DefaultWriteTimeout where it is 0.
	WriteTimeout time.Duration
	// BufferLimit is how many bytes of body FailClosed holds back, DefaultBufferLimit where it is 0.
	BufferLimit int
	// OnError is called, in the request's goroutine, with each entry that could not be written and with each panic of a function
	// above (the entry is then written without that value). The request's context may be cancelled. It logs to
	// slog.Default where it is nil.
	OnError func(r *http.Request, entry auditstore.Entry, err error)
}

var (
	// ErrInvalidConfig is returned by New when the store or Config cannot be used.
	ErrInvalidConfig = errors.New("audithttp: invalid configuration")

	// ErrWithheld is what a handler gets from Write, FlushError and Hijack after FailClosed could not write the entry: the
	// client has been answered with 503.
	ErrWithheld = errors.New("audithttp: the response is withheld because its audit entry could not be written")
)

// PanicError reports a panic of a function of Config, or of the store's Write. It is given to OnError.
type PanicError struct {
	// Func is the name of the function.
	Func string
	// Value is what the function panicked with.
	Value any
	// Stack is where it did.
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("audithttp: %s panicked: %v", e.Func, e.Value)
}

func (c Config) check() error {
	switch {
	case c.User == nil:
		return invalid("User is nil: give a function that names the user, or one that returns \"\" where there are no users")
	case c.OnFailure > FailClosed:
		return invalid("OnFailure is %d: give FailOpen or FailClosed", c.OnFailure)
	case c.Rejections > SkipRejections:
		return invalid("Rejections is %d: give AuditRejections or SkipRejections", c.Rejections)
	case c.ProxyHeader > Forwarded:
		return invalid("ProxyHeader is %d: give XForwardedFor or Forwarded", c.ProxyHeader)
	case c.ProxyHeader != XForwardedFor && len(c.TrustedProxies) == 0:
		return invalid("ProxyHeader is set, but nobody's header is believed: name the TrustedProxies")
	case c.WriteTimeout < 0:
		return invalid("WriteTimeout is %v: give a positive duration, or 0 for %v", c.WriteTimeout, DefaultWriteTimeout)
	case c.BufferLimit < 0:
		return invalid("BufferLimit is %d: give a number of bytes, or 0 for %d", c.BufferLimit, DefaultBufferLimit)
	case c.BufferLimit > 0 && c.OnFailure != FailClosed:
		return invalid("BufferLimit is %d, but only FailClosed holds a response back: set OnFailure, or leave BufferLimit 0", c.BufferLimit)
	}
	if err := clientip.Check(c.TrustedProxies); err != nil {
		return invalid("%v", err)
	}
	return checkExclude(c.Exclude)
}

func checkExclude(paths []string) error {
	for i, p := range paths {
		switch {
		case p == "" || p[0] != '/' || path.Clean(p) != p:
			return invalid("Exclude[%d] is %q: give a path that begins with a slash and does not end with one, like \"/health\"", i, p)
		case strings.ContainsAny(p, ambiguous):
			return invalid("Exclude[%d] is %q: a path with a backslash, a semicolon or a percent sign is always audited", i, p)
		case p == "/":
			return invalid("Exclude[%d] is \"/\", which excludes everything: leave the middleware out instead", i)
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidConfig, fmt.Sprintf(format, args...))
}

func (c Config) withDefaults() Config {
	if c.Exclude == nil {
		c.Exclude = DefaultExclude()
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = DefaultWriteTimeout
	}
	if c.BufferLimit == 0 {
		c.BufferLimit = DefaultBufferLimit
	}
	if c.OnError == nil {
		c.OnError = logError
	}
	return c
}

func logError(r *http.Request, entry auditstore.Entry, err error) {
	slog.ErrorContext(r.Context(), "Failed to audit request",
		"id", entry.ID, "method", entry.Method, "path", entry.Path, "code", entry.ResponseCode, "error", err)
}
