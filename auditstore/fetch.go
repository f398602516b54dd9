package auditstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// message is a stored message, wherever it was read from.
type message struct {
	subject  string
	sequence uint64
	stored   time.Time
	header   nats.Header
	data     []byte
	// unreadable is a message that the stream counts and cannot deliver: only its sequence is known.
	unreadable bool
	// damage is what is wrong with the headers, where they cannot be read. There are none then.
	damage error
}

// at is the time of the entry in nanoseconds, and whether the entry was moved here from somewhere else.
func (m *message) at() (int64, bool) {
	stored := nanoseconds(m.stored)
	if value := m.header.Get(HeaderSourceTime); value != "" {
		if source, err := time.Parse(time.RFC3339Nano, value); err == nil {
			return min(nanoseconds(source), stored), true
		}
	}
	return stored, false
}

// ref is the message's place in the trail.
func (m *message) ref() ref {
	at, _ := m.at()
	return ref{at: at, sequence: m.sequence}
}

// isMarker recognises what a key-value client (ADR-8) or the server (ADR-43) leaves where a key was deleted or purged.
func (m *message) isMarker() bool {
	switch m.header.Get("KV-Operation") {
	case "DEL", "PURGE":
		return true
	}
	return m.header.Get(jetstream.MarkerReasonHeader) != ""
}

// isFirst says whether the message is certainly the first one of its subject: the stream took it because there was none. That
// is not said of what another stream took and this one has copied, or of what was taken because another subject had none.
func (m *message) isFirst() bool {
	return m.header.Get(jetstream.ExpectedLastSubjSeqHeader) == "0" && m.header.Get(jetstream.ExpectedLastSubjSeqSubjHeader) == "" &&
		m.header.Get("Nats-Stream-Source") == ""
}

