package audithttp

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/internal/attribute"
)

// Writer is what the middleware needs of a store. Every auditstore.Store is a Writer.
type Writer interface {
	// Write stores the entry, or returns an error.
	Write(ctx context.Context, entry auditstore.Entry) error
}

// New returns a middleware that writes an entry to the store for each request. It returns ErrInvalidConfig where the store is
// nil or Config cannot be right.
func New(store Writer, cfg Config) (func(http.Handler) http.Handler, error) {
	if store == nil {
		return nil, invalid("the store is nil")
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.TrustedProxies, cfg.Exclude = slices.Clone(cfg.TrustedProxies), slices.Clone(cfg.Exclude)
	a := &auditor{store: store, cfg: cfg.withDefaults()}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serve(next, w, r) })
	}, nil
}

// Observe makes the middleware around the handler give r to Config's functions, with all that authentication and routing have put
// into its context, and take the trace from it. It does nothing where the request is not audited.
func Observe(r *http.Request) {
	if r == nil {
		return
	}
	if e, ok := r.Context().Value(exchangeKey{}).(*exchange); ok {
		e.observed.Store(r)
	}
}

type exchangeKey struct{}

type auditor struct {
	store Writer
	cfg   Config
}

// exchange is one request and its response.
type exchange struct {
	*auditor
	start    time.Time
	entry    auditstore.Entry // what is known before the handler runs
	outer    *http.Request
	request  *http.Request // what the handler gets
	observed atomic.Pointer[http.Request]
	response *response
}

func (a *auditor) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	if a.excluded(r.URL) {
		next.ServeHTTP(w, r)
		return
	}
	e := a.begin(w, r)
	returned := false
	// Without recover the panic goes on by itself and keeps its stack.
	defer func() { e.end(returned) }()
	next.ServeHTTP(e.response.writer(), e.request)
	returned = true
}

func (a *auditor) begin(w http.ResponseWriter, r *http.Request) *exchange {
	start := time.Now()
	e := &exchange{auditor: a, start: start, outer: r}
	// Handlers may change the request: what identifies it is taken now.
	e.entry = auditstore.Entry{
		Timestamp: start.UTC(), Method: attribute.Cut(r.Method, maxMethod), Path: attribute.Cut(target(r), attribute.MaxValue), SourceIP: a.clientAddress(r),
	}
	e.request = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, e))
	e.response = newResponse(w, r)
	if a.cfg.OnFailure == FailClosed {
		e.response.holdBack(a.cfg.BufferLimit, e.record)
	}
	return e
}

func (e *exchange) end(returned bool) {
	e.passBack()
	switch {
	case e.cfg.OnFailure == FailOpen:
		_ = e.record(e.response.outcome(returned))
	case returned:
		_ = e.response.release()
	default:
		e.response.abandon()
	}
}

// passBack gives the request that came in what the server and outer middlewares look for after the handler: the handler worked
// on a copy. The server removes the temporary files of MultipartForm.
func (e *exchange) passBack() {
	if e.outer.Pattern == "" {
		e.outer.Pattern = e.request.Pattern
	}
	if e.outer.MultipartForm == nil {
		e.outer.MultipartForm = e.request.MultipartForm
	}
}

// ambiguous are the characters of a path that some router takes for more than themselves: for a slash, for the beginning of a parameter
// (everything up to the next slash is then no part of the path), or for an escape that was escaped once more.
const ambiguous = `\;%`

// excluded says whether the path is one of Config.Exclude or below it, in whatever way a router reads it.
func (a *auditor) excluded(u *url.URL) bool {
	// RawPath is set where the path has escapes that it does not need, like %2F: routers differ about those.
	if u.RawPath != "" || strings.ContainsAny(u.Path, ambiguous) || strings.Contains(u.Path, "//") {
		return false
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return slices.ContainsFunc(a.cfg.Exclude, func(prefix string) bool {
		rest, found := strings.CutPrefix(u.Path, prefix)
		return found && (rest == "" || rest[0] == '/')
	})
}

// target is the path, or the host of a CONNECT, which has no path.
func target(r *http.Request) string {
	if r.URL.Path == "" {
		return r.URL.Host
	}
	return r.URL.Path
}
