package auditapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// stub injects what a real store does only when something is broken. Its zero value is an empty store.
type stub struct {
	auditstore.Store
	entries []auditstore.Entry // newest first
	err     error
}

func (s stub) Get(_ context.Context, id string) (*auditstore.Entry, error) {
	for _, entry := range s.entries {
		if entry.ID == id {
			return &entry, nil
		}
	}
	if s.err != nil {
		return nil, s.err
	}
	return nil, auditstore.ErrNotFound
}

func (s stub) List(context.Context, int, int) ([]auditstore.Entry, int, error) {
	return s.entries, len(s.entries), s.err
}

func (s stub) ListAll(context.Context) ([]auditstore.Entry, error) { return s.entries, s.err }

func entry(id string) auditstore.Entry {
	return auditstore.Entry{
		ID: id, Timestamp: time.Date(2026, time.February, 3, 4, 5, 6, 7, time.UTC), User: "ada", Roles: []string{"admin"},
		Method: "DELETE", Path: "/nodes/7", OperationID: "deleteNode", SourceIP: "192.0.2.1", ResponseCode: 204, DurationMs: 12,
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
	}
}

// logs is what a handler logs.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func allow(*http.Request) error { return nil }

// newHandler fills in what the configuration lacks.
func newHandler(t *testing.T, cfg Config) (*Handler, *logs) {
	t.Helper()
	logged := &logs{}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(logged, nil))
	}
	if cfg.Authorize == nil {
		cfg.Authorize = allow
	}
	if cfg.Store == nil {
		cfg.Store = stub{}
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h, logged
}

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	return w
}

func decode[T any](t *testing.T, r io.Reader) T {
	t.Helper()
	var value T
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("decoding the answer: %v", err)
	}
	return value
}

func ids(entries []auditstore.Entry) string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.ID
	}
	return strings.Join(names, " ")
}

func numbered(n int) []auditstore.Entry {
	entries := make([]auditstore.Entry, n)
	for i := range entries {
		entries[i] = entry(fmt.Sprintf("e%d", n-1-i))
	}
	return entries
}
