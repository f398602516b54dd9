package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

const (
	// markTry bounds one try to publish the mark, markTimeout all of them: a replicated stream may be without its leader.
	markTry     = time.Second
	markTimeout = 5 * time.Second

	codeStoreFailed   jetstream.ErrorCode = 10077 // the bucket is full
	codeMessageTooBig jetstream.ErrorCode = 10054
)

// mark is the point in a fenced bucket's backing stream below which everything is that the bucket took before the fence.
type mark struct {
	sequence uint64
	// committed is whether that is certain.
	committed bool
}

// note is the mark's body, for a person who finds it.
type note struct {
	Event  string    `json:"event"`
	Bucket string    `json:"bucket"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
	Note   string    `json:"note"`
}

// mark publishes the mark and waits for its acknowledgement. A stream commits messages one after the other, so all that it
// had taken before are committed with it. Publishing it again does no harm.
func (h *HandOver) mark(ctx context.Context) (mark, error) {
	body, err := json.Marshal(note{
		Event: "fenced", Bucket: h.Bucket, Stream: h.Stream, Time: h.now().UTC(),
		Note: "auditstream-operator took the bucket's subjects from its stream here. Entries are in the stream named above.",
	})
	if err != nil {
		return mark{}, fmt.Errorf("encoding the mark: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, markTimeout, fmt.Errorf("%w: no acknowledgement within %s", errTooSlow, markTimeout))
	defer cancel()
	for {
		ack, err := h.publish(ctx, body)
		switch {
		case err == nil:
			return mark{sequence: ack.Sequence, committed: true}, nil
		case hasCode(err, codeStoreFailed):
			return h.markFull(ctx)
		case hasCode(err, codeMessageTooBig) && body != nil:
			body = nil
		case ctx.Err() != nil:
			return mark{}, fmt.Errorf("publishing the mark to %s: %w (%w); the operator's user needs the permission to publish there",
				migrate.HandOverSubject(h.Bucket), context.Cause(ctx), err)
		case !passes(err):
			return mark{}, fmt.Errorf("publishing the mark to %s: %w", migrate.HandOverSubject(h.Bucket), err)
		}
	}
}

// probe finds out whether the mark can be published, before writers wait for it: nobody captures its subject yet, which
// the server says at once, unless it forbids to publish there, which it does not answer.
func (h *HandOver) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, markTry)
	defer cancel()
	nc, subject := h.JetStream.Conn(), migrate.HandOverSubject(h.Bucket)
	_, err := nc.RequestWithContext(ctx, subject, nil)
	if err == nil || errors.Is(err, nats.ErrNoResponders) {
		return nil
	}
	last := nc.LastError()
	if errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), subject) {
		return fmt.Errorf("a hand-over publishes a message to %s: %w", subject, last)
	}
	return nil
}

func (h *HandOver) publish(ctx context.Context, body []byte) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, markTry)
	defer cancel()
	subject := migrate.HandOverSubject(h.Bucket)
	if body == nil {
		return h.JetStream.Publish(ctx, subject, nil) // a header counts as well
	}
	return h.JetStream.Publish(ctx, subject, body, jetstream.WithExpectStream(migrate.StreamName(h.Bucket)))
}

// passes says whether trying again may help: the servers of a cluster learn of the fence one after the other.
func passes(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// markFull stands in for the mark where the bucket is full. Purging the mark's subject removes nothing but earlier marks,
// but is committed in the same order as messages. The refused mark has come after everything that is still to be taken.
// Where the bucket may not be purged, the leader's last sequence is the best there is: Redirect goes on with it, since the bucket is
// looked at again, and Delete does not.
func (h *HandOver) markFull(ctx context.Context) (mark, error) {
	name := migrate.StreamName(h.Bucket)
	stream, err := h.JetStream.Stream(ctx, name)
	if err != nil {
		return mark{}, fmt.Errorf("looking at stream %s: %w", name, err)
	}
	purgeErr := stream.Purge(ctx, jetstream.WithPurgeSubject(migrate.HandOverSubject(h.Bucket)))
	live, err := h.Streams.Stream(context.WithoutCancel(ctx), name)
	if err != nil {
		return mark{}, err
	}
	return mark{sequence: live.State.LastSeq, committed: purgeErr == nil || live.Config.Replicas <= 1}, nil
}

func hasCode(err error, code jetstream.ErrorCode) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == code
}
