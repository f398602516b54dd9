package auditapi

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"path"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

const (
	// DefaultLimit is how many entries a page has where the request names no limit.
	DefaultLimit = 20

	// MaxLimit is the highest limit that a request may name.
	MaxLimit = 100
)

var (
	// ErrUnauthenticated is returned by Config.Authorize when it is not known who asks. The answer is 401.
	ErrUnauthenticated = errors.New("auditapi: not authenticated")

	// ErrForbidden is returned by Config.Authorize when whoever asks may not read. The answer is 403.
	ErrForbidden = errors.New("auditapi: forbidden")
)

// Config says what to read and who may.
type Config struct {
	// Store is what is read. Required.
	Store auditstore.Store

	// Authorize says whether the request may read. It is called for every GET and HEAD of a path that the handler has, before the
	// id, the query and the store are looked at; what is answered with 404 for its path or 405 for its method asks nobody.
	// Required: nil allows it, an error that is ErrUnauthenticated or ErrForbidden answers 401 or 403, and every other error
	// answers 500. The error's text is not sent to the client. The path tells a page, an entry and an export apart, where not
	// everybody may do each.
	Authorize func(r *http.Request) error

	// Challenge is the WWW-Authenticate header of a 401. Where it is empty, it is "Bearer".
	Challenge string

	// Export yields the entries of an export, newest first. Where it is nil, that is a Query without conditions, where the Store
	// has that method as *auditstore.StreamStore does, and otherwise ListAll, which holds the whole trail in memory.
	//
	// An error that is made of *auditstore.CorruptError only, wrapped or joined, reports messages that are not entries and does
	// not end the sequence; every other error ends it, and breaks the export.
	Export func(ctx context.Context) iter.Seq2[auditstore.Entry, error]

	// Logger gets what clients are not told: the cause of each answer of 500 and above and of each broken export, and each
	// corrupt message. Where it is nil, it is slog.Default().
	Logger *slog.Logger
}

// Handler answers requests that read the trail. It is safe for concurrent use.
type Handler struct {
	cfg Config
	mux http.ServeMux
}

var _ http.Handler = (*Handler)(nil)

// New returns the handler. The error is auditstore.ErrInvalidConfig where Store or Authorize is missing.
func New(cfg Config) (*Handler, error) {
	switch {
	case cfg.Store == nil:
		return nil, fmt.Errorf("auditapi: %w: Store is nil: give the store to read from", auditstore.ErrInvalidConfig)
	case cfg.Authorize == nil:
		return nil, fmt.Errorf("auditapi: %w: Authorize is nil: give a function that says who may read the audit trail",
			auditstore.ErrInvalidConfig)
	}
	if cfg.Challenge == "" {
		cfg.Challenge = "Bearer"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	h := &Handler{cfg: cfg}
	if h.cfg.Export == nil {
		h.cfg.Export = h.everything
	}
	for pattern, serve := range h.routes() {
		h.mux.Handle(pattern, h.guard(serve))
	}
	h.mux.HandleFunc("/", h.nothing)
	return h, nil
}

func (h *Handler) routes() map[string]handle {
	return map[string]handle{
		"/audit":        h.list,
		"/audit/{id}":   h.get,
		"/audit/export": h.export,
	}
}

// ServeHTTP answers the request. It panics with http.ErrAbortHandler where an export breaks after a part of it was sent.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h == nil || h.cfg.Store == nil {
		(&Handler{cfg: Config{Logger: slog.Default()}}).fail(w, r,
			fmt.Errorf("auditapi: %w: the handler was not made by New", auditstore.ErrInvalidConfig))
		return
	}
	// The mux would redirect such a path to a clean one, and without the prefix that an http.StripPrefix has removed.
	if escaped := r.URL.EscapedPath(); path.Clean("/"+escaped) != escaped {
		h.nothing(w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

func (h *Handler) nothing(w http.ResponseWriter, r *http.Request) {
	h.answer(w, r, failure{http.StatusNotFound, "there is nothing at this path"})
}

// handle answers a request, or returns why it cannot, and then has written nothing.
type handle func(w http.ResponseWriter, r *http.Request) error

// guard lets a request through to serve if its method is right and it is authorized.
func (h *Handler) guard(serve handle) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", http.MethodGet+", "+http.MethodHead)
			h.answer(w, r, failure{http.StatusMethodNotAllowed, "the audit trail can only be read: use GET"})
			return
		}
		err := h.cfg.Authorize(r)
		switch {
		case errors.Is(err, ErrUnauthenticated):
			w.Header().Set("WWW-Authenticate", h.cfg.Challenge)
			h.answer(w, r, failure{http.StatusUnauthorized, "say who you are to read the audit trail"})
			return
		case errors.Is(err, ErrForbidden):
			h.answer(w, r, failure{http.StatusForbidden, "you may not read the audit trail"})
			return
		case err != nil:
			h.log(r, "Failed to authorize a reader of the audit trail", err)
			h.answer(w, r, internal)
			return
		}
		if err := serve(w, r); err != nil {
			h.fail(w, r, err)
		}
	}
}
