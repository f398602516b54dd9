package auditstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// HeaderSourceTime is the message header that says when an entry which was moved into the stream was first recorded, in RFC
// 3339 with nanoseconds.
const HeaderSourceTime = "Audit-Source-Time"

// Entry is one audit record.
type Entry struct {
	// ID names the entry. Write makes one where it is empty.
	ID string `json:"id"`
	// Timestamp is when the recorded request happened. Write takes the current time where it is zero.
	Timestamp time.Time `json:"timestamp"`
	// User is who made the request.
	User string `json:"user"`
	// Roles are what the user was allowed to act as.
	Roles []string `json:"roles"`
	// Method is the HTTP method, or what stands for it in another protocol.
	Method string `json:"method"`
	// Path is what the request was for.
	Path string `json:"path"`
	// OperationID is the operation's name in the service's API description.
	OperationID string `json:"operation_id,omitempty"`
	// SourceIP is the address of the client.
	SourceIP string `json:"source_ip"`
	// ResponseCode is the status that was answered.
	ResponseCode int `json:"response_code"`
	// DurationMs is how long the request took, in milliseconds.
	DurationMs int64 `json:"duration_ms"`
	// TraceID is the W3C trace id, in hexadecimal.
	TraceID string `json:"trace_id,omitempty"`
}

var (
	errNotObject = errors.New("the body is not a JSON object")
	errNotToken  = errors.New("the subject is not the base subject and one token")

	errMarker     = errors.New("a key-value deletion marker, and not an entry")
	errUnreadable = errors.New("the stream counts this message but cannot read it")
	errHeaders    = errors.New("the headers of the message cannot be read")
)

// decode turns a message into the entry it holds. Its error is always a *CorruptError.
func (s *StreamStore) decode(m *message) (Entry, error) {
	entry, err := s.parse(m)
	if err != nil {
		return Entry{}, &CorruptError{Sequence: m.sequence, Subject: m.subject, Err: err}
	}
	return entry, nil
}

// verify is decode without the entry, which costs less.
func (s *StreamStore) verify(m *message) error {
	if id, err := s.idOf(m); err == nil {
		if found, plain := plainID(m.data); plain && string(found) == id {
			return nil
		}
	}
	_, err := s.decode(m)
	return err
}

func (s *StreamStore) parse(m *message) (Entry, error) {
	id, err := s.idOf(m)
	if err != nil {
		return Entry{}, err
	}
	entry, plain := plainEntry(m.data)
	if !plain {
		if !bytes.HasPrefix(bytes.TrimLeft(m.data, " \t\r\n"), []byte("{")) {
			return Entry{}, errNotObject
		}
		entry = Entry{}
		if err := json.Unmarshal(m.data, &entry); err != nil {
			return Entry{}, err
		}
	}
	if entry.ID != id {
		return Entry{}, fmt.Errorf("the body has the id %.64q", entry.ID)
	}
	return entry, nil
}

// idOf is the id that the message is stored under.
func (s *StreamStore) idOf(m *message) (string, error) {
	if m.unreadable {
		return "", errUnreadable
	}
	if m.damage != nil {
		return "", m.damage
	}
	if m.isMarker() {
		return "", errMarker
	}
	id, under := strings.CutPrefix(m.subject, s.prefix)
	if !under || !ValidID(id) {
		return "", errNotToken
	}
	return id, nil
}
