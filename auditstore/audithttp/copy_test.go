package audithttp_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/osapi-io/auditstream-operator/auditstore/audithttp"
)

// copying is a server's writer that copies by itself.
type copying struct {
	*httptest.ResponseRecorder
	copied int64
	src    io.Reader
}

func (c *copying) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseRecorder, src)
	c.copied, c.src = c.copied+n, src
	return n, err
}

func TestTheServerCopiesByItself(t *testing.T) {
	store := newStore(t)
	const size, limit = 1000, 100
	for mode, test := range map[string]struct {
		cfg  audithttp.Config
		want int64
	}{
		"open":   {audithttp.Config{}, size},
		"closed": {audithttp.Config{OnFailure: audithttp.FailClosed, BufferLimit: limit}, size - limit - 1},
	} {
		inner := &copying{ResponseRecorder: httptest.NewRecorder()}
		audited(t, store, test.cfg, func(w http.ResponseWriter, _ *http.Request) {
			if n, err := io.Copy(w, io.LimitReader(strings.NewReader(strings.Repeat("x", size)), size)); n != size || err != nil {
				t.Errorf("%s: copied %d bytes, %v", mode, n, err)
			}
		}).ServeHTTP(inner, httptest.NewRequest(http.MethodGet, "/x", http.NoBody))
		if inner.copied != test.want || inner.Body.Len() != size {
			t.Errorf("%s: the server copied %d bytes of %d, want %d", mode, inner.copied, inner.Body.Len(), test.want)
		}
	}
}

// TestTheKernelGetsFilesAsTheyAre looks at what the server is given to copy: only what leads to a file descriptor can be sent by the
// kernel.
func TestTheKernelGetsFilesAsTheyAre(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file.txt")
	if err := os.WriteFile(file, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, serve := range map[string]func(w http.ResponseWriter, r *http.Request, f *os.File){
		"copied":         func(w http.ResponseWriter, _ *http.Request, f *os.File) { _, _ = io.Copy(w, f) },
		"copied in part": func(w http.ResponseWriter, _ *http.Request, f *os.File) { _, _ = io.CopyN(w, f, 5) },
		"served":         func(w http.ResponseWriter, r *http.Request, _ *os.File) { http.ServeFile(w, r, file) },
	} {
		inner := &copying{ResponseRecorder: httptest.NewRecorder()}
		audited(t, make(statusSink, 1), audithttp.Config{}, func(w http.ResponseWriter, r *http.Request) {
			f, err := os.Open(file)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = f.Close() }()
			serve(w, r, f)
		}).ServeHTTP(inner, httptest.NewRequest(http.MethodGet, "/x", http.NoBody))
		src := inner.src
		if limited, ok := src.(*io.LimitedReader); ok {
			src = limited.R
		}
		if _, ok := src.(syscall.Conn); !ok {
			t.Errorf("%s: the server was given a %T", name, inner.src)
		}
	}
}
