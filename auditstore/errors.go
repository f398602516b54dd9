package auditstore

import (
	"errors"
	"fmt"
)

var (
	// ErrInvalidConfig is returned by New when Config or the JetStream handle, and by Open when the binding or an option, cannot
	// be used, whatever the server says; and by every call on a store that neither of them made.
	ErrInvalidConfig = errors.New("auditstore: invalid configuration")

	// ErrNotReady is returned when the stream cannot do what was asked now: it does not exist, is not set up for an audit
	// trail, has no leader, or did not answer in time. A write that ends with ErrNotReady may have been stored all the
	// same; writing the same entry again is safe.
	ErrNotReady = errors.New("auditstore: the stream is not ready")

	// ErrInvalidID is returned when an id is not one literal subject token; see ValidID.
	ErrInvalidID = errors.New("auditstore: invalid id")

	// ErrInvalidEntry is returned by Write when the entry cannot be put into JSON, for instance a year after 9999.
	ErrInvalidEntry = errors.New("auditstore: invalid entry")

	// ErrInvalidRange is returned by List when limit or offset is negative, and by Page when limit is below 1.
	ErrInvalidRange = errors.New("auditstore: invalid range")

	// ErrInvalidQuery is returned by Query and Export for conditions that cannot be met by any entry or mean nothing.
	ErrInvalidQuery = errors.New("auditstore: invalid query")

	// ErrInvalidCursor is returned for a cursor that was not made for this stream and this use, and for one of a stream that
	// has been made again since.
	ErrInvalidCursor = errors.New("auditstore: invalid cursor")

	// ErrConflict is returned by Write when another entry is stored under the id. The stored entry stays as it is.
	ErrConflict = errors.New("auditstore: another entry has this id")

	// ErrTooLarge is returned by Write when the entry is larger than the server or the stream takes.
	ErrTooLarge = errors.New("auditstore: entry too large")

	// ErrStreamFull is returned by Write when the stream refuses new messages because it, or the account's storage, is full.
	ErrStreamFull = errors.New("auditstore: the stream is full")

	// ErrNotFound is returned by Get when the stream says that it holds no entry with the id.
	ErrNotFound = errors.New("auditstore: entry not found")

	// ErrCorrupt matches every CorruptError.
	ErrCorrupt = errors.New("auditstore: corrupt message")

	// ErrIncomplete is returned when a list could not be read to its end. The error says what is missing.
	ErrIncomplete = errors.New("auditstore: the read is incomplete")
)

// CorruptError reports one message of the stream that is not a readable entry. It matches ErrCorrupt.
type CorruptError struct {
	// Sequence is the message's place in the stream.
	Sequence uint64
	// Subject is what the message is stored under.
	Subject string
	// Err says what is wrong with it.
	Err error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v: sequence %d, subject %q: %v", ErrCorrupt, e.Sequence, e.Subject, e.Err)
}

// Unwrap lets errors.Is find ErrCorrupt and the cause.
func (e *CorruptError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }

// WriteError is what Write returns. It names the entry, whose id Write may have made, and unwraps to the sentinel.
type WriteError struct {
	// ID is the id of the entry that was not written.
	ID string
	// Err says why.
	Err error
}

func (e *WriteError) Error() string { return fmt.Sprintf("writing audit entry %q: %v", e.ID, e.Err) }

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }
