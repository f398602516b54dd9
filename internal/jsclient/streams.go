package jsclient

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"
)

// Stream reads a stream's configuration and state. errors.Is(err, jetstream.ErrStreamNotFound) says that there is none.
func (c *Client) Stream(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	op := operation{name: "stream_info", text: "reading stream " + name, subject: "STREAM.INFO." + name}
	return request(ctx, c, op, func(ctx context.Context, l *link) (*jetstream.StreamInfo, error) {
		return infoOf(l.js.Stream(ctx, name))
	})
}

// CreateStream creates a stream. It succeeds too when a stream with exactly this configuration exists.
// errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) says that one with another configuration does: look who owns it.
func (c *Client) CreateStream(ctx context.Context, cfg jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	op := operation{name: "stream_create", text: "creating stream " + cfg.Name, subject: "STREAM.CREATE." + cfg.Name}
	return request(ctx, c, op, func(ctx context.Context, l *link) (*jetstream.StreamInfo, error) {
		return infoOf(l.js.CreateStream(ctx, cfg))
	})
}

// UpdateStream replaces a stream's configuration. errors.Is(err, jetstream.ErrStreamNotFound) says that there is none.
func (c *Client) UpdateStream(ctx context.Context, cfg jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	op := operation{name: "stream_update", text: "updating stream " + cfg.Name, subject: "STREAM.UPDATE." + cfg.Name}
	return request(ctx, c, op, func(ctx context.Context, l *link) (*jetstream.StreamInfo, error) {
		return infoOf(l.js.UpdateStream(ctx, cfg))
	})
}

// DeleteStream deletes a stream with all its messages. errors.Is(err, jetstream.ErrStreamNotFound) says that there was
// none.
func (c *Client) DeleteStream(ctx context.Context, name string) error {
	op := operation{name: "stream_delete", text: "deleting stream " + name, subject: "STREAM.DELETE." + name}
	_, err := request(ctx, c, op, func(ctx context.Context, l *link) (struct{}, error) {
		return struct{}{}, l.js.DeleteStream(ctx, name)
	})
	return err
}

func infoOf(stream jetstream.Stream, err error) (*jetstream.StreamInfo, error) {
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// StreamUnreportedError is what Streams yields for a stream that exists but whose servers did not report on it: they
// are down, or slow. It must not be taken for deleted.
type StreamUnreportedError struct {
	// Stream is the stream's name.
	Stream string
	// Detail is what the server says about it, and may be empty.
	Detail string
}

// Error implements error.
func (e *StreamUnreportedError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("listing streams: no server reported on stream %s", e.Stream)
	}
	return fmt.Sprintf("listing streams: no server reported on stream %s: %s", e.Stream, e.Detail)
}

// streamPage is the answer to STREAM.LIST. The jetstream package reads it too, but drops what is missing.
type streamPage struct {
	Error   *jetstream.APIError     `json:"error,omitempty"`
	Total   int                     `json:"total"`
	Streams []*jetstream.StreamInfo `json:"streams"`
	Missing []string                `json:"missing,omitempty"`
	Offline map[string]string       `json:"offline,omitempty"`
}

// Streams yields all streams of the account, reading them in pages with one request each. An error comes with a nil
// stream and ends the iteration, except a *StreamUnreportedError, which is about one stream. Only a pass without any
// error lets a caller conclude that a stream does not exist; a stream that is created or deleted meanwhile can move
// another one past a page's border, so even then look again before acting on it.
func (c *Client) Streams(ctx context.Context) iter.Seq2[*jetstream.StreamInfo, error] {
	return func(yield func(*jetstream.StreamInfo, error) bool) {
		for offset := 0; ; {
			page, err := c.streamPage(ctx, offset)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, info := range page.Streams {
				if !yield(info, nil) {
					return
				}
			}
			for _, name := range page.Missing {
				if !yield(nil, &StreamUnreportedError{Stream: name, Detail: page.Offline[name]}) {
					return
				}
			}
			// The server counts those it could not report on as part of the page.
			size := len(page.Streams) + len(page.Missing)
			offset += size
			if size == 0 || offset >= page.Total {
				return
			}
		}
	}
}

func (c *Client) streamPage(ctx context.Context, offset int) (*streamPage, error) {
	op := operation{name: "stream_list", text: "listing streams", subject: "STREAM.LIST"}
	return request(ctx, c, op, func(ctx context.Context, l *link) (*streamPage, error) {
		body := fmt.Appendf(nil, `{"offset":%d}`, offset)
		msg, err := l.nc.RequestWithContext(ctx, c.cfg.apiPrefix()+op.subject, body)
		if err != nil {
			return nil, err
		}
		var page streamPage
		if err := json.Unmarshal(msg.Data, &page); err != nil {
			return nil, fmt.Errorf("reading the answer: %w", err)
		}
		if page.Error != nil {
			return nil, page.Error
		}
		return &page, nil
	})
}
