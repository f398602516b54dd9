package audithttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/audithttp"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

func TestFailOpenAnswersAndReports(t *testing.T) {
	store := newStore(t)
	var reported failures
	cfg := audithttp.Config{OnError: reported.add}
	server := serve(t, failing(store), cfg, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	if a := get(t, server.URL+"/x"); a.StatusCode != http.StatusCreated {
		t.Errorf("the client got %d", a.StatusCode)
	}
	errs, entries := reported.all()
	if len(errs) != 1 || !errors.Is(errs[0], errFault) || entries[0].ResponseCode != http.StatusCreated {
		t.Fatalf("%v, %+v", errs, entries)
	}
	// What was reported can be written later.
	if err := store.Write(t.Context(), entries[0]); err != nil {
		t.Fatal(err)
	}
	if got := await(t, store, 1)[0]; got.ID != entries[0].ID {
		t.Errorf("%+v", got)
	}
}

func TestFailuresAreLoggedByDefault(t *testing.T) {
	var logged bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	handler := audited(t, failing(nil), audithttp.Config{}, func(http.ResponseWriter, *http.Request) {})
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/x", http.NoBody))
	if !strings.Contains(logged.String(), errFault.Error()) {
		t.Errorf("logged %q", logged.String())
	}
}

// TestFailClosedGivesNothingAway has every kind of handler answer with a success and a secret while no entry can be written.
func TestFailClosedGivesNothingAway(t *testing.T) {
	const secret = "the secret"
	big := strings.Repeat(secret, 50<<10)
	upstream := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, secret)
	}))
	target, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	withheld := func(err error) {
		if !errors.Is(err, audithttp.ErrWithheld) {
			t.Errorf("the handler got %v", err)
		}
	}
	for name, handler := range map[string]http.HandlerFunc{
		"never writes": func(http.ResponseWriter, *http.Request) {},
		"writes":       func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, secret) },
		"sets a length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, secret)
		},
		"writes much": func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, big)
			withheld(err)
			_, err = io.WriteString(w, big)
			withheld(err)
		},
		"copies much": func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.Copy(w, strings.NewReader(big))
			withheld(err)
			_, err = io.Copy(w, strings.NewReader(big))
			withheld(err)
		},
		"flushes": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, secret)
			w.(http.Flusher).Flush()
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, secret)
		},
		"flushes through a controller": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, secret)
			withheld(http.NewResponseController(w).Flush())
			withheld(http.NewResponseController(w).Flush())
			if _, ok := w.(interface{ Unwrap() http.ResponseWriter }).Unwrap().(http.Flusher); ok {
				t.Error("the server's writer is within reach")
			}
		},
		"hijacks": func(w http.ResponseWriter, _ *http.Request) {
			_, _, err := w.(http.Hijacker).Hijack()
			withheld(err)
		},
		"unwraps": func(w http.ResponseWriter, _ *http.Request) {
			w = w.(interface{ Unwrap() http.ResponseWriter }).Unwrap()
			if _, ok := w.(http.Flusher); ok {
				t.Error("what is unwrapped flushes")
			}
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, secret)
		},
		"proxies": httputil.NewSingleHostReverseProxy(target).ServeHTTP,
	} {
		t.Run(name, func(t *testing.T) {
			var reported failures
			cfg := audithttp.Config{OnFailure: audithttp.FailClosed, OnError: reported.add}
			inner := audited(t, failing(nil), cfg, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Set-Cookie", secret)
				w.Header().Set("X-Outer", secret)
				handler(w, r)
			})
			server := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Outer", "outer")
				inner.ServeHTTP(w, r)
			}))
			a := get(t, server.URL+"/x")
			if a.StatusCode != http.StatusServiceUnavailable || strings.Contains(a.body, secret) || a.body == "" {
				t.Errorf("the client got %d: %.80q", a.StatusCode, a.body)
			}
			if a.Header.Get("Set-Cookie") != "" || a.Header.Get("Content-Encoding") != "" || a.Header.Get("X-Outer") != "outer" {
				t.Errorf("the client got the headers %v", a.Header)
			}
			if errs, _ := reported.all(); len(errs) != 1 || !errors.Is(errs[0], errFault) {
				t.Errorf("reported %v", errs)
			}
		})
	}
}

// unhijackable is a writer whose connection cannot be taken over, and which says so only when asked.
type unhijackable struct{ http.ResponseWriter }

func (unhijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}

