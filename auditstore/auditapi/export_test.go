package auditapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// breaking yields n entries and then the error.
func breaking(n int, err error) func(context.Context) iter.Seq2[auditstore.Entry, error] {
	return func(context.Context) iter.Seq2[auditstore.Entry, error] {
		return func(yield func(auditstore.Entry, error) bool) {
			for _, e := range numbered(n) {
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(auditstore.Entry{}, err)
			}
		}
	}
}

// panicking yields n entries and then panics, as a defect of the store or of Config.Export would.
func panicking(n int) func(context.Context) iter.Seq2[auditstore.Entry, error] {
	return func(ctx context.Context) iter.Seq2[auditstore.Entry, error] {
		return func(yield func(auditstore.Entry, error) bool) {
			breaking(n, nil)(ctx)(yield)
			panic("a defect")
		}
	}
}

// many is enough entries to fill the buffer of an export several times.
const many = 2000

func serve(t *testing.T, h http.Handler, http2 bool) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(&logs{}, "", 0)
	srv.EnableHTTP2 = http2
	if http2 {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv
}

// received is what a client has of an export. The error is that of reading the body.
type received struct {
	proto, body string
	status      int
	header      http.Header
	err         error
}

func (r received) lines() int { return strings.Count(r.body, "\n") }

func download(t *testing.T, srv *httptest.Server) received {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/audit/export", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatalf("an export that had begun did not answer: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return received{resp.Proto, string(body), resp.StatusCode, resp.Header, err}
}

// careless recovers from every panic, as a middleware should not.
func careless(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { _ = recover() }()
		next.ServeHTTP(w, r)
	})
}

func TestExportWhole(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		for _, n := range []int{0, 1, many} {
			h, _ := newHandler(t, Config{Export: breaking(n, nil)})
			srv := serve(t, h, http2)
			got := download(t, srv)
			if got.err != nil || got.status != http.StatusOK || got.proto != name || got.lines() != n {
				t.Errorf("%s: an export of %d entries is %s %d with %d lines and the error %v", name, n, got.proto, got.status, got.lines(), got.err)
			}
			if kind, file := got.header.Get("Content-Type"), got.header.Get("Content-Disposition"); kind != "application/jsonl" ||
				!strings.Contains(file, "audit.jsonl") {
				t.Errorf("%s: an export of %d entries is offered as %q, %q", name, n, kind, file)
			}
			if complaints := srv.Config.ErrorLog.Writer().(*logs).String(); strings.Contains(complaints, "superfluous") {
				t.Errorf("%s: an export of %d entries made the server complain: %s", name, n, complaints)
			}
		}
	}
}

// An error or a panic in mid-stream is one that the client sees, also behind a middleware that swallows the panic.
func TestExportBroken(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		for _, wrap := range []func(http.Handler) http.Handler{func(h http.Handler) http.Handler { return h }, careless} {
			for what, export := range map[string]func(context.Context) iter.Seq2[auditstore.Entry, error]{
				"an error": breaking(many, auditstore.ErrIncomplete), "a panic": panicking(many),
			} {
				h, logged := newHandler(t, Config{Export: export})
				got := download(t, serve(t, wrap(h), http2))
				if got.err == nil || got.status != http.StatusOK || got.proto != name {
					t.Errorf("%s: an export broken by %s ended as %s %d after %d lines with the error %v, want an error", name, what,
						got.proto, got.status, got.lines(), got.err)
				}
				// A panic is for whoever recovers it to log.
				if what == "an error" && !strings.Contains(logged.String(), "Broke off an export") {
					t.Errorf("%s: the log does not say that an export was broken off: %q", name, logged)
				}
			}
		}
	}
}

// A panic goes on as what it is, so that whoever recovers it knows.
func TestExportPanicGoesOn(t *testing.T) {
	h, _ := newHandler(t, Config{Export: panicking(many)})
	defer func() {
		if value := recover(); value != "a defect" {
			t.Errorf("recovered %v", value)
		}
	}()
	get(t, h, "/audit/export")
}

// Where the time for writing cannot be ended, as with a ResponseWriter that is wrapped and does not say in what, the panic breaks
// the export.
func TestExportBrokenBehindAWrapper(t *testing.T) {
	h, _ := newHandler(t, Config{Export: breaking(many, auditstore.ErrIncomplete)})
	wrapped := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	})
	if got := download(t, serve(t, wrapped, false)); got.err == nil {
		t.Errorf("a broken export ended as %d after %d lines without an error", got.status, got.lines())
	}
}

// Before anything was sent an error has its own status, however many entries there were.
func TestExportFailsEarly(t *testing.T) {
	for _, n := range []int{0, 5} {
		h, _ := newHandler(t, Config{Export: breaking(n, auditstore.ErrNotReady)})
		got := download(t, serve(t, h, false))
		if got.err != nil || got.status != http.StatusServiceUnavailable || strings.Contains(got.body, "ada") {
			t.Errorf("an export that failed after %d entries is %d %s with the error %v, want 503", n, got.status, got.body, got.err)
		}
		if disposition := got.header.Get("Content-Disposition"); disposition != "" {
			t.Errorf("an error is offered as the file %s", disposition)
		}
	}
}

// A corrupt message keeps its place and does not end the export.
func TestExportPassesCorruptMessages(t *testing.T) {
	h, logged := newHandler(t, Config{Export: func(context.Context) iter.Seq2[auditstore.Entry, error] {
		return func(yield func(auditstore.Entry, error) bool) {
			_ = yield(entry("b"), nil) &&
				yield(auditstore.Entry{}, &auditstore.CorruptError{Sequence: 2, Err: errors.New("not JSON")}) &&
				yield(entry("a"), nil)
		}
	}})
	lines := strings.Split(get(t, h, "/audit/export").Body.String(), "\n")
	if len(lines) != 4 || !strings.Contains(lines[0], `"id":"b"`) || lines[1] != `{"corrupt":{"sequence":2}}` || !strings.Contains(lines[2], `"id":"a"`) {
		t.Errorf("the export is %q, want b, the corrupt sequence 2, and a", lines)
	}
	if !strings.Contains(logged.String(), "not JSON") {
		t.Errorf("the log does not say what is corrupt: %q", logged)
	}
}

// HEAD answers as the export would begin, and does not read the trail to say so.
func TestExportHead(t *testing.T) {
	for name, test := range map[string]struct {
		export func(context.Context) iter.Seq2[auditstore.Entry, error]
		status int
		kind   string
	}{
		"many":      {breaking(many, auditstore.ErrIncomplete), 200, "application/jsonl"},
		"none":      {breaking(0, nil), 200, "application/jsonl"},
		"corrupt":   {breaking(0, &auditstore.CorruptError{Sequence: 2, Err: errors.New("not JSON")}), 200, "application/jsonl"},
		"not ready": {breaking(0, auditstore.ErrNotReady), 503, "application/json"},
	} {
		read := 0
		h, _ := newHandler(t, Config{Export: func(ctx context.Context) iter.Seq2[auditstore.Entry, error] {
			return func(yield func(auditstore.Entry, error) bool) {
				test.export(ctx)(func(e auditstore.Entry, err error) bool { read++; return yield(e, err) })
			}
		}})
		srv := serve(t, h, false)
		resp, err := srv.Client().Head(srv.URL + "/audit/export")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != test.status || resp.Header.Get("Content-Type") != test.kind || read > 1 {
			t.Errorf("%s: HEAD is %d %v after %d entries, want %d after one at most", name, resp.StatusCode, resp.Header, read, test.status)
		}
		// The length of the first entry would be taken for that of the whole.
		if test.status == http.StatusOK && resp.ContentLength != -1 {
			t.Errorf("%s: HEAD promises %d bytes", name, resp.ContentLength)
		}
	}
}

func TestExportRefusesHTTP10(t *testing.T) {
	h, _ := newHandler(t, Config{Store: stub{entries: numbered(2)}})
	srv := serve(t, h, false)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /audit/export HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusHTTPVersionNotSupported {
		t.Errorf("an export with HTTP/1.0 is %d, want 505", resp.StatusCode)
	}
}

// A client that goes away ends the read: an export is not read to the end for nobody.
func TestExportEndsWithItsClient(t *testing.T) {
	ended := make(chan struct{})
	endless := func(context.Context) iter.Seq2[auditstore.Entry, error] {
		return func(yield func(auditstore.Entry, error) bool) {
			for i := 0; yield(entry(fmt.Sprintf("e%d", i)), nil); i++ {
			}
			close(ended)
		}
	}
	h, logged := newHandler(t, Config{Export: endless})
	srv := serve(t, h, false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/audit/export", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	cancel()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the export goes on without its client")
	}
	srv.Close() // waits for the handler, which logs after the sequence has ended
	if !strings.Contains(logged.String(), `level=INFO msg="Broke off an export`) {
		t.Errorf("the log does not say, as no error, that the export was broken off: %q", logged)
	}
}