// nanoseconds is UnixNano, which is undefined before 1678 and after 2261.
func nanoseconds(t time.Time) int64 {
	switch year := t.Year(); {
	case year < 1678:
		return math.MinInt64
	case year > 2261:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// query asks for one message: the one at Sequence, with a Subject the first one of it from Sequence on, or the last one of
// LastOf.
type query struct {
	Sequence uint64 `json:"seq,omitempty"`
	Subject  string `json:"next_by_subj,omitempty"`
	LastOf   string `json:"last_by_subj,omitempty"`
}

func (q query) payload() []byte { return q.appendTo(nil) }

func (q query) appendTo(b []byte) []byte {
	if q.Subject == "" && q.LastOf == "" {
		return append(strconv.AppendUint(append(b, `{"seq":`...), q.Sequence, 10), '}')
	}
	data, _ := json.Marshal(q) // a number and a string always have a JSON form
	return append(b, data...)
}

func (q query) answeredBy(m *message) bool {
	switch {
	case q.LastOf != "":
		return m.subject == q.LastOf
	case q.Subject != "":
		return m.subject == q.Subject && m.sequence >= q.Sequence
	}
	return m.sequence == q.Sequence
}

// errUnanswered is a try that brought no usable answer.
var errUnanswered = errors.New("no answer")

// fetch answers the queries in their order. A nil message means that the stream's leader says there is none: a replica may
// lag, so its word is not enough. It fails when nothing was answered for RequestTimeout.
func (s *StreamStore) fetch(ctx context.Context, queries []query) ([]*message, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	found := make([]*message, len(queries))
	open := make([]int, len(queries))
	for i := range open {
		open[i] = i
	}
	if len(open) == 0 {
		return found, nil
	}
	for progress := time.Now(); ; {
		left, cause := s.round(ctx, queries, found, open)
		if len(left) == 0 {
			return found, nil
		}
		if len(left) < len(open) {
			progress = time.Now()
		}
		open = left
		if time.Since(progress) >= s.limits.request || !pause(ctx, lastPause/2) {
			return nil, s.unanswered(ctx, queries, open, cause)
		}
	}
}

func (s *StreamStore) unanswered(ctx context.Context, queries []query, open []int, cause error) error {
	if ctx.Err() != nil {
		cause = ctx.Err()
	}
	first := queries[open[0]]
	return fmt.Errorf("%w: %d of %d messages, the first %s", s.readError(cause), len(open), len(queries), first.payload())
}

// round asks any replica for everything that is open, and then the leader for what no replica had. It returns what is left.
func (s *StreamStore) round(ctx context.Context, queries []query, found []*message, open []int) ([]int, error) {
	settled := make([]bool, len(queries))
	messages := make([]message, len(open)) // at once: one by one they cost more than what is read into them
	err := s.pipeline(ctx, s.api+"DIRECT.GET."+s.name, queries, open, func(i int, msg *nats.Msg) {
		if m := &messages[0]; readDirect(m, msg) && queries[i].answeredBy(m) {
			found[i], settled[i] = m, true
			messages = messages[1:]
		}
	})
	open = without(open, settled)
	if len(open) == 0 {
		return nil, nil
	}
	cause := errUnanswered
	leaderErr := s.pipeline(ctx, s.api+"STREAM.MSG.GET."+s.name, queries, open, func(i int, msg *nats.Msg) {
		m, err := leaderMessage(msg)
		if err != nil {
			cause = err
			return
		}
		found[i], settled[i] = m, true
	})
	if err = errors.Join(err, leaderErr); err != nil {
		cause = err
	}
	return without(open, settled), cause
}

func without(open []int, settled []bool) []int {
	var left []int
	for _, i := range open {
		if !settled[i] {
			left = append(left, i)
		}
	}
	return left
}

// pipeline sends the open queries to an API subject, a window of them at a time, and takes the answers on one inbox. It returns
// once all are answered, or when none has come for the length of a try: what answer was not called for is unanswered.
func (s *StreamStore) pipeline(ctx context.Context, subject string, queries []query, open []int, answer func(int, *nats.Msg)) error {
	nc := s.js.Conn()
	inbox := nc.NewInbox()
	answers := make(chan *nats.Msg, len(open)) // as many as there can be, so that the connection never blocks on it
	sub, err := nc.ChanSubscribe(inbox+".*", answers)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	timer := time.NewTimer(s.limits.try)
	defer timer.Stop()
	var payload []byte
	for sent, got := 0, 0; got < len(open); {
		for ; sent < len(open) && sent-got < s.limits.window; sent++ {
			payload = queries[open[sent]].appendTo(payload[:0])
			if err := nc.PublishRequest(subject, inbox+"."+strconv.Itoa(open[sent]), payload); err != nil {
				return err
			}
		}
		select {
		case msg := <-answers:
			if i, err := strconv.Atoi(msg.Subject[len(inbox)+1:]); err == nil && i >= 0 && i < len(queries) {
				answer(i, msg)
				got++
			}
			timer.Reset(s.limits.try)
		case <-timer.C:
			return errUnanswered
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// askReplica makes one try at whichever replica answers. No message and no error mean that this one has none.
func (s *StreamStore) askReplica(ctx context.Context, q query) (*message, error) {
	msg, err := s.js.Conn().RequestWithContext(ctx, s.api+"DIRECT.GET."+s.name, q.payload())
	if err != nil {
		return nil, err
	}
	m := &message{}
	if !readDirect(m, msg) || !q.answeredBy(m) {
		return nil, nil
	}
	return m, nil
}

// askLeader makes one try at the stream's leader. No message and no error mean that the leader says there is none.
func (s *StreamStore) askLeader(ctx context.Context, q query) (*message, error) {
	msg, err := s.js.Conn().RequestWithContext(ctx, s.api+"STREAM.MSG.GET."+s.name, q.payload())
	if err != nil {
		return nil, err
	}
	return leaderMessage(msg)
}

// readDirect reads the answer to a direct get, and says whether it is a message: a status may come in its place. The server adds
// its own headers after those of the writer, so the last value is the server's.
func readDirect(m *message, msg *nats.Msg) bool {
	sequence, err := strconv.ParseUint(lastValue(msg.Header, jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return false
	}
	stored, err := time.Parse(time.RFC3339Nano, lastValue(msg.Header, jetstream.TimeStampHeaer))
	if err != nil {
		return false
	}
	subject := lastValue(msg.Header, jetstream.SubjectHeader)
	*m = message{subject: subject, sequence: sequence, stored: stored, header: msg.Header, data: msg.Data}
	return true
}

func lastValue(header nats.Header, key string) string {
	if values := header[key]; len(values) > 0 {
		return strings.TrimSpace(values[len(values)-1])
	}
	return ""
}

// leaderMessage reads the answer of the stream's leader. Code 10037 is the stream's word that there is no such message.
func leaderMessage(msg *nats.Msg) (*message, error) {
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if msg.Header.Get("Status") == "503" {
		return nil, nats.ErrNoResponders
	}
	err := json.Unmarshal(msg.Data, &answer)
	if err != nil {
		return nil, fmt.Errorf("reading the answer of the stream's leader: %w", err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, nil
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return nil, jetstream.ErrStreamNotFound
	case answer.Error != nil:
		return nil, answer.Error
	case answer.Message == nil:
		return nil, errUnanswered
	}
	m := &message{
		subject: answer.Message.Subject, sequence: answer.Message.Sequence,
		stored: answer.Message.Time, data: answer.Message.Data,
	}
	if len(answer.Message.Header) > 0 {
		// No client can read a direct get of a message whose headers are no headers. So it is here that this is found out.
		if m.header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			m.header, m.damage = nil, errHeaders
		}
	}
	return m, nil
}
