package migrate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// requestTimeout bounds a single request to the server.
const requestTimeout = 5 * time.Second

// stored is a message as the leader of its stream has it.
type stored struct {
	Sequence uint64 `json:"seq"`
	Header   []byte `json:"hdrs"`
	Data     []byte `json:"data"`
}

// leaderGet asks the leader of a stream for one message; it returns nil when the leader says that there is none. A
// direct get would be faster, but a lagging replica may answer it, and here a wrong answer counts an entry wrongly.
func leaderGet(ctx context.Context, js jetstream.JetStream, stream string, query map[string]any) (*stored, error) {
	request, err := json.Marshal(query)
	if err != nil {
		return nil, fmt.Errorf("asking stream %s for a message: %w", stream, err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	reply, err := js.Conn().RequestWithContext(ctx, apiPrefix(js)+"STREAM.MSG.GET."+stream, request)
	if err != nil {
		return nil, fmt.Errorf("asking stream %s for a message: %w", stream, err)
	}
	var response struct {
		Error   *jetstream.APIError `json:"error"`
		Message *stored             `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &response); err != nil {
		return nil, fmt.Errorf("asking stream %s for a message: %w", stream, err)
	}
	if response.Error != nil {
		if response.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return nil, nil
		}
		return nil, fmt.Errorf("asking stream %s for a message: %w", stream, response.Error)
	}
	if response.Message == nil {
		return nil, fmt.Errorf("asking stream %s for a message: the answer holds none", stream)
	}
	return response.Message, nil
}

// firstUnder returns the first message on a subject that is no marker: the one that is the entry. Where there are markers only,
// last is the sequence of the last one.
func firstUnder(ctx context.Context, js jetstream.JetStream, stream, subject string) (first *stored, last uint64, err error) {
	for {
		m, err := leaderGet(ctx, js, stream, map[string]any{"seq": last + 1, "next_by_subj": subject})
		if err != nil || m == nil || !m.isMarker() {
			return m, last, err
		}
		last = m.Sequence
	}
}

// FirstAfter returns the sequence of the first message of a stream that comes after a sequence and whose subject matches the
// pattern, 0 where there is none. It is the word of the stream's leader.
func FirstAfter(ctx context.Context, js jetstream.JetStream, stream string, sequence uint64, pattern string) (uint64, error) {
	m, err := leaderGet(ctx, js, stream, map[string]any{"seq": sequence + 1, "next_by_subj": pattern})
	if err != nil || m == nil {
		return 0, err
	}
	return m.Sequence, nil
}

// lastUnder returns the last message on a subject.
func lastUnder(ctx context.Context, js jetstream.JetStream, stream, subject string) (*stored, error) {
	return leaderGet(ctx, js, stream, map[string]any{"last_by_subj": subject})
}

// isMarker says whether a legacy kv.Delete or kv.Purge has left the message, by way of a redirected bucket.
func (s *stored) isMarker() bool {
	if !bytes.Contains(s.Header, []byte(operationHeader)) && !bytes.Contains(s.Header, []byte(jetstream.MarkerReasonHeader)) {
		return false
	}
	header, err := nats.DecodeHeadersMsg(s.Header)
	return err == nil && isMarker(header)
}

func (s *stored) header(name string) string {
	header, err := nats.DecodeHeadersMsg(s.Header)
	if err != nil {
		return ""
	}
	return header.Get(name)
}

func apiPrefix(js jetstream.JetStream) string {
	opts := js.Options()
	switch {
	case opts.Domain != "":
		return "$JS." + opts.Domain + ".API."
	case opts.APIPrefix != "":
		return strings.TrimSuffix(opts.APIPrefix, ".") + "."
	default:
		return jetstream.DefaultAPIPrefix
	}
}