// TestAHijackThatFailsIsNotRecorded has the handler answer in another way, which is what the client gets.
func TestAHijackThatFailsIsNotRecorded(t *testing.T) {
	for mode, onFailure := range modes {
		for name, before := range map[string]func(http.ResponseWriter){
			"at once":        func(http.ResponseWriter) {},
			"with an answer": func(w http.ResponseWriter) { w.WriteHeader(http.StatusUpgradeRequired) },
		} {
			recorded := make(statusSink, 2)
			inner := audited(t, recorded, audithttp.Config{OnFailure: onFailure}, func(w http.ResponseWriter, _ *http.Request) {
				before(w)
				if _, _, err := w.(http.Hijacker).Hijack(); !errors.Is(err, http.ErrNotSupported) {
					t.Errorf("%s: %s: Hijack: %v", mode, name, err)
				}
				w.WriteHeader(http.StatusUpgradeRequired)
				_, _ = io.WriteString(w, "no")
			})
			server := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(unhijackable{w}, r) }))
			if a := get(t, server.URL+"/x"); a.StatusCode != http.StatusUpgradeRequired || a.body != "no" {
				t.Errorf("%s: %s: the client got %d %q", mode, name, a.StatusCode, a.body)
			}
			server.Close()
			if got := <-recorded; got != http.StatusUpgradeRequired || len(recorded) > 0 {
				t.Errorf("%s: %s: recorded %d, and %d more", mode, name, got, len(recorded))
			}
		}
	}
}

func TestFailClosedPanicsAnswerNothing(t *testing.T) {
	server := serve(t, failing(nil), audithttp.Config{OnFailure: audithttp.FailClosed, OnError: (&failures{}).add},
		func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", 10<<10))
			panic("on purpose")
		})
	if a, err := do(t, http.MethodGet, server.URL+"/x", nil); err == nil {
		t.Errorf("the client got %d", a.StatusCode)
	}
}

// TestFailClosedWritesBeforeTheFirstByte looks into the recorder while the entry is being written.
func TestFailClosedWritesBeforeTheFirstByte(t *testing.T) {
	store := newStore(t)
	const limit = 100
	for name, handler := range map[string]http.HandlerFunc{
		"returns":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") },
		"at limit":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, limit)) },
		"over limit": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, limit+1)) },
		"copies": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, bytes.NewReader(make([]byte, 10*limit)))
		},
		"flushes": func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() },
	} {
		recorder := httptest.NewRecorder()
		writes, sizeAtReturn := 0, 0
		checking := &faulty{store, func(context.Context, auditstore.Entry) error {
			writes++
			if recorder.Flushed || recorder.Body.Len() > 0 || len(recorder.Result().Header) > 0 {
				t.Errorf("%s: something went out before the entry", name)
			}
			return nil
		}}
		cfg := audithttp.Config{OnFailure: audithttp.FailClosed, BufferLimit: limit}
		audited(t, checking, cfg, func(w http.ResponseWriter, r *http.Request) {
			handler(w, r)
			sizeAtReturn = recorder.Body.Len()
		}).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/x", http.NoBody))
		if writes != 1 {
			t.Errorf("%s: %d writes", name, writes)
		}
		if held := name == "returns" || name == "at limit"; held != (sizeAtReturn == 0 && name != "flushes") {
			t.Errorf("%s: %d bytes were out when the handler returned", name, sizeAtReturn)
		}
	}
}

func TestFailClosedAnswersAsTheHandlerMeantIt(t *testing.T) {
	store := newStore(t)
	handler := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/late-header":
			w.Header().Set("X-Early", "1")
			w.WriteHeader(http.StatusCreated)
			w.Header().Set("X-Late", "1")
		case "/no-body":
			w.WriteHeader(http.StatusNoContent)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				t.Errorf("a body for 204: %v", err)
			}
		case "/too-long":
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "hi")
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrContentLength) {
				t.Errorf("more than Content-Length: %v", err)
			}
		case "/trailer":
			_, _ = io.WriteString(w, strings.Repeat("x", 10<<10))
			w.Header().Set(http.TrailerPrefix+"Sum", "42")
		case "/sniffed":
			_, _ = io.WriteString(w, "<html><body>")
		}
	}
	plain := start(t, http.HandlerFunc(handler))
	closed := serve(t, store, audithttp.Config{OnFailure: audithttp.FailClosed}, handler)
	for _, path := range []string{"/late-header", "/no-body", "/too-long", "/trailer", "/sniffed"} {
		want, got := get(t, plain.URL+path), get(t, closed.URL+path)
		if got.StatusCode != want.StatusCode || got.body != want.body || got.ContentLength != want.ContentLength ||
			got.Header.Get("Content-Type") != want.Header.Get("Content-Type") || got.Trailer.Get("Sum") != want.Trailer.Get("Sum") ||
			got.Header.Get("X-Early") != want.Header.Get("X-Early") || got.Header.Get("X-Late") != want.Header.Get("X-Late") {
			t.Errorf("%s: got %d %v %v, want %d %v %v", path, got.StatusCode, got.Header, got.Trailer, want.StatusCode, want.Header, want.Trailer)
		}
	}
}

