package auditgrpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/internal/clientip"
)

const (
	// DefaultWriteTimeout is how long the interceptors try to write an entry where Config.WriteTimeout is 0.
	DefaultWriteTimeout = 5 * time.Second

	// MethodUnary is what Entry.Method says of a call with one request and one response.
	MethodUnary = "UNARY"

	// MethodStream is what Entry.Method says of all other calls.
	MethodStream = "STREAM"
)

// DefaultExclude returns what is not audited where Config.Exclude is nil: health checks and reflection.
func DefaultExclude() []string { return []string{"grpc.health.v1.Health", "grpc.reflection"} }

// FailureMode says what becomes of an answer whose entry cannot be written.
type FailureMode uint8

const (
	// FailOpen lets the answer go out and reports the failure to Config.OnError.
	FailOpen FailureMode = iota
	// FailClosed withholds the answer and gives ErrWithheld in its place, see "When an entry cannot be written" in the package's
	// description.
	FailClosed
)

// Rejections says what becomes of calls that are answered with Unauthenticated or PermissionDenied.
type Rejections uint8

const (
	// AuditRejections writes an entry for them, as for all others.
	AuditRejections Rejections = iota
	// SkipRejections writes none.
	SkipRejections
)

// ProxyHeader is the metadata in which proxies say whom they got a call from.
type ProxyHeader uint8

const (
	// XForwardedFor is x-forwarded-for, which grpc-gateway writes too.
	XForwardedFor ProxyHeader = iota
	// Forwarded is forwarded, of RFC 7239.
	Forwarded
)

// Config says what is audited and how. Only User has to be set.
type Config struct {
	// User returns who made the call, or "" where nobody is known.
	User func(ctx context.Context) string
	// Roles returns what the user was allowed to act as. It may be nil.
	Roles func(ctx context.Context) []string
	// OperationID returns the operation's name in the service's API description. Where it is nil, it is the full method, such as
	// "/shop.Orders/Cancel".
	OperationID func(ctx context.Context, fullMethod string) string

	// TrustedProxies are the networks of the proxies whose ProxyHeader is believed. None are by default. A network of all
	// addresses is refused, since every client could then choose its address.
	TrustedProxies []netip.Prefix
	// ProxyHeader is the one header that the trusted proxies write. The other one is never read: a proxy that does not write it
	// passes on what the client made up.
	ProxyHeader ProxyHeader

	// Exclude are packages, services and methods that are not audited, each with everything below it: "shop.Orders" excludes
	// shop.Orders/Cancel, but not shop.OrdersAdmin. A leading slash, as generated constants have it, makes no difference.
	// DefaultExclude stands in for nil; an empty list excludes nothing.
	Exclude []string
	// Rejections says whether calls that are answered with Unauthenticated or PermissionDenied are audited.
	Rejections Rejections

	// OnFailure says what becomes of an answer whose entry cannot be written.
	OnFailure FailureMode
	// WriteTimeout is how long writing an entry may take, DefaultWriteTimeout where it is 0.
	WriteTimeout time.Duration
	// OnError is called, in the call's goroutine, with each entry that could not be written and with each panic of a function
	// above (the entry is then written without that value). The context may be cancelled. It logs to slog.Default where it is nil.
	OnError func(ctx context.Context, entry auditstore.Entry, err error)
}

var (
	// ErrInvalidConfig is returned by New when the store or Config cannot be used.
	ErrInvalidConfig = errors.New("auditgrpc: invalid configuration")

	// ErrWithheld is what the client gets after FailClosed could not write the entry, and what a handler that streams gets from
	// SendMsg and SendHeader. It has the code Unavailable.
	ErrWithheld = status.Error(codes.Unavailable, "auditgrpc: the call could not be audited, and its answer is withheld")
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
	return fmt.Sprintf("auditgrpc: %s panicked: %v", e.Func, e.Value)
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
	}
	if err := clientip.Check(c.TrustedProxies); err != nil {
		return invalid("%v", err)
	}
	for i, name := range c.Exclude {
		if !excludable(name) {
			return invalid("Exclude[%d] is %q: give a package, a service or a method, like %q or \"shop.Orders/Cancel\"",
				i, name, DefaultExclude()[0])
		}
	}
	return nil
}

// excludable says whether the name is one of a package or a service, perhaps with a method.
func excludable(name string) bool {
	service, method, hasMethod := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	for element := range strings.SplitSeq(service, ".") {
		if element == "" || strings.ContainsAny(element, "* ") {
			return false
		}
	}
	return !hasMethod || method != "" && !strings.ContainsAny(method, "/* ")
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidConfig, fmt.Sprintf(format, args...))
}

func (c Config) withDefaults() Config {
	if c.Exclude == nil {
		c.Exclude = DefaultExclude()
	}
	if c.OperationID == nil {
		c.OperationID = func(_ context.Context, fullMethod string) string { return fullMethod }
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = DefaultWriteTimeout
	}
	if c.OnError == nil {
		c.OnError = logError
	}
	return c
}

func logError(ctx context.Context, entry auditstore.Entry, err error) {
	slog.ErrorContext(ctx, "Failed to audit call",
		"id", entry.ID, "method", entry.Method, "path", entry.Path, "code", entry.ResponseCode, "error", err)
}
