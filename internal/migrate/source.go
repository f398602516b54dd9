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

// revision is a message of the backing stream.
type revision struct {
	subject  string
	key      string
	value    []byte
	sequence uint64
	stored   time.Time
	// pending is how many messages the consumer has still to deliver.
	pending uint64
	// marker says that the message deletes or purges its key.
	marker bool
}

// source reads a bucket's backing stream in sequence order.
type source struct {
	js      jetstream.JetStream
	bucket  string
	info    *jetstream.StreamInfo
	pending uint64
	cursor  jetstream.MessagesContext
	cancel  func() bool
}

// openSource begins to read after the sequence that resume gives for the bucket as it is now.
func openSource(ctx context.Context, js jetstream.JetStream, bucket string, resume func(*jetstream.StreamInfo) uint64) (*source, error) {
	openCtx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	stream, err := js.Stream(openCtx, StreamName(bucket))
	if err != nil {
		return nil, fmt.Errorf("opening bucket %s: %w", bucket, err)
	}
	info := stream.CachedInfo()
	consumer, err := stream.OrderedConsumer(openCtx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   resume(info) + 1,
		// A broken connection ends the read, and the next pass resumes: the iterator's own endless retry would not
		// notice that the bucket has meanwhile been made again.
		MaxResetAttempts:  1,
		InactiveThreshold: time.Minute,
	})
	if err != nil {
		return nil, fmt.Errorf("reading bucket %s: %w", bucket, err)
	}
	// A limit below the largest message would stop the read at it.
	readAhead := max(windowBytes, 2*int(js.Conn().MaxPayload()))
	cursor, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(2*window, readAhead))
	if err != nil {
		return nil, fmt.Errorf("reading bucket %s: %w", bucket, err)
	}
	s := &source{js: js, bucket: bucket, info: info, pending: consumer.CachedInfo().NumPending, cursor: cursor}
	// Next does not watch the context while it replaces a lost consumer; Stop ends that wait.
	s.cancel = context.AfterFunc(ctx, cursor.Stop)
	return s, nil
}

func (s *source) close() {
	s.cancel()
	s.cursor.Stop()
}

// next returns the next message, or nil when none came within wait.
func (s *source) next(ctx context.Context, wait time.Duration) (*revision, error) {
	msg, err := s.cursor.Next(jetstream.NextMaxWait(wait))
	switch {
	case err == nil:
		return s.parse(msg)
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, nats.ErrTimeout):
		return nil, nil
	default:
		return nil, fmt.Errorf("reading bucket %s: %w", s.bucket, err)
	}
}

func (s *source) parse(msg jetstream.Msg) (*revision, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("reading bucket %s: %w", s.bucket, err)
	}
	// The subject is $KV.<bucket>.<key>; in a mirrored bucket the name is that of the origin.
	parts := strings.SplitN(msg.Subject(), ".", 3)
	if len(parts) < 3 {
		return nil, fmt.Errorf("reading bucket %s: sequence %d has subject %q, which is not one of a bucket", s.bucket, meta.Sequence.Stream, msg.Subject())
	}
	return &revision{
		subject:  msg.Subject(),
		key:      parts[2],
		value:    msg.Data(),
		sequence: meta.Sequence.Stream,
		stored:   meta.Timestamp,
		pending:  meta.NumPending,
		marker:   isMarker(msg.Headers()),
	}, nil
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

// isMarker recognises what a key-value client (ADR-8) or the server (ADR-43) leaves where a key was.
func isMarker(header nats.Header) bool {
	switch header.Get("KV-Operation") {
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
	var entry auditstore.Entry
	if err := json.Unmarshal(r.value, &entry); err != nil {
		return fmt.Errorf("%w: the value is not the JSON object of an entry", errNotAnEntry)
	}
	if entry.ID != r.key {
		return fmt.Errorf("%w: the id in the value is not the key", errNotAnEntry)
	}
	if int64(len(r.value))+headerAllowance > maxPayload {
		return fmt.Errorf("%w: with its headers it is larger than the %d bytes that the server takes", errNotAnEntry, maxPayload)
	}
	return nil
}
