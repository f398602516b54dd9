package audithttp_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/audithttp"
)

var discard = log.New(io.Discard, "", 0)

var modes = map[string]audithttp.FailureMode{"open": audithttp.FailOpen, "closed": audithttp.FailClosed}

type userKey struct{}

func TestAnEntrySaysWhatWasAskedAndAnswered(t *testing.T) {
	store := newStore(t)
	cfg := audithttp.Config{
		User:        func(r *http.Request) string { user, _ := r.Context().Value(userKey{}).(string); return user },
		Roles:       func(*http.Request) []string { return []string{"admin", "auditor"} },
		OperationID: func(r *http.Request) string { return r.Pattern },
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /users/{id}", func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path, r.Method, r.RemoteAddr = "/changed", "CHANGED", "203.0.113.9:1"
		w.WriteHeader(http.StatusAccepted)
	})
	// Authentication stands inside the middleware and makes a request of its own.
	server := serve(t, store, cfg, func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(context.WithValue(r.Context(), userKey{}, "ada"))
		audithttp.Observe(r)
		mux.ServeHTTP(w, r)
	})
	before := time.Now()
	if a, err := do(t, http.MethodPut, server.URL+"/users/7?token=secret", nil); err != nil || a.StatusCode != http.StatusAccepted {
		t.Fatalf("%v, %v", a.Response, err)
	}
	got := await(t, store, 1)[0]
	if got.Timestamp.Before(before.Truncate(time.Millisecond)) || got.Timestamp.After(time.Now()) || !auditstore.ValidID(got.ID) || got.DurationMs < 0 {
		t.Errorf("time %v, id %q, duration %d", got.Timestamp, got.ID, got.DurationMs)
	}
	want := auditstore.Entry{
		ID: got.ID, Timestamp: got.Timestamp, DurationMs: got.DurationMs,
		User: "ada", Roles: []string{"admin", "auditor"}, Method: "PUT", Path: "/users/7", OperationID: "PUT /users/{id}",
		SourceIP: "127.0.0.1", ResponseCode: http.StatusAccepted,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func hijackAndAnswer(w http.ResponseWriter, _ *http.Request) {
	conn, buffer, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = buffer.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
	_ = buffer.Flush()
	_ = conn.Close()
}

func TestStatusIsWhatTheClientGets(t *testing.T) {
	big := strings.Repeat("x", 200<<10)
	for name, test := range map[string]struct {
		handler      http.HandlerFunc
		open, closed int
		body         string
		broken       bool // whether the client gets an error
	}{
		"never writes": {handler: func(http.ResponseWriter, *http.Request) {}, open: 200, closed: 200},
		"writes":       {handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") }, open: 200, closed: 200, body: "hi"},
		"the first status counts": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			w.WriteHeader(http.StatusOK)
		}, open: 418, closed: 418},
		"early hints come first": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusNotFound)
		}, open: 404, closed: 404},
		"streams": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			for range 3 {
				_, _ = io.WriteString(w, "ab")
				w.(http.Flusher).Flush()
			}
		}, open: 201, closed: 201, body: "ababab"},
		"writes much": {handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, big) }, open: 200, closed: 200, body: big},
		"copies nothing, then fails": {handler: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, http.NoBody)
			w.WriteHeader(http.StatusBadGateway)
		}, open: 502, closed: 502},
		"flushes through a controller": {handler: func(w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				panic(err)
			}
			w.WriteHeader(http.StatusNotFound)
		}, open: 200, closed: 200},
		"hijacks": {handler: hijackAndAnswer, open: 101, closed: 101, body: "hi"},
		"hijacks and sets a status": {handler: func(w http.ResponseWriter, r *http.Request) {
			hijackAndAnswer(w, r)
			w.WriteHeader(http.StatusBadGateway)
		}, open: 101, closed: 101, body: "hi"},
		"panics": {handler: func(http.ResponseWriter, *http.Request) { panic("on purpose") }, open: 500, closed: 500, broken: true},
		"panics with an unsent OK": {handler: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "hi")
			panic("on purpose")
		}, open: 500, closed: 500, broken: true},
		"panics with a sent status": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			w.(http.Flusher).Flush()
			panic("on purpose")
		}, open: 202, closed: 202, broken: true},
		"panics after much": {handler: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, big)
			panic("on purpose")
		}, open: 200, closed: 200, broken: true},
		"aborts":    {handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, open: 500, closed: 500, broken: true},
		"exits":     {handler: func(http.ResponseWriter, *http.Request) { runtime.Goexit() }, open: 500, closed: 500, broken: true},
		"no status": {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(0) }, open: 500, closed: 500, broken: true},
	} {
		for mode, onFailure := range modes {
			t.Run(name+"/"+mode, func(t *testing.T) {
				store := newStore(t)
				server := serve(t, store, audithttp.Config{OnFailure: onFailure}, test.handler)
				a, err := do(t, http.MethodGet, server.URL+"/x", nil)
				want := map[string]int{"open": test.open, "closed": test.closed}[mode]
				if (err != nil) != test.broken {
					t.Fatalf("the client got %v", err)
				}
				if err == nil && want != 101 && a.StatusCode != want || err == nil && a.body != test.body {
					t.Errorf("the client got %d and %d bytes", a.StatusCode, len(a.body))
				}
				if got := await(t, store, 1)[0].ResponseCode; got != want {
					t.Errorf("recorded %d, want %d", got, want)
				}
			})
		}
	}
}

