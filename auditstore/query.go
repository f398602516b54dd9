package auditstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
)

// Order is the order in which entries are read.
type Order int

const (
	// NewestFirst is by the time at which entries were recorded, as List does.
	NewestFirst Order = iota + 1
	// OldestFirst is the same from the other end.
	OldestFirst
	// AsStored is the order in which the stream has taken the entries, which costs least. It differs from OldestFirst only where
	// entries were moved into a stream that held newer ones, or where the clocks of the stream's servers differ.
	AsStored
)

// earliness is how much later than it was recorded an entry may say that it happened and still be found by Query.From.
const earliness = 24 * time.Hour

// Query says which entries to read. Conditions that are not set do not count; an entry has to meet all others.
type Query struct {
	// From and To bound Entry.Timestamp: From is included, To is not. With From, nothing is read that was recorded more
	// than a day before it, so that an entry whose Timestamp is more than a day ahead of the stream's clock is not found.
	From, To time.Time
	// User, Method and TraceID are what the entry has to have, exactly.
	User, Method, TraceID string
	// PathPrefix is what Entry.Path has to begin with.
	PathPrefix string
	// ResponseCode is what the entry has to have.
	ResponseCode int
	// Match is asked about entries that meet all other conditions.
	Match func(*Entry) bool
	// Order is the order of the entries. Where it is not set, Query reads NewestFirst and Export AsStored.
	Order Order
}

func (q *Query) check() error {
	switch {
	case !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To):
		return fmt.Errorf("%w: From is %s and To is %s: give a To that is later than From", ErrInvalidQuery,
			q.From.Format(time.RFC3339Nano), q.To.Format(time.RFC3339Nano))
	case q.ResponseCode < 0:
		return fmt.Errorf("%w: ResponseCode is %d: give a status, or 0 for any", ErrInvalidQuery, q.ResponseCode)
	case q.Order < 0 || q.Order > AsStored:
		return fmt.Errorf("%w: Order is %d: give NewestFirst, OldestFirst or AsStored", ErrInvalidQuery, q.Order)
	}
	return nil
}

// since is the time of recording before which no entry can match.
func (q *Query) since() int64 {
	if q.From.IsZero() {
		return unknownTime
	}
	return nanoseconds(q.From.Add(-earliness))
}

// unconditional says whether every entry matches.
func (q *Query) unconditional() bool {
	return q.From.IsZero() && q.To.IsZero() && q.User == "" && q.Method == "" && q.TraceID == "" && q.PathPrefix == "" &&
		q.ResponseCode == 0 && q.Match == nil
}

func (q *Query) matches(e *Entry) bool {
	return (q.From.IsZero() || !e.Timestamp.Before(q.From)) && (q.To.IsZero() || e.Timestamp.Before(q.To)) &&
		(q.User == "" || e.User == q.User) && (q.Method == "" || e.Method == q.Method) &&
		(q.TraceID == "" || e.TraceID == q.TraceID) && strings.HasPrefix(e.Path, q.PathPrefix) &&
		(q.ResponseCode == 0 || e.ResponseCode == q.ResponseCode) && (q.Match == nil || q.Match(e))
}

// errEnough ends a scan whose caller has seen enough.
var errEnough = errors.New("enough")

// Query yields the entries that match, of those that the stream held when it was called and still holds when they are read. It
// holds a part of the trail in memory at a time, however long that is, and what the order costs (see the package's
// documentation).
//
// An error that matches ErrCorrupt reports a message that is not an entry, and the sequence goes on: since nobody can tell
// whether it would match, every one that is met is reported. Any other error is the last that is yielded: ErrInvalidQuery, or
// ErrNotReady or ErrIncomplete where the trail could not be read to its end. So a sequence that ends without such an error
// is whole.
func (s *StreamStore) Query(ctx context.Context, query Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if query.Order == 0 {
			query.Order = NewestFirst
		}
		err := s.scan(ctx, &query, func(m *message, _, _ int) error {
			entry, err := s.decode(m)
			if err == nil && !query.matches(&entry) {
				return nil
			}
			if !yield(entry, err) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(Entry{}, fmt.Errorf("querying the audit trail: %w", err))
		}
	}
}
