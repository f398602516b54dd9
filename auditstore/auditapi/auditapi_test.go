package auditapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/auditstoretest"
)

func TestNewRefuses(t *testing.T) {
	for want, cfg := range map[string]Config{
		"Store is nil":     {Authorize: allow},
		"Authorize is nil": {Store: stub{}},
	} {
		h, err := New(cfg)
		if h != nil || !errors.Is(err, auditstore.ErrInvalidConfig) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("New returned %v and the error %v, want ErrInvalidConfig that says %q", h, err, want)
		}
	}
}

func TestDefaultLogger(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	logged := &logs{}
	slog.SetDefault(slog.New(slog.NewTextHandler(logged, nil)))
	h, err := New(Config{Store: stub{err: errors.New("a defect")}, Authorize: allow})
	if err != nil {
		t.Fatal(err)
	}
	get(t, h, "/audit")
	if !strings.Contains(logged.String(), "level=ERROR") || !strings.Contains(logged.String(), "a defect") {
		t.Errorf("the default logger got %q, want the defect", logged)
	}
}

func TestZeroHandler(t *testing.T) {
	for name, h := range map[string]*Handler{"nil": nil, "zero": {}} {
		if w := get(t, h, "/audit"); w.Code != http.StatusInternalServerError {
			t.Errorf("the %s handler answered %d, want 500", name, w.Code)
		}
	}
}

// Against a real stream: pages, entries by id, ids that need escaping, and a message that is not an entry.
func TestReadsARealTrail(t *testing.T) {
	store, nc := auditstoretest.Run(t)
	h, logged := newHandler(t, Config{Store: store})
	if w := get(t, h, "/audit"); w.Code != http.StatusOK || w.Body.String() != `{"total_items":0,"items":[]}`+"\n" {
		t.Errorf("an empty trail answered %d %s", w.Code, w.Body)
	}
	names := []string{"a/b", "a//b", "%2F", "ä?d#e"}
	for i := range 25 {
		names = append(names, fmt.Sprintf("e%d", i))
	}
	for _, id := range names {
		if err := store.Write(t.Context(), entry(id)); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string]string{
		"":                   "e24 e23 e22 e21 e20 e19 e18 e17 e16 e15 e14 e13 e12 e11 e10 e9 e8 e7 e6 e5",
		"?limit=2":           "e24 e23",
		"?limit=2&offset=3":  "e21 e20",
		"?offset=24&limit=2": "e0 ä?d#e",
		"?offset=29":         "",
		"?offset=1000000":    "",
	} {
		w := get(t, h, "/audit"+query)
		got := decode[page](t, w.Body)
		if w.Code != http.StatusOK || got.TotalItems != 29 || ids(got.Items) != want || got.Corrupt != nil {
			t.Errorf("GET /audit%s: %d, total %d, items %q, corrupt %v, want 200, 29 and %q",
				query, w.Code, got.TotalItems, ids(got.Items), got.Corrupt, want)
		}
	}
	for id, path := range map[string]string{
		"e7": "/audit/e7", "a/b": "/audit/a%2Fb", "a//b": "/audit/a%2F%2Fb", "%2F": "/audit/%252F", "ä?d#e": "/audit/%C3%A4%3Fd%23e",
	} {
		w := get(t, h, path)
		if got := decode[found](t, w.Body); w.Code != http.StatusOK || !reflect.DeepEqual(*got.Entry, entry(id)) {
			t.Errorf("GET %s: %d %+v, want the entry %q", path, w.Code, got.Entry, id)
		}
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ack, err := js.Publish(t.Context(), "audit.broken", []byte("not JSON"))
	if err != nil {
		t.Fatal(err)
	}
	got := decode[page](t, get(t, h, "/audit?limit=2").Body)
	if got.TotalItems != 30 || ids(got.Items) != "e24" || !reflect.DeepEqual(got.Corrupt, []corrupt{{Sequence: ack.Sequence}}) {
		t.Errorf("a page with a corrupt message is %+v, want one entry, the total 30 and the sequence %d", got, ack.Sequence)
	}
	if !strings.Contains(logged.String(), "audit.broken") {
		t.Errorf("the log does not name the corrupt message: %s", logged)
	}
	if w := get(t, h, "/audit/broken"); w.Code != http.StatusInternalServerError {
		t.Errorf("a corrupt entry answered %d %s, want 500", w.Code, w.Body)
	}
	wantLines(t, get(t, h, "/audit/export").Body, 30, ack.Sequence)
}

func wantLines(t *testing.T, body *bytes.Buffer, n int, sequence uint64) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(body.String(), "\n"), "\n")
	if want := fmt.Sprintf(`{"corrupt":{"sequence":%d}}`, sequence); len(lines) != n || lines[0] != want {
		t.Fatalf("the export has %d lines, the first one %s, want %d and %s", len(lines), lines[0], n, want)
	}
	for i, line := range lines[1:26] {
		var got auditstore.Entry
		if err := json.Unmarshal([]byte(line), &got); err != nil || !reflect.DeepEqual(got, entry(fmt.Sprintf("e%d", 24-i))) {
			t.Errorf("line %d of the export is %s (%v), want the entry e%d", i, line, err, 24-i)
		}
	}
}

func TestBadRequests(t *testing.T) {
	h, logged := newHandler(t, Config{Store: stub{entries: numbered(1)}})
	for _, query := range []string{
		"limit=0", "limit=101", "limit=-1", "limit=", "limit=x", "limit=1.0", "limit=%2B1", "limit=1&limit=1", "limit=99999999999999999999",
		"limit=%zz", "limit=1;offset=2", "offset=-1", "offset=", "offset=1e3", "offset=0&offset=0", "offset=9223372036854775808", "offset=0x10",
	} {
		w := get(t, h, "/audit?"+query)
		if body := decode[problem](t, w.Body); w.Code != http.StatusBadRequest || body.Error == "" {
			t.Errorf("GET /audit?%s: %d %q, want 400 and what to change", query, w.Code, body.Error)
		}
	}
	if logged.String() != "" {
		t.Errorf("what a client got wrong was logged: %s", logged)
	}
	for _, query := range []string{"limit=1", "limit=100", "offset=0", "offset=9223372036854775807", "other=1"} {
		if w := get(t, h, "/audit?"+query); w.Code != http.StatusOK {
			t.Errorf("GET /audit?%s: %d %s, want 200", query, w.Code, w.Body)
		}
	}
}

// Each sentinel has its status, and what the store says stays inside.
func TestErrors(t *testing.T) {
	const secret = "nats://10.1.2.3:4222"
	broken := &auditstore.CorruptError{Sequence: 3, Subject: secret, Err: errors.New(secret)}
	for _, c := range []struct {
		err                   error
		onList, onGet, onSave int
	}{
		{auditstore.ErrInvalidID, 400, 400, 400},
		{auditstore.ErrInvalidRange, 400, 400, 400},
		{auditstore.ErrNotFound, 404, 404, 404},
		{auditstore.ErrNotReady, 503, 503, 503},
		{auditstore.ErrIncomplete, 503, 503, 503},
		{context.DeadlineExceeded, 503, 503, 503},
		{context.Canceled, 503, 503, 503},
		{errors.New("anything else"), 500, 500, 500},
		{broken, 200, 500, 200},
		{errors.Join(broken, broken), 200, 500, 200},
		{auditstore.ErrCorrupt, 500, 500, 500}, // nothing says what is missing
		{errors.Join(broken, auditstore.ErrNotReady), 503, 503, 503},
		{errors.Join(broken, auditstore.ErrIncomplete), 503, 503, 503},
		{errors.Join(broken, context.DeadlineExceeded), 503, 503, 503},
		{errors.Join(broken, errors.New("the database went away")), 500, 500, 500},
		{fmt.Errorf("%w: and 2 more: %w", auditstore.ErrCorrupt, broken), 500, 500, 500}, // the two are not named
	} {
		h, logged := newHandler(t, Config{Store: stub{err: fmt.Errorf("asking %s: %w", secret, c.err)}})
		for path, want := range map[string]int{"/audit": c.onList, "/audit/id": c.onGet, "/audit/export": c.onSave} {
			before := len(logged.String())
			w := get(t, h, path)
			if w.Code != want {
				t.Errorf("GET %s with the error %q: %d, want %d", path, c.err, w.Code, want)
			}
			if strings.Contains(w.Body.String(), secret) {
				t.Errorf("GET %s with the error %q told the client %s", path, c.err, w.Body)
			}
			if told := strings.Contains(logged.String()[before:], secret); told != (want == 200 || want >= 500) {
				t.Errorf("GET %s with the error %q: logged is %t", path, c.err, told)
			}
			if want >= 400 && decode[problem](t, w.Body).Error == "" {
				t.Errorf("GET %s with the error %q: the body does not say what is wrong", path, c.err)
			}
		}
	}
}

func TestNeitherEntryNorError(t *testing.T) {
	h, _ := newHandler(t, Config{Store: nothing{}})
	if w := get(t, h, "/audit/id"); w.Code != http.StatusInternalServerError {
		t.Errorf("a store that returned nothing made it %d %s, want 500", w.Code, w.Body)
	}
}

type nothing struct{ auditstore.Store }

func (nothing) Get(context.Context, string) (*auditstore.Entry, error) { return nil, nil }

// An entry that is no JSON is a defect, and must not become a 200 with half a body.
func TestUnencodableEntry(t *testing.T) {
	bad := entry("id")
	bad.Timestamp = bad.Timestamp.AddDate(10000, 0, 0)
	h, _ := newHandler(t, Config{Store: stub{entries: []auditstore.Entry{bad}}})
	for _, path := range []string{"/audit", "/audit/id", "/audit/export"} {
		if w := get(t, h, path); w.Code != http.StatusInternalServerError {
			t.Errorf("GET %s: %d %s, want 500", path, w.Code, w.Body)
		}
	}
}

