package auditapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// exportBuffer is how much of an export is sent at once.
const exportBuffer = 64 << 10

// corruptLine stands in an export for a message that is not a readable entry.
type corruptLine struct {
	Corrupt corrupt `json:"corrupt"`
}

// querier is a store that can be read without holding all of it, as *auditstore.StreamStore can.
type querier interface {
	Query(ctx context.Context, query auditstore.Query) iter.Seq2[auditstore.Entry, error]
}

// everything is the export where none is given: of a store that cannot be queried it is ListAll, and what that has left out at
// the end.
func (h *Handler) everything(ctx context.Context) iter.Seq2[auditstore.Entry, error] {
	if store, ok := h.cfg.Store.(querier); ok {
		return store.Query(ctx, auditstore.Query{})
	}
	return func(yield func(auditstore.Entry, error) bool) {
		entries, err := h.cfg.Store.ListAll(ctx)
		if _, whole := corruptIn(err); !whole {
			yield(auditstore.Entry{}, err)
			return
		}
		for _, entry := range entries {
			if !yield(entry, nil) {
				return
			}
		}
		if err != nil {
			yield(auditstore.Entry{}, err)
		}
	}
}

// export sends every entry, and lets nobody take a part for the whole: see "The end of an export" in the package's documentation.
func (h *Handler) export(w http.ResponseWriter, r *http.Request) error {
	if !r.ProtoAtLeast(1, 1) {
		return failure{http.StatusHTTPVersionNotSupported,
			"an export needs HTTP/1.1: with HTTP/1.0 a broken one could not be told from a whole one"}
	}
	stream := &starter{w: w}
	ended := false
	// Also where the store or Config.Export panics. Without recover that goes on by itself and keeps its stack.
	defer func() {
		if stream.started && !ended {
			neverEnd(w)
		}
	}()
	var body io.Writer = stream
	if r.Method == http.MethodHead {
		body = io.Discard // also for the server, which would take what it gets for all of it and send its length
	}
	lines := bufio.NewWriterSize(body, exportBuffer)
	err := h.writeLines(r, lines)
	if err == nil {
		stream.start() // an export without entries has sent nothing yet
		err = lines.Flush()
	}
	if err != nil && stream.started {
		h.log(r, "Broke off an export of the audit trail", err)
		panic(http.ErrAbortHandler)
	}
	ended = true
	return err
}

// neverEnd is for an answer of which a part was sent. A middleware that recovers from every panic would end it as if it were
// complete. With its time for writing over, the end cannot be written. Where that is not supported, the panic alone has to do.
func neverEnd(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
}

func (h *Handler) writeLines(r *http.Request, w io.Writer) error {
	encoder := json.NewEncoder(w)
	for entry, err := range h.cfg.Export(r.Context()) {
		if err := h.writeLine(r, encoder, entry, err); err != nil {
			return err
		}
		if r.Method == http.MethodHead {
			break // an export that has begun is 200, whatever comes
		}
	}
	return nil
}

func (h *Handler) writeLine(r *http.Request, encoder *json.Encoder, entry auditstore.Entry, err error) error {
	if err == nil {
		if err := encoder.Encode(entry); err != nil {
			return fmt.Errorf("sending entry %.64q: %w", entry.ID, err)
		}
		return nil
	}
	damaged, whole := corruptIn(err)
	if !whole {
		return err
	}
	h.log(r, "Found corrupt messages in the audit trail", err)
	for _, one := range damaged {
		if err := encoder.Encode(corruptLine{Corrupt: one}); err != nil {
			return fmt.Errorf("sending the corrupt sequence %d: %w", one.Sequence, err)
		}
	}
	return nil
}

// starter sends the headers of an export as late as possible: until then an error can still have its own status.
type starter struct {
	w       http.ResponseWriter
	started bool
}

func (s *starter) start() {
	if s.started {
		return
	}
	s.started = true
	setHeaders(s.w.Header(), "application/jsonl")
	s.w.Header().Set("Content-Disposition", `attachment; filename="audit.jsonl"`)
	s.w.WriteHeader(http.StatusOK)
}

func (s *starter) Write(p []byte) (int, error) {
	s.start()
	return s.w.Write(p)
}
