package auditapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// failure is an answer that is not a success. Its message is for the client.
type failure struct {
	status  int
	message string
}

func (f failure) Error() string { return f.message }

var internal = failure{http.StatusInternalServerError, "the service has failed: its log says why"}

// problem is the body of every answer that is not a success.
type problem struct {
	Error string `json:"error"`
}

// classify says what the client is told about an error of the store.
func classify(err error) failure {
	var own failure
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, auditstore.ErrInvalidID):
		return failure{http.StatusBadRequest, "the id cannot be one: give the id of an entry"}
	case errors.Is(err, auditstore.ErrInvalidRange):
		return failure{http.StatusBadRequest, "limit or offset is out of range"}
	case errors.Is(err, auditstore.ErrNotFound):
		return failure{http.StatusNotFound, "there is no audit entry with this id"}
	case errors.Is(err, auditstore.ErrNotReady), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return failure{http.StatusServiceUnavailable, "the audit trail cannot be read now: try again"}
	case errors.Is(err, auditstore.ErrIncomplete):
		return failure{http.StatusServiceUnavailable, "the audit trail could not be read to the end: try again"}
	case errors.Is(err, auditstore.ErrCorrupt):
		return failure{http.StatusInternalServerError, "what is stored is not a readable entry: the log of the service says more"}
	}
	return internal
}

// fail answers with what the error means.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := classify(err)
	if f.status >= http.StatusInternalServerError {
		h.log(r, "Failed to read the audit trail", err)
	}
	h.answer(w, r, f)
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request, f failure) {
	if err := h.send(w, r, f.status, problem{Error: f.message}); err != nil {
		h.log(r, "Failed to write an error", err) // a string is always JSON: not reached
	}
}

// send writes the body. Its error is that of the encoding, and then nothing is written. A client that is gone is no error.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, status int, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	setHeaders(w.Header(), "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(append(data, '\n')); err != nil {
		h.cfg.Logger.DebugContext(r.Context(), "Failed to send an answer", "error", err)
	}
	return nil
}

// setHeaders keeps the trail out of caches, and browsers from taking it for something else.
func setHeaders(header http.Header, contentType string) {
	header.Set("Content-Type", contentType)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
}

// log tells the service what the client is not told. A client that has gone away breaks many a read, and is not worth an error.
func (h *Handler) log(r *http.Request, message string, err error) {
	level := slog.LevelError
	if r.Context().Err() != nil {
		level = slog.LevelInfo
	}
	h.cfg.Logger.Log(r.Context(), level, message, "method", r.Method, "path", r.URL.Path, "error", err)
}