func TestAuthorization(t *testing.T) {
	const secret = "the token of eve"
	for _, c := range []struct {
		err             error
		challenge, want string
		status          int
	}{
		{nil, "", "", 200},
		{ErrUnauthenticated, "", "Bearer", 401},
		{fmt.Errorf("%s: %w", secret, ErrUnauthenticated), `Basic realm="audit"`, `Basic realm="audit"`, 401},
		{fmt.Errorf("%s: %w", secret, ErrForbidden), "", "", 403},
		{errors.New(secret), "", "", 500},
	} {
		asked := 0
		h, logged := newHandler(t, Config{
			Store: stub{entries: numbered(3)}, Challenge: c.challenge,
			Authorize: func(*http.Request) error { asked++; return c.err },
		})
		paths := []string{"/audit", "/audit/e1", "/audit/export"}
		if c.err != nil {
			paths = append(paths, "/audit?limit=0", "/audit/a.b", "/audit/missing") // before anything else is looked at
		}
		for _, path := range paths {
			w := get(t, h, path)
			if w.Code != c.status || w.Header().Get("WWW-Authenticate") != c.want {
				t.Errorf("GET %s where Authorize returns %v: %d and the challenge %q, want %d and %q",
					path, c.err, w.Code, w.Header().Get("WWW-Authenticate"), c.status, c.want)
			}
			if body := w.Body.String(); c.err != nil && (strings.Contains(body, "ada") || strings.Contains(body, secret)) {
				t.Errorf("GET %s where Authorize returns %v told the client %s", path, c.err, body)
			}
		}
		if asked != len(paths) {
			t.Errorf("Authorize was asked %d times, want %d", asked, len(paths))
		}
		if told := strings.Contains(logged.String(), secret); told != (c.status == 500) {
			t.Errorf("where Authorize returns %v the log is %q", c.err, logged)
		}
	}
}

func TestMethodsAndPaths(t *testing.T) {
	h, _ := newHandler(t, Config{Store: stub{entries: numbered(3)}, Authorize: func(r *http.Request) error {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return errors.New("asked about a method that does not exist")
		}
		return nil
	}})
	for _, path := range []string{"/audit", "/audit/e1", "/audit/export"} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
			if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" || decode[problem](t, w.Body).Error == "" {
				t.Errorf("%s %s: %d, Allow %q, want 405 and GET, HEAD", method, path, w.Code, w.Header().Get("Allow"))
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodHead, path, http.NoBody))
		if w.Code != http.StatusOK {
			t.Errorf("HEAD %s: %d, want 200", path, w.Code)
		}
	}
	for _, path := range []string{"/", "/audit/", "/audit/e1/", "/audit/e1/e2", "/audits", "/audit/export/e1"} {
		if w := get(t, h, path); w.Code != http.StatusNotFound || decode[problem](t, w.Body).Error == "" {
			t.Errorf("GET %s: %d, want 404", path, w.Code)
		}
	}
}

func TestHeaders(t *testing.T) {
	h, _ := newHandler(t, Config{Store: stub{entries: numbered(3)}})
	for path, contentType := range map[string]string{
		"/audit": "application/json", "/audit/e1": "application/json", "/audit/none": "application/json", "/audit/export": "application/jsonl",
	} {
		header := get(t, h, path).Header()
		if header.Get("Content-Type") != contentType || header.Get("Cache-Control") != "no-store" ||
			header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("GET %s has the headers %v", path, header)
		}
	}
}

// Below a prefix and beside other handlers, as a service mounts it.
func TestMounted(t *testing.T) {
	h, _ := newHandler(t, Config{Store: stub{entries: []auditstore.Entry{entry("a/b")}}})
	mux := http.NewServeMux()
	below := http.StripPrefix("/api/v1", h)
	mux.Handle("/api/v1/audit", below)
	mux.Handle("/api/v1/audit/", below)
	for path, want := range map[string]int{
		"/api/v1/audit": 200, "/api/v1/audit/a%2Fb": 200, "/api/v1/audit/export": 200, "/api/v1/audit/c": 404, "/audit": 404,
	} {
		if w := get(t, mux, path); w.Code != want {
			t.Errorf("GET %s: %d, want %d", path, w.Code, want)
		}
	}
}

// Below a prefix without a ServeMux further out, which would redirect such paths. A redirect of the handler's own would lose the
// prefix.
func TestUncleanPaths(t *testing.T) {
	h, _ := newHandler(t, Config{Store: stub{entries: []auditstore.Entry{entry("a//b")}}, Authorize: func(*http.Request) error {
		return ErrForbidden // nothing is told to who may not read
	}})
	below := http.StripPrefix("/api", h)
	for path, want := range map[string]int{
		"/api/audit//export": 404, "/api//audit": 404, "/api/audit/./export": 404, "/api/audit/../audit": 404, "/api": 404,
		"/api/audit/export/": 404, "/api/audit/a%2F%2Fb": 403,
	} {
		w := get(t, below, path)
		if w.Code != want || w.Header().Get("Content-Type") != "application/json" || decode[problem](t, w.Body).Error == "" {
			t.Errorf("GET %s: %d %v, want %d", path, w.Code, w.Header(), want)
		}
	}
	if w := get(t, http.StripPrefix("/api/", h), "/api/audit"); w.Code != http.StatusNotFound {
		t.Errorf("without its slash /audit is %d %v, want 404", w.Code, w.Header())
	}
}
