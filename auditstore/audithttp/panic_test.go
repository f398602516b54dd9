package audithttp_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/osapi-io/auditstream-operator/auditstore/audithttp"
)

// source gives so many bytes and then panics.
type source struct{ left int }

func (s *source) Read(p []byte) (int, error) {
	if s.left == 0 {
		panic("the source's")
	}
	n := min(len(p), s.left)
	s.left -= n
	return copy(p, strings.Repeat("x", n)), nil
}

// TestAPanicIsRecordedAsWhatTheClientGets has handlers panic at the edge of what the server holds back. The server's own behavior is
// what decides: where the client gets a status, that is what the entry has to say.
func TestAPanicIsRecordedAsWhatTheClientGets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file.txt")
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 10<<10)), 0o600); err != nil {
		t.Fatal(err)
	}
	write := func(w http.ResponseWriter, n int) { _, _ = io.WriteString(w, strings.Repeat("x", n)) }
	handlers := map[string]func(w http.ResponseWriter, n int){
		"writes": write,
		"writes in pieces": func(w http.ResponseWriter, n int) {
			write(w, n/2)
			write(w, n-n/2)
		},
		"copies": func(w http.ResponseWriter, n int) {
			_, _ = io.CopyN(w, strings.NewReader(strings.Repeat("x", n)), int64(n))
		},
		"copies until it panics": func(w http.ResponseWriter, n int) { _, _ = io.Copy(w, &source{left: n}) },
		"copies a file": func(w http.ResponseWriter, n int) {
			f, err := os.Open(file)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = f.Close() }()
			_, _ = io.CopyN(w, f, int64(n))
		},
	}
	for protocol, listen := range map[string]func(*httptest.Server){
		"HTTP/1.1": (*httptest.Server).Start,
		"HTTPS":    (*httptest.Server).StartTLS,
		"HTTP/2.0": func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() },
	} {
		recorded := make(statusSink, 1)
		server := httptest.NewUnstartedServer(audited(t, recorded, audithttp.Config{}, func(w http.ResponseWriter, r *http.Request) {
			n, _ := strconv.Atoi(r.FormValue("n"))
			if r.FormValue("length") != "" {
				w.Header().Set("Content-Length", strconv.Itoa(n))
			}
			w.WriteHeader(http.StatusAccepted)
			handlers[r.FormValue("handler")](w, n)
			panic("late")
		}))
		server.Config.ErrorLog = discard
		listen(server)
		t.Cleanup(server.Close)
		for name := range handlers {
			for _, n := range []string{"100", "511", "512", "513", "1000", "2048", "2049", "3000", "4096", "4097", "9000"} {
				for _, length := range []string{"", "known"} {
					want := http.StatusInternalServerError
					resp, err := server.Client().Get(server.URL + "/?handler=" + strings.ReplaceAll(name, " ", "+") + "&n=" + n + "&length=" + length)
					if err == nil {
						want = resp.StatusCode
						_ = resp.Body.Close()
					}
					if got := <-recorded; got != want {
						t.Errorf("%s: a handler that %s %s bytes (length %q) is recorded with %d, and the client got %d, %v",
							protocol, name, n, length, got, want, err)
					}
				}
			}
		}
	}
}

// TestWhoRecoversFurtherOutHasNoneOfTheHandlersHeaders has the handler of a recovery that stands outside of the middleware panic, with
// no entry to be had.
func TestWhoRecoversFurtherOutHasNoneOfTheHandlersHeaders(t *testing.T) {
	inner := audited(t, failing(nil), audithttp.Config{OnFailure: audithttp.FailClosed, OnError: (&failures{}).add},
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Set-Cookie", "session=secret")
			w.Header().Set("X-Outer", "changed")
			_, _ = io.WriteString(w, "secret")
			panic("late")
		})
	server := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() != nil {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}()
		w.Header().Set("X-Outer", "outer")
		inner.ServeHTTP(w, r)
	}))
	a := get(t, server.URL+"/x")
	if a.StatusCode != http.StatusInternalServerError || a.body != "" || a.Header.Get("Set-Cookie") != "" || a.Header.Get("X-Outer") != "outer" {
		t.Errorf("the client got %d %q with the headers %v", a.StatusCode, a.body, a.Header)
	}
}
