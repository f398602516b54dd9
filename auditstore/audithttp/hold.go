package audithttp

import (
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// hold is a response that waits for its entry.
type hold struct {
	limit  int
	record func(status int) error
	before http.Header // what others had set before the handler
	head   http.Header // what the handler had set when it called WriteHeader
	length int64       // the Content-Length that the handler has set, or -1
	body   bytes.Buffer
}

func (w *response) holdBack(limit int, record func(status int) error) {
	w.fixed = true
	w.hold = &hold{limit: limit, record: record, before: w.inner.Header().Clone(), length: -1}
}

func (h *hold) room() int { return h.limit - h.body.Len() }

// setHead remembers the headers: the handler may go on to change them, and the server would ignore that.
func (h *hold) setHead(header http.Header) {
	h.head = header.Clone()
	if n, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		h.length = n
	}
}

// keep holds the bytes back where there is room for them, and otherwise releases the response. It refuses what the server would.
func (w *response) keep(p []byte) (held bool, err error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	h := w.hold
	switch {
	case w.status == http.StatusNoContent, w.status == http.StatusNotModified, w.status < http.StatusOK:
		return false, http.ErrBodyNotAllowed
	case h.length >= 0 && int64(h.body.Len()+len(p)) > h.length:
		return false, http.ErrContentLength
	case len(p) <= h.room():
		h.body.Write(p)
		return true, nil
	}
	return false, w.release()
}

// release writes the entry and sends what was held back, or 503. It does nothing, or returns the error again, the second time.
func (w *response) release() error {
	h := w.hold
	if h == nil {
		return w.err
	}
	w.hold = nil
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	if h.record(status) != nil {
		w.refuse(h)
		return w.err
	}
	w.fixed = false
	return w.send(h)
}

// handOver writes the entry of a connection that the handler is about to have, or answers 503 on it.
func (w *response) handOver(conn net.Conn) error {
	h := w.hold
	w.hold = nil
	if h.record(http.StatusSwitchingProtocols) != nil {
		w.err = ErrWithheld
		refuseOn(conn, h.before)
		return w.err
	}
	w.fixed = false
	return nil
}

// abandon writes the entry of a handler that panicked. A middleware further out may answer in its place: with nothing of what the
// handler has set.
func (w *response) abandon() {
	if w.hold == nil {
		return
	}
	_ = w.hold.record(http.StatusInternalServerError)
	replace(w.inner.Header(), w.hold.before)
}

func (w *response) send(h *hold) error {
	if w.status == 0 {
		return nil
	}
	header := w.inner.Header()
	now := header.Clone()
	replace(header, h.head)
	w.inner.WriteHeader(w.status)
	// Trailers are set in the same map.
	replace(header, now)
	if h.body.Len() == 0 {
		return nil
	}
	n, err := w.inner.Write(h.body.Bytes()) //nolint:gosec // the handler's own bytes, which it would write itself
	w.written += int64(n)
	return err
}

const (
	refusal = "The request could not be audited, and its response is withheld.\n"
	// refusalTimeout is for a client that does not read.
	refusalTimeout = 5 * time.Second
)

func (w *response) refuse(h *hold) {
	w.err = ErrWithheld
	header := w.inner.Header()
	replace(header, h.before)
	setRefusal(header)
	w.inner.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w.inner, refusal)
	// Handlers like httputil.ReverseProxy panic over the error that Write gives them next, and the server would drop the answer.
	_ = w.control.Flush()
}

// refuseOn answers as refuse does where the server has given the connection away.
func refuseOn(conn net.Conn, header http.Header) {
	setRefusal(header)
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	answer := &http.Response{
		StatusCode: http.StatusServiceUnavailable, ProtoMajor: 1, ProtoMinor: 1, Header: header, Close: true,
		Body: io.NopCloser(strings.NewReader(refusal)), ContentLength: int64(len(refusal)),
	}
	_ = conn.SetDeadline(time.Now().Add(refusalTimeout))
	_ = answer.Write(conn)
	_ = conn.Close()
}

func setRefusal(header http.Header) {
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(refusal)))
}

// replace changes the map itself: the handler and the server have it too.
func replace(header, by http.Header) {
	clear(header)
	maps.Copy(header, by)
}

// controls is what a writer that holds a response back unwraps to: http.ResponseController finds the connection's deadlines, and
// what is written goes to the writer that holds it back.
type controls struct{ w *response }

// Header is the writer's.
func (c controls) Header() http.Header { return c.w.Header() }

// WriteHeader is the writer's.
func (c controls) WriteHeader(code int) { c.w.WriteHeader(code) }

// Write is the writer's.
func (c controls) Write(p []byte) (int, error) { return c.w.Write(p) }

// SetReadDeadline is the connection's.
func (c controls) SetReadDeadline(deadline time.Time) error {
	return c.w.control.SetReadDeadline(deadline)
}

// SetWriteDeadline is the connection's.
func (c controls) SetWriteDeadline(deadline time.Time) error {
	return c.w.control.SetWriteDeadline(deadline)
}

// EnableFullDuplex is the connection's.
func (c controls) EnableFullDuplex() error { return c.w.control.EnableFullDuplex() }