func TestThePanicGoesOnAfterTheEntry(t *testing.T) {
	store := newStore(t)
	for mode, onFailure := range modes {
		handler := audited(t, store, audithttp.Config{OnFailure: onFailure}, func(http.ResponseWriter, *http.Request) { panic("mine") })
		func() {
			defer func() {
				if value := recover(); value != "mine" {
					t.Errorf("%s: recovered %v", mode, value)
				}
			}()
			handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/x", http.NoBody))
		}()
	}
	await(t, store, len(modes))
}

func TestDurationIsTheHandlersTime(t *testing.T) {
	store := newStore(t)
	const long = 60 * time.Millisecond
	server := serve(t, store, audithttp.Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-time.After(long)
		if r.URL.Path == "/panics" {
			panic("on purpose")
		}
	})
	_ = get(t, server.URL+"/streams")
	_, _ = do(t, http.MethodGet, server.URL+"/panics", nil)
	for _, entry := range await(t, store, 2) {
		if entry.DurationMs < long.Milliseconds() {
			t.Errorf("%s took %d ms, want at least %v", entry.Path, entry.DurationMs, long)
		}
	}
}

func TestFilesAndConnectionsStillWork(t *testing.T) {
	content := strings.Repeat("0123456789", 50<<10)
	file := filepath.Join(t.TempDir(), "file.txt")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, onFailure := range modes {
		t.Run(mode, func(t *testing.T) {
			store := newStore(t)
			server := serve(t, store, audithttp.Config{OnFailure: onFailure}, func(w http.ResponseWriter, r *http.Request) {
				controller := http.NewResponseController(w)
				if err := errors.Join(controller.SetReadDeadline(time.Now().Add(patience)),
					controller.SetWriteDeadline(time.Now().Add(patience)), controller.EnableFullDuplex()); err != nil {
					t.Error(err)
				}
				if _, ok := w.(io.ReaderFrom); !ok {
					t.Error("no io.ReaderFrom")
				}
				w.Header().Set("Trailer", "Sum")
				http.ServeFile(w, r, file)
				w.Header().Set("Sum", "42")
			})
			if a := get(t, server.URL+"/file"); a.StatusCode != http.StatusOK || a.body != content || a.ContentLength != int64(len(content)) {
				t.Errorf("%d, %d bytes, length %d", a.StatusCode, len(a.body), a.ContentLength)
			}
			a, err := do(t, http.MethodHead, server.URL+"/file", nil)
			if err != nil || a.ContentLength != int64(len(content)) {
				t.Errorf("HEAD: %v, %v", a.Response, err)
			}
			ranged, err := do(t, http.MethodGet, server.URL+"/file", http.Header{"Range": {"bytes=3-5"}})
			if err != nil || ranged.StatusCode != http.StatusPartialContent || ranged.body != "345" {
				t.Errorf("range: %v, %q, %v", ranged.Response, ranged.body, err)
			}
			await(t, store, 3)
		})
	}
}

type bare struct{ http.ResponseWriter }

type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type noFlush struct {
	http.ResponseWriter
	hijacked bool
}

func (w *noFlush) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.hijacked = true
	return nil, nil, nil
}

func TestInterfacesAreThoseOfTheServersWriter(t *testing.T) {
	store := newStore(t)
	for name, test := range map[string]struct {
		inner            http.ResponseWriter
		flushes, hijacks bool
	}{
		"neither":           {inner: bare{httptest.NewRecorder()}},
		"flushes":           {inner: httptest.NewRecorder(), flushes: true},
		"flushes unwrapped": {inner: wrapped{httptest.NewRecorder()}, flushes: true},
		"hijacks":           {inner: &noFlush{ResponseWriter: bare{httptest.NewRecorder()}}, hijacks: true},
	} {
		for mode, onFailure := range modes {
			handler := audited(t, store, audithttp.Config{OnFailure: onFailure}, func(w http.ResponseWriter, _ *http.Request) {
				_, flushes := w.(http.Flusher)
				_, hijacks := w.(http.Hijacker)
				if flushes != test.flushes || hijacks != test.hijacks {
					t.Errorf("%s/%s: flushes %t, hijacks %t", name, mode, flushes, hijacks)
				}
				if err := http.NewResponseController(w).Flush(); errors.Is(err, http.ErrNotSupported) == test.flushes {
					t.Errorf("%s/%s: Flush: %v", name, mode, err)
				}
			})
			handler.ServeHTTP(test.inner, httptest.NewRequest(http.MethodGet, "/x", http.NoBody))
		}
	}
}

