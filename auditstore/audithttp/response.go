package audithttp

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// response sees what the handler answers and, where it has a hold, keeps it back until the entry is written.
type response struct {
	inner    http.ResponseWriter
	control  *http.ResponseController
	buffer   int64 // what the server keeps to itself of a body
	direct   bool  // whether the server lets go what it copies
	status   int   // 0 until the handler has set it, or implied it by writing
	written  int64
	flushed  bool
	hijacked bool

	hold  *hold
	fixed bool  // whether inner has to stay out of reach
	err   error // ErrWithheld once the entry could not be written
}

func newResponse(w http.ResponseWriter, r *http.Request) *response {
	_, copies := w.(io.ReaderFrom)
	buffer := int64(serverBuffer)
	if r.ProtoMajor > 1 {
		buffer = serverBuffer2
	}
	return &response{
		inner: w, control: http.NewResponseController(w),
		buffer: buffer, direct: copies && r.ProtoMajor == 1 && r.TLS == nil,
	}
}

// writer is what the handler gets: it claims to flush and to hijack only where inner can.
func (w *response) writer() http.ResponseWriter {
	flushes := reaches[http.Flusher](w.inner) || reaches[interface{ FlushError() error }](w.inner)
	hijacks := reaches[http.Hijacker](w.inner)
	switch {
	case flushes && hijacks:
		return struct {
			*response
			flusher
			hijacker
		}{w, flusher{w}, hijacker{w}}
	case flushes:
		return struct {
			*response
			flusher
		}{w, flusher{w}}
	case hijacks:
		return struct {
			*response
			hijacker
		}{w, hijacker{w}}
	}
	return w
}

// reaches says whether the writer, or one that it unwraps to, is a T. That is where http.ResponseController looks.
func reaches[T any](w http.ResponseWriter) bool {
	for w != nil {
		if _, ok := w.(T); ok {
			return true
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = wrapper.Unwrap()
	}
	return false
}

// outcome is the status to record once the handler has returned, or panicked.
func (w *response) outcome(returned bool) int {
	left := w.flushed || w.hijacked || w.written > w.buffer
	switch {
	case !returned && !left:
		return http.StatusInternalServerError
	case w.status != 0:
		return w.status
	case w.hijacked:
		return http.StatusSwitchingProtocols
	}
	return http.StatusOK
}

// Header is the header map of the server's writer, also while the response is held back.
func (w *response) Header() http.Header { return w.inner.Header() }

// WriteHeader passes the status on, or holds it back.
func (w *response) WriteHeader(code int) {
	switch {
	case w.err != nil:
	case w.hold == nil:
		w.inner.WriteHeader(code)
		if w.status == 0 && !w.hijacked && !informational(code) {
			w.status = code
		}
	case w.status != 0:
	case informational(code) || code < 100 || code > 999:
		// What is no status makes the server panic, and should here.
		w.inner.WriteHeader(code)
	default:
		w.status = code
		w.hold.setHead(w.inner.Header())
	}
}

// informational says whether more heads follow this one.
func informational(code int) bool {
	return code >= 100 && code <= 199 && code != http.StatusSwitchingProtocols
}

// Write passes the bytes on, or holds them back.
func (w *response) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.hold != nil {
		held, err := w.keep(p)
		switch {
		case err != nil:
			return 0, err
		case held:
			return len(p), nil
		}
	}
	n, err := w.inner.Write(p)
	if refused(err) {
		w.passed(int64(n))
	} else {
		w.passed(int64(len(p))) // what broke in the middle may have arrived
	}
	return n, err
}

// passed counts what was written, which implies a head.
func (w *response) passed(n int64) {
	w.written += n
	if w.status == 0 && !w.hijacked {
		w.status = http.StatusOK
	}
}

// Unwrap is for http.ResponseController. It leads past this writer only where nothing is held back.
func (w *response) Unwrap() http.ResponseWriter {
	if w.fixed {
		return controls{w}
	}
	return w.inner
}

type flusher struct{ w *response }

// Flush sends what there is to the client.
func (f flusher) Flush() { _ = f.FlushError() }

// FlushError is Flush with its error.
func (f flusher) FlushError() error {
	if f.w.status == 0 && f.w.hold != nil {
		f.w.WriteHeader(http.StatusOK)
	}
	if err := f.w.release(); err != nil {
		return err
	}
	err := f.w.control.Flush()
	if !f.w.hijacked {
		f.w.flushed = f.w.flushed || err == nil
		f.w.passed(0)
	}
	return err
}

type hijacker struct{ w *response }

// Hijack lets the handler take over the connection.
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w := h.w
	if w.hold == nil || w.status != 0 { // an answer that has begun goes out first, as without the middleware
		if err := w.release(); err != nil {
			return nil, nil, err
		}
		return w.hijack()
	}
	// Taking the connection sends nothing. Where it fails, what the handler answers in its place is still held back.
	conn, buffer, err := w.hijack()
	if err == nil {
		err = w.handOver(conn)
	}
	if err != nil {
		return nil, nil, err
	}
	return conn, buffer, nil
}

func (w *response) hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := w.control.Hijack()
	w.hijacked = w.hijacked || err == nil
	return conn, buffer, err
}
