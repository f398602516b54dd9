package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// StreamName is the name of the stream that backs a bucket.
func StreamName(bucket string) string { return "KV_" + bucket }

// HandOverSubject is the subject that a bucket's backing stream has in place of its own while these are handed to an audit
// stream: a stream must capture something. Nobody writes to it but the operator, and what it writes is no value.
func HandOverSubject(bucket string) string { return "$AUDIT.REDIRECTED." + bucket }

// revision is a message of the backing stream.
type revision struct {
	subject  string
	key      string
	value    []byte
	sequence uint64
	stored   time.Time
	// pending is how many messages the consumer has still to deliver.
	pending uint64
	// marker says that the message is no value: it deletes or purges its key.
	marker bool
}

// source reads a bucket's backing stream.
type source struct {
	*reader
	bucket string
}

func openSource(ctx context.Context, js jetstream.JetStream, bucket string, resume func(*jetstream.StreamInfo) uint64) (*source, error) {
	r, err := openReader(ctx, js, StreamName(bucket), resume)
	if err != nil {
		return nil, err
	}
	return &source{reader: r, bucket: bucket}, nil
}

// next returns the next message, or errQuiet when none came within wait.
func (s *source) next(ctx context.Context, wait time.Duration) (*revision, error) {
	msg, meta, err := s.reader.next(ctx, wait)
	if err != nil {
		return nil, err
	}
	return s.parse(msg, meta), nil
}

func (s *source) parse(msg jetstream.Msg, meta *jetstream.MsgMetadata) *revision {
	// The subject is $KV.<bucket>.<key>; in a mirrored bucket the name is that of the origin. Anything else has no key, and
	// its subject, as one of several tokens, makes it a value that is not an entry.
	key := msg.Subject()
	if parts := strings.SplitN(key, ".", 3); len(parts) == 3 && parts[0] == "$KV" {
		key = parts[2]
	}
	return &revision{
		subject:  msg.Subject(),
		key:      key,
		value:    msg.Data(),
		sequence: meta.Sequence.Stream,
		stored:   meta.Timestamp,
		pending:  meta.NumPending,
		marker:   isMarker(msg.Headers()) || msg.Subject() == HandOverSubject(s.bucket),
	}
}

// superseded says whether a later message of the same key exists. A bucket that keeps one revision cannot hold any. The
// server could deliver the last revisions only, but not from a sequence on, as a resumed read needs.
func (s *source) superseded(ctx context.Context, r *revision) (bool, error) {
	if s.info.Config.MaxMsgsPerSubject == 1 {
		return false, nil
	}
	last, err := lastUnder(ctx, s.js, StreamName(s.bucket), r.subject)
	if err != nil {
		return false, fmt.Errorf("looking for later revisions of key %s: %w", r.key, err)
	}
	return last == nil || last.Sequence != r.sequence, nil
}

// operationHeader is set by a key-value client on what is no value.
const operationHeader = "KV-Operation"

// isMarker recognises what a key-value client (ADR-8) or the server (ADR-43) leaves where a key was.
func isMarker(header nats.Header) bool {
	switch header.Get(operationHeader) {
	case "DEL", "PURGE":
		return true
	}
	return header.Get(jetstream.MarkerReasonHeader) != ""
}

// errNotAnEntry says why a value of a bucket is not an entry.
var errNotAnEntry = errors.New("not an entry")

// checkEntry says whether the value is an entry that auditstore can read: a JSON object of one, whose id is the key, and
// a key that can be an id.
func checkEntry(r *revision, maxPayload int64) error {
	if !auditstore.ValidID(r.key) {
		return fmt.Errorf("%w: the key is not one subject token", errNotAnEntry)
	}
	if !plainEntry(r.value, r.key) {
		var entry auditstore.Entry
		if err := json.Unmarshal(r.value, &entry); err != nil {
			return fmt.Errorf("%w: the value is not the JSON object of an entry", errNotAnEntry)
		}
		if entry.ID != r.key {
			return fmt.Errorf("%w: the id in the value is not the key", errNotAnEntry)
		}
	}
	if int64(len(r.value))+headerAllowance > maxPayload {
		return fmt.Errorf("%w: with its headers it is larger than the %d bytes that the server takes", errNotAnEntry, maxPayload)
	}
	return nil
}
