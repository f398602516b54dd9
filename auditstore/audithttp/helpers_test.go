package audithttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/audithttp"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

const patience = 30 * time.Second

func newStore(tb testing.TB) *auditstore.StreamStore {
	tb.Helper()
	return storeOn(tb, natstest.Run(tb))
}

func storeOn(tb testing.TB, server *natstest.Server) *auditstore.StreamStore {
	tb.Helper()
	js := server.JetStream()
	ctx := context.Background()
	cfg := jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}, AllowDirect: true}
	if _, err := js.CreateStream(ctx, cfg); err != nil {
		tb.Fatalf("creating the stream: %v", err)
	}
	store, err := auditstore.New(ctx, js, auditstore.Config{Stream: "AUDIT", Subject: "audit"})
	if err != nil {
		tb.Fatalf("opening the store: %v", err)
	}
	return store
}

// faulty is a store whose writes can be made to fail, panic or wait.
type faulty struct {
	auditstore.Store
	before func(ctx context.Context, entry auditstore.Entry) error
}

func (f *faulty) Write(ctx context.Context, entry auditstore.Entry) error {
	if f.before != nil {
		if err := f.before(ctx, entry); err != nil {
			return err
		}
	}
	return f.Store.Write(ctx, entry)
}

var errFault = errors.New("the trail is away")

func failing(store auditstore.Store) *faulty {
	return &faulty{store, func(context.Context, auditstore.Entry) error { return errFault }}
}

// failures collects what OnError gets.
type failures struct {
	mu      sync.Mutex
	errs    []error
	entries []auditstore.Entry
}

func (f *failures) add(_ *http.Request, entry auditstore.Entry, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs, f.entries = append(f.errs, err), append(f.entries, entry)
}

func (f *failures) all() ([]error, []auditstore.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errs, f.entries
}

func nobody(*http.Request) string { return "" }

func audited(t *testing.T, store audithttp.Writer, cfg audithttp.Config, handler http.HandlerFunc) http.Handler {
	t.Helper()
	if cfg.User == nil {
		cfg.User = nobody
	}
	middleware, err := audithttp.New(store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return middleware(handler)
}

// serve runs the handler behind the middleware in a server.
func serve(t *testing.T, store audithttp.Writer, cfg audithttp.Config, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	return start(t, audited(t, store, cfg, handler))
}

func start(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	// Handlers panic on purpose.
	server.Config.ErrorLog = discard
	server.Start()
	t.Cleanup(server.Close)
	return server
}

type answer struct {
	*http.Response
	body string
}

func do(t *testing.T, method, url string, header http.Header) (answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return answer{resp, string(body)}, err
}

func get(t *testing.T, url string) answer {
	t.Helper()
	a, err := do(t, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// await returns the entries of the trail, newest first, once there are n.
func await(t *testing.T, store auditstore.Store, n int) []auditstore.Entry {
	t.Helper()
	var entries []auditstore.Entry
	eventually(t, "the entries", func() bool {
		var err error
		if entries, err = store.ListAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(entries) >= n
	})
	if len(entries) != n {
		t.Fatalf("%d entries, want %d: %+v", len(entries), n, entries)
	}
	return entries
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !done(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no sign of %s", what)
		}
	}
}

// sourceSink is a store that keeps nothing but the client's address.
type sourceSink chan string

func (s sourceSink) Write(_ context.Context, entry auditstore.Entry) error {
	s <- entry.SourceIP
	return nil
}

// statusSink is a store that keeps nothing but the status.
type statusSink chan int

func (s statusSink) Write(_ context.Context, entry auditstore.Entry) error {
	s <- entry.ResponseCode
	return nil
}
