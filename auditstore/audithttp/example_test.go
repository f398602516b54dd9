package audithttp_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/osapi-io/auditstream-operator/auditstore/audithttp"
)

// exampleTB lets an example, which has no testing.T, run the test server.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (e *exampleTB) Helper()                           {}
func (e *exampleTB) Cleanup(f func())                  { e.cleanups = append(e.cleanups, f) }
func (e *exampleTB) Fatalf(format string, args ...any) { log.Panicf(format, args...) }

func (e *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "audithttp")
	if err != nil {
		log.Panic(err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (e *exampleTB) close() {
	for _, cleanup := range slices.Backward(e.cleanups) {
		cleanup()
	}
}

type sessionKey struct{}

// authenticate stands for the service's own authentication.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, ok := r.BasicAuth()
		if !ok {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), sessionKey{}, user))
		// The middleware stands outside, to record the refused requests too. This tells it who made the others.
		audithttp.Observe(r)
		next.ServeHTTP(w, r)
	})
}

func ExampleNew() {
	tb := &exampleTB{}
	defer tb.close()
	store := newStore(tb) // auditstore.New on the service's own connection

	audit, err := audithttp.New(store, audithttp.Config{
		User: func(r *http.Request) string {
			user, _ := r.Context().Value(sessionKey{}).(string)
			return user
		},
		OperationID:    func(r *http.Request) string { return r.Pattern },
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		OnFailure:      audithttp.FailClosed,
	})
	if err != nil {
		log.Panic(err)
	}

	mux := http.NewServeMux()
	mux.HandleFunc("DELETE /nodes/{id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	handler := audit(authenticate(mux))

	for _, request := range []struct{ user, method, path string }{
		{"ada", http.MethodDelete, "/nodes/7"}, {"", http.MethodDelete, "/nodes/8"}, {"", http.MethodGet, "/health"},
	} {
		r := httptest.NewRequest(request.method, request.path, http.NoBody)
		if request.user != "" {
			r.SetBasicAuth(request.user, "")
		}
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}

	entries, err := store.ListAll(context.Background())
	if err != nil {
		log.Panic(err)
	}
	for _, entry := range slices.Backward(entries) {
		fmt.Printf("%q %s %s: %d %s\n", entry.User, entry.Method, entry.Path, entry.ResponseCode, entry.OperationID)
	}
	// Output:
	// "ada" DELETE /nodes/7: 204 DELETE /nodes/{id}
	// "" DELETE /nodes/8: 401
}
