package auditstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Format is what an export looks like.
type Format int

const (
	// JSONLines has one JSON object a line: the entry as it is stored, with every field, also such as Entry has no place for. A
	// message that is not an entry has the line {"corrupt":{"sequence":…}} in its place.
	JSONLines Format = iota
	// CSV has one record an entry (RFC 4180, with line feeds) after a record of column names. Roles are a JSON array. A message that is not an entry
	// has a record in which corrupt_sequence alone is filled. Values are those of the entry: a program that takes
	// some for formulas must be told not to.
	CSV
)

// ExportOptions says what to export and how. The zero value exports everything as JSON Lines.
type ExportOptions struct {
	// Query says which entries.
	Query Query
	// Format is what is written.
	Format Format
	// Progress, where it is set, is told now and then, and at the end, how many of the trail's total places were looked at.
	Progress func(done, total int)
}

const (
	exportBuffer = 64 << 10
	// progressEvery is after how many entries Progress is told.
	progressEvery = 1000
	// namedCorrupt is how many corrupt messages the error of an export names.
	namedCorrupt = 10
)

// Export writes the entries that match to w, and returns how many it has written. Memory does not grow with the trail, save for
// what the order costs (see the package's documentation).
//
// An error that matches ErrCorrupt, and neither ErrNotReady nor ErrIncomplete, says how many messages are not entries, and
// names the first of them; the export is whole but for these, which are marked in it. With every other error w holds a part.
//
// It returns ErrInvalidQuery for a query or a format that cannot be, and for a nil writer.
func (s *StreamStore) Export(ctx context.Context, w io.Writer, options ExportOptions) (int, error) {
	if w == nil {
		return 0, fmt.Errorf("%w: the writer is nil: give one to write to", ErrInvalidQuery)
	}
	if options.Query.Order == 0 {
		options.Query.Order = AsStored
	}
	verbatim := options.Format == JSONLines && options.Query.unconditional()
	e := &exporter{store: s, options: options, verbatim: verbatim, out: bufio.NewWriterSize(w, exportBuffer)}
	if err := e.begin(); err != nil {
		return 0, err
	}
	err := s.scan(ctx, &e.options.Query, e.visit)
	if err == nil {
		err = e.end()
	} else {
		_ = e.out.Flush() // what was counted is there
	}
	if err != nil {
		return e.written, fmt.Errorf("exporting the audit trail: %w", err)
	}
	return e.written, e.damage()
}

// exporter is one export.
type exporter struct {
	store       *StreamStore
	options     ExportOptions
	verbatim    bool // whether every entry is written as it is stored
	out         *bufio.Writer
	table       *csv.Writer
	line        bytes.Buffer
	written     int
	corrupt     int
	named       []error
	done, total int
}

var columns = []string{"id", "timestamp", "user", "roles", "method", "path", "operation_id", "source_ip", "response_code",
	"duration_ms", "trace_id", "corrupt_sequence"}

func (e *exporter) begin() error {
	switch e.options.Format {
	case JSONLines:
		return nil
	case CSV:
		e.table = csv.NewWriter(e.out)
		return e.table.Write(columns)
	}
	return fmt.Errorf("%w: Format is %d: give JSONLines or CSV", ErrInvalidQuery, e.options.Format)
}

func (e *exporter) visit(m *message, done, total int) error {
	if e.done, e.total = done+1, total; e.options.Progress != nil && e.done%progressEvery == 0 {
		e.options.Progress(e.done, e.total)
	}
	if e.verbatim {
		return e.copy(m)
	}
	entry, err := e.store.decode(m)
	switch {
	case err != nil:
		return e.mark(m, err)
	case !e.options.Query.matches(&entry):
		return nil
	case e.table != nil:
		err = e.table.Write(values(&entry))
	default:
		err = e.writeLine(m.data)
	}
	return e.wrote(m, err)
}

// copy writes every entry as it is stored.
func (e *exporter) copy(m *message) error {
	if err := e.store.verify(m); err != nil {
		return e.mark(m, err)
	}
	return e.wrote(m, e.writeLine(m.data))
}

func (e *exporter) wrote(m *message, err error) error {
	if err != nil {
		return fmt.Errorf("writing the entry with sequence %d: %w", m.sequence, err)
	}
	e.written++
	return nil
}

// writeLine writes the entry's own bytes. They are JSON, which may have line ends only between its tokens.
func (e *exporter) writeLine(data []byte) error {
	if bytes.IndexByte(data, '\n') >= 0 || bytes.IndexByte(data, '\r') >= 0 {
		e.line.Reset()
		if err := json.Compact(&e.line, data); err != nil {
			return err
		}
		data = e.line.Bytes()
	}
	if _, err := e.out.Write(data); err != nil {
		return err
	}
	return e.out.WriteByte('\n')
}

// mark writes in place of a message why there is no entry, and keeps the cause.
func (e *exporter) mark(m *message, cause error) error {
	e.corrupt++
	if len(e.named) < namedCorrupt {
		e.named = append(e.named, cause)
	}
	number := strconv.FormatUint(m.sequence, 10)
	var err error
	if e.table == nil {
		_, err = e.out.WriteString(`{"corrupt":{"sequence":` + number + "}}\n")
	} else {
		marked := make([]string, len(columns))
		marked[len(columns)-1] = number
		err = e.table.Write(marked)
	}
	if err != nil {
		return fmt.Errorf("marking the corrupt sequence %d: %w", m.sequence, err)
	}
	return nil
}

func values(e *Entry) []string {
	roles := "[]"
	if len(e.Roles) > 0 {
		text, _ := json.Marshal(e.Roles) // strings always have a JSON form
		roles = string(text)
	}
	return []string{e.ID, e.Timestamp.Format(time.RFC3339Nano), e.User, roles, e.Method, e.Path, e.OperationID, e.SourceIP,
		strconv.Itoa(e.ResponseCode), strconv.FormatInt(e.DurationMs, 10), e.TraceID, ""}
}

func (e *exporter) end() error {
	if e.table != nil {
		e.table.Flush()
	}
	if err := e.out.Flush(); err != nil {
		return fmt.Errorf("writing the last of it: %w", err)
	}
	if e.options.Progress != nil {
		e.options.Progress(e.done, e.done)
	}
	return nil
}

// damage reports the corrupt messages.
func (e *exporter) damage() error {
	if e.corrupt > len(e.named) {
		e.named = append(e.named, fmt.Errorf("%w: and %d more", ErrCorrupt, e.corrupt-len(e.named)))
	}
	return errors.Join(e.named...)
}