func TestHTTP2ClaimsNoHijacker(t *testing.T) {
	store := newStore(t)
	server := httptest.NewUnstartedServer(audited(t, store, audithttp.Config{}, func(w http.ResponseWriter, r *http.Request) {
		_, hijacks := w.(http.Hijacker)
		_, flushes := w.(http.Flusher)
		if r.ProtoMajor != 2 || hijacks || !flushes {
			t.Errorf("%s: hijacks %t, flushes %t", r.Proto, hijacks, flushes)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	resp, err := server.Client().Get(server.URL + "/x")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := await(t, store, 1)[0].ResponseCode; got != http.StatusAccepted {
		t.Errorf("recorded %d", got)
	}
}

func TestExclude(t *testing.T) {
	for name, test := range map[string]struct {
		exclude []string
		path    string
		audited bool
	}{
		"the path itself":         {nil, "/health", false},
		"metrics":                 {nil, "/metrics", false},
		"livez":                   {nil, "/livez", false},
		"below it":                {nil, "/readyz/db", false},
		"with a query":            {nil, "/health?full=1", false},
		"only the same beginning": {nil, "/healthz", true},
		"of one's own":            {[]string{"/internal"}, "/internal/x", false},
		"in place of the default": {[]string{"/internal"}, "/health", true},
		"nothing":                 {[]string{}, "/health", true},
		"up again":                {nil, "/health/../users", true},
		"up again, escaped":       {nil, "/health/%2e%2e/users", true},
		"up again, backslash":     {nil, "/health/..%5Cusers", true},
		"an escaped slash":        {nil, "/health%2Fusers", true},
		"an empty segment":        {nil, "/health//users", true},
		"escaped twice":           {nil, "/health/%252e%252e/users", true},
		"a parameter":             {nil, "/health/..;x=1/users", true},
		"a parameter of its own":  {nil, "/health/;x=1", true},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			server := serve(t, store, audithttp.Config{Exclude: test.exclude}, func(http.ResponseWriter, *http.Request) {})
			_ = get(t, server.URL+test.path)
			want := []string{"/last"}
			if test.audited {
				want = []string{"/last", ""}
			}
			_ = get(t, server.URL+"/last")
			got := await(t, store, len(want))
			if got[0].Path != want[0] {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestRejections(t *testing.T) {
	for mode, onFailure := range modes {
		for rejections, want := range map[audithttp.Rejections][]int{
			audithttp.AuditRejections: {404, 403, 401}, audithttp.SkipRejections: {404},
		} {
			store := newStore(t)
			server := serve(t, store, audithttp.Config{Rejections: rejections, OnFailure: onFailure}, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(map[string]int{"/a": 401, "/b": 403, "/c": 404}[r.URL.Path])
			})
			for _, path := range []string{"/a", "/b", "/c"} {
				_ = get(t, server.URL+path)
			}
			var got []int
			for _, entry := range await(t, store, len(want)) {
				got = append(got, entry.ResponseCode)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, %d: %v, want %v", mode, rejections, got, want)
			}
		}
	}
}

func TestTraceID(t *testing.T) {
	store := newStore(t)
	span := func(r *http.Request, first byte) *http.Request {
		sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{first, 15: 1}, SpanID: trace.SpanID{1}})
		return r.WithContext(trace.ContextWithSpanContext(r.Context(), sc))
	}
	handler := audited(t, store, audithttp.Config{}, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/inner" {
			audithttp.Observe(span(r, 0xcd))
		}
	})
	server := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/outer" {
			r = span(r, 0xab)
		}
		handler.ServeHTTP(w, r)
	}))
	for _, path := range []string{"/none", "/outer", "/inner"} {
		_ = get(t, server.URL+path)
	}
	var got []string
	for _, entry := range await(t, store, 3) {
		got = append(got, entry.TraceID)
	}
	if want := []string{"cd000000000000000000000000000001", "ab000000000000000000000000000001", ""}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTheOuterRequestGetsWhatTheHandlerLearned(t *testing.T) {
	store := newStore(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/items/{id}", func(_ http.ResponseWriter, r *http.Request) { _ = r.ParseMultipartForm(1 << 10) })
	handler := audited(t, store, audithttp.Config{}, mux.ServeHTTP)
	body := "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nv\r\n--b--\r\n"
	r := httptest.NewRequest(http.MethodPost, "/items/1", strings.NewReader(body))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	handler.ServeHTTP(httptest.NewRecorder(), r)
	if r.Pattern != "/items/{id}" || r.MultipartForm == nil {
		t.Errorf("pattern %q, form %v", r.Pattern, r.MultipartForm)
	}
}

func TestLongValuesAreCut(t *testing.T) {
	store := newStore(t)
	long := strings.Repeat("é", 300<<10)
	cfg := audithttp.Config{
		User:        func(*http.Request) string { return long },
		Roles:       func(*http.Request) []string { return slices.Repeat([]string{long}, 1000) },
		OperationID: func(*http.Request) string { return long },
	}
	handler := audited(t, store, cfg, func(http.ResponseWriter, *http.Request) {})
	r := httptest.NewRequest(strings.Repeat("M", 1<<20), "/x", http.NoBody)
	r.URL.Path = "/" + strings.Repeat("\x01", 1<<20)
	handler.ServeHTTP(httptest.NewRecorder(), r)
	got := await(t, store, 1)[0]
	for name, value := range map[string]string{"user": got.User, "role": got.Roles[0], "operation": got.OperationID, "method": got.Method, "path": got.Path} {
		if !strings.HasSuffix(value, "…") || len(value) > 4<<10 || strings.ContainsRune(value, '\uFFFD') {
			t.Errorf("%s has %d bytes", name, len(value))
		}
	}
	if len(got.Roles) != 128 {
		t.Errorf("%d roles", len(got.Roles))
	}
}
