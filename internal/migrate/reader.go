package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// heartbeat is how often the server says that it has nothing to deliver; two that are missing have the consumer replaced.
const heartbeat = time.Second

// reader reads a stream in sequence order.
type reader struct {
	js     jetstream.JetStream
	stream string
	// info is the state of the stream before the read began.
	info *jetstream.StreamInfo
	// after is the sequence after which the read began, pending how many messages there were to read.
	after    uint64
	pending  uint64
	consumer jetstream.Consumer
	cursor   jetstream.MessagesContext
	detach   func() bool
}

// openReader begins to read after the sequence that resume gives for the stream as it is now.
func openReader(ctx context.Context, js jetstream.JetStream, name string, resume func(*jetstream.StreamInfo) uint64) (*reader, error) {
	openCtx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	stream, err := js.Stream(openCtx, name)
	if err != nil {
		return nil, fmt.Errorf("opening stream %s: %w", name, err)
	}
	r := &reader{js: js, stream: name, info: stream.CachedInfo()}
	r.after = resume(r.info)
	r.consumer, err = stream.OrderedConsumer(openCtx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   r.after + 1,
		// A broken connection ends the read, and the next run resumes: the iterator's own endless retry would not notice
		// that the stream has meanwhile been made again.
		MaxResetAttempts:  1,
		InactiveThreshold: time.Minute,
	})
	if err != nil {
		return nil, fmt.Errorf("reading stream %s: %w", name, err)
	}
	r.pending = r.consumer.CachedInfo().NumPending
	// A limit below the largest message would stop the read at it.
	readAhead := max(windowBytes, 2*int(js.Conn().MaxPayload()))
	// A request for messages that was lost, as may happen to the first one in a cluster, shows by a missing heartbeat.
	r.cursor, err = r.consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(2*window, readAhead), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return nil, fmt.Errorf("reading stream %s: %w", name, err)
	}
	// Next does not watch the context while it replaces a lost consumer; Stop ends that wait.
	r.detach = context.AfterFunc(ctx, r.cursor.Stop)
	return r, nil
}

// close ends the read and removes its consumer, also when ctx has ended. Should that fail, the server removes it.
func (r *reader) close(ctx context.Context) {
	r.detach()
	r.cursor.Stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	_ = r.js.DeleteConsumer(ctx, r.stream, r.consumer.CachedInfo().Name)
}

// exhausted says whether the stream holds no message after the sequence last, up to goal. It is the leader's word: a
// consumer may sit on a replica that lags behind, and then knows of nothing more to deliver. So may a leader that was elected
// a moment ago, and it is believed only once it has reached the goal.
func (r *reader) exhausted(ctx context.Context, last, goal uint64) (bool, error) {
	if last >= goal {
		return true, nil
	}
	following, err := FirstAfter(ctx, r.js, r.stream, last, ">")
	if err != nil || following != 0 {
		return err == nil && following > goal, err
	}
	if at, err := r.lastSequence(ctx); err != nil || at < goal {
		return false, err
	}
	// Once more: it may have got there in between.
	following, err = FirstAfter(ctx, r.js, r.stream, last, ">")
	return err == nil && (following == 0 || following > goal), err
}

// lastSequence is the last sequence that the stream's leader knows of.
func (r *reader) lastSequence(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := r.js.Stream(ctx, r.stream)
	if err != nil {
		return 0, fmt.Errorf("looking at stream %s: %w", r.stream, err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// each calls visit for every message up to the sequence goal, which the stream must have reached.
func (r *reader) each(ctx context.Context, goal uint64, visit func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	for last, pending := r.after, r.pending; last < goal; {
		if pending == 0 {
			if exhausted, err := r.exhausted(ctx, last, goal); exhausted || err != nil {
				return err
			}
		}
		msg, meta, err := r.next(ctx, ackTimeout)
		if err != nil {
			return err
		}
		if last, pending = meta.Sequence.Stream, meta.NumPending; last > goal {
			return nil // it was not there when the reading was asked for
		}
		if err := visit(msg, meta); err != nil {
			return err
		}
	}
	return nil
}

// errQuiet is returned by next when no message came in time.
var errQuiet = errors.New("no message came in time")

// next returns the next message, or errQuiet when none came within wait.
func (r *reader) next(ctx context.Context, wait time.Duration) (jetstream.Msg, *jetstream.MsgMetadata, error) {
	msg, err := r.cursor.Next(jetstream.NextMaxWait(wait))
	switch {
	case err == nil:
		meta, err := msg.Metadata()
		return msg, meta, err
	case ctx.Err() != nil:
		return nil, nil, context.Cause(ctx)
	case errors.Is(err, nats.ErrTimeout):
		return nil, nil, fmt.Errorf("reading stream %s: %w (%s)", r.stream, errQuiet, wait)
	default:
		return nil, nil, fmt.Errorf("reading stream %s: %w", r.stream, err)
	}
}