func TestTheEntryOutlivesTheClient(t *testing.T) {
	for mode, onFailure := range modes {
		t.Run(mode, func(t *testing.T) {
			store := newStore(t)
			arrived := make(chan struct{})
			server := serve(t, store, audithttp.Config{OnFailure: onFailure}, func(_ http.ResponseWriter, r *http.Request) {
				close(arrived)
				<-r.Context().Done()
			})
			ctx, cancel := context.WithCancel(t.Context())
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/gone", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			go func() { <-arrived; cancel() }()
			if resp, err := http.DefaultTransport.RoundTrip(r); err == nil {
				_ = resp.Body.Close()
				t.Error("the client got an answer")
			}
			await(t, store, 1)
		})
	}
}

func TestTheWriteHasADeadline(t *testing.T) {
	for mode, want := range map[audithttp.FailureMode]int{audithttp.FailOpen: http.StatusOK, audithttp.FailClosed: http.StatusServiceUnavailable} {
		var reported failures
		hanging := &faulty{nil, func(ctx context.Context, _ auditstore.Entry) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-t.Context().Done():
				return errFault
			}
		}}
		cfg := audithttp.Config{OnFailure: mode, OnError: reported.add, WriteTimeout: time.Millisecond}
		server := serve(t, hanging, cfg, func(http.ResponseWriter, *http.Request) {})
		if a := get(t, server.URL+"/x"); a.StatusCode != want {
			t.Errorf("%d: the client got %d", mode, a.StatusCode)
		}
		if errs, _ := reported.all(); len(errs) != 1 || !errors.Is(errs[0], context.DeadlineExceeded) {
			t.Errorf("%d: reported %v", mode, errs)
		}
	}
}

func TestPanicsOfTheServicesFunctions(t *testing.T) {
	for mode, onFailure := range modes {
		t.Run(mode, func(t *testing.T) {
			store := newStore(t)
			var reported failures
			cfg := audithttp.Config{
				OnFailure:   onFailure,
				User:        func(*http.Request) string { panic("no user") },
				Roles:       func(*http.Request) []string { panic("no roles") },
				OperationID: func(*http.Request) string { return "op" },
				OnError: func(r *http.Request, entry auditstore.Entry, err error) {
					reported.add(r, entry, err)
					panic("no report")
				},
			}
			server := serve(t, store, cfg, func(http.ResponseWriter, *http.Request) {})
			if a := get(t, server.URL+"/x"); a.StatusCode != http.StatusOK {
				t.Errorf("the client got %d", a.StatusCode)
			}
			if got := await(t, store, 1)[0]; got.User != "" || got.OperationID != "op" {
				t.Errorf("%+v", got)
			}
			errs, _ := reported.all()
			var panicked *audithttp.PanicError
			if len(errs) != 2 || !errors.As(errs[0], &panicked) || panicked.Func != "User" || panicked.Value != "no user" || len(panicked.Stack) == 0 {
				t.Errorf("reported %v", errs)
			}
		})
	}
}

// TestAPanicOfTheStoreLeavesTheHandlersAlone has both panic at once.
func TestAPanicOfTheStoreLeavesTheHandlersAlone(t *testing.T) {
	var reported failures
	broken := &faulty{nil, func(context.Context, auditstore.Entry) error { panic("the store's") }}
	handler := audited(t, broken, audithttp.Config{OnError: reported.add}, func(http.ResponseWriter, *http.Request) { panic("the handler's") })
	defer func() {
		if value := recover(); value != "the handler's" {
			t.Errorf("recovered %v", value)
		}
		var panicked *audithttp.PanicError
		if errs, _ := reported.all(); len(errs) != 1 || !errors.As(errs[0], &panicked) || panicked.Func != "Write" {
			t.Errorf("reported %v", errs)
		}
	}()
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/x", http.NoBody))
}

// TestFailClosedWithTheServerGone stops a real nats-server between two requests.
func TestFailClosedWithTheServerGone(t *testing.T) {
	server := natstest.Run(t)
	store := storeOn(t, server)
	var reported failures
	cfg := audithttp.Config{OnFailure: audithttp.FailClosed, OnError: reported.add}
	hi := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") }
	service := serve(t, store, cfg, hi)
	if a := get(t, service.URL+"/x"); a.body != "hi" {
		t.Fatalf("the client got %d", a.StatusCode)
	}
	server.Stop()
	cfg.WriteTimeout = time.Second
	if a := get(t, serve(t, store, cfg, hi).URL+"/x"); a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the client got %d", a.StatusCode)
	}
	if errs, _ := reported.all(); len(errs) != 1 || !errors.Is(errs[0], auditstore.ErrNotReady) {
		t.Errorf("reported %v", errs)
	}
	server.Restart()
	eventually(t, "the service's recovery", func() bool { return get(t, service.URL+"/x").body == "hi" })
}
