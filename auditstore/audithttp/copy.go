package audithttp

import (
	"errors"
	"io"
	"net/http"
	"syscall"
)

const (
	// serverBuffer is how much of a body net/http keeps to itself with HTTP/1 before the head goes out, and serverBuffer2 with
	// HTTP/2. What it has let go reaches the client also after a panic.
	serverBuffer  = 2 << 10
	serverBuffer2 = 4 << 10

	// sniffed is what net/http copies with HTTP/1 before it lets everything go and has the connection copy the rest.
	sniffed = 512
)

// ReadFrom lets the server copy by itself, once nothing is held back any more.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	var held int64
	if w.hold != nil {
		var err error
		// One byte more than there is room for releases the response.
		held, err = io.CopyN(onlyWriter{w}, src, int64(w.hold.room())+1)
		if errors.Is(err, io.EOF) {
			return held, nil
		}
		if err != nil {
			return held, err
		}
	}
	if w.err != nil {
		return held, w.err
	}
	n, err := w.copyFrom(src)
	return held + n, err
}

func (w *response) copyFrom(src io.Reader) (int64, error) {
	from, ok := w.inner.(io.ReaderFrom)
	if !ok {
		return io.Copy(onlyWriter{w}, src)
	}
	if w.direct && byKernel(src) {
		n, err := from.ReadFrom(src)
		w.copied(n, n)
		return n, err
	}
	counted := &source{Reader: src, w: w}
	n, err := from.ReadFrom(counted)
	if !refused(err) {
		counted.settle()
	}
	return n, err
}

// byKernel says whether the source is a file or a connection, whose bytes the kernel can send: it has to be passed on as it is.
func byKernel(src io.Reader) bool {
	if limited, ok := src.(*io.LimitedReader); ok {
		src = limited.R
	}
	_, ok := src.(syscall.Conn)
	return ok
}

// source counts what it gives, since the copy does not return where its reader panics.
type source struct {
	io.Reader
	w      *response
	all    int64
	latest int64 // what the latest Read gave
}

// Read is the reader's. What it gave before has been written by now.
func (s *source) Read(p []byte) (int, error) {
	s.settle()
	n, err := s.Reader.Read(p)
	s.latest = int64(n)
	return n, err
}

func (s *source) settle() {
	s.all += s.latest
	s.w.copied(s.latest, s.all)
	s.latest = 0
}

// copied counts n bytes more of a copy that has come to all of them.
func (w *response) copied(n, all int64) {
	if n == 0 {
		return // nothing to copy sends no head
	}
	w.passed(n)
	w.flushed = w.flushed || w.direct && all >= sniffed
}

// refused says whether the server did not even try to write.
func refused(err error) bool {
	return errors.Is(err, http.ErrBodyNotAllowed) || errors.Is(err, http.ErrContentLength) || errors.Is(err, http.ErrHijacked)
}

// onlyWriter hides ReadFrom from io.Copy.
type onlyWriter struct{ io.Writer }
