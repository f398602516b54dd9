package auditstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// RequestTimeout is how long a read waits for the server before it gives up, whatever the deadline of its context.
	RequestTimeout = 5 * time.Second

	// WriteTimeout is how long Write tries where its context has no deadline.
	WriteTimeout = 10 * time.Second
)

// Store writes and reads an audit trail. *StreamStore is the one that this package offers.
type Store interface {
	// Write stores the entry and returns nil only once it is durable.
	Write(ctx context.Context, entry Entry) error
	// Get returns the entry with the id, or ErrNotFound.
	Get(ctx context.Context, id string) (*Entry, error)
	// List returns limit entries after the first offset ones, newest first, and how many there are altogether.
	List(ctx context.Context, limit, offset int) ([]Entry, int, error)
	// ListAll returns every entry, newest first, or an error.
	ListAll(ctx context.Context) ([]Entry, error)
}

// Publisher is what writing needs of JetStream. Every jetstream.JetStream is a Publisher.
type Publisher interface {
	// PublishMsg publishes the message and returns once the stream has acknowledged it.
	PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// Config says where the trail is.
type Config struct {
	// Stream is the name of the stream. It has to exist.
	Stream string
	// Subject is the base subject: an entry is stored under <Subject>.<id>. The stream has to capture it.
	Subject string
	// Publisher, where it is set, publishes in place of the JetStream handle, for instance to add tracing.
	Publisher Publisher
}

// StreamStore keeps the trail in a JetStream stream. It is safe for concurrent use and needs no closing.
type StreamStore struct {
	js        jetstream.JetStream
	publisher Publisher
	stream    jetstream.Stream
	name      string
	subject   string
	prefix    string // the base subject and a dot
	api       string // the prefix of JetStream API subjects, with its last dot

	limits  limits
	mu      sync.Mutex // guards the five below
	seen    mark
	behind  time.Time // since when the stream ends before what was seen; zero while it does not
	holes   holes
	native  span
	ordered ordered
	kept    kept
}

// limits are variables only so that tests can reach with few messages what happens with many.
type limits struct {
	request time.Duration // how long reading waits without any progress
	try     time.Duration // how long one try of a request or of a publish waits
	window  int           // how many direct gets are under way at once
	probe   int           // how many messages are read one by one before a consumer is cheaper
	crowded time.Duration // how long a Tail waits for room for its consumer
}

var (
	_ Store     = (*StreamStore)(nil)
	_ Publisher = jetstream.JetStream(nil)
)

// New returns the store on an existing stream. It asks the server for the stream's configuration, and changes nothing.
//
// It returns ErrInvalidConfig where Config cannot be right, and ErrNotReady where the stream does not exist, cannot be reached
// or is not fit for an audit trail: it has to capture <Subject>.<id> and nothing outside Subject, allow direct gets, acknowledge
// messages, and keep those it has acknowledged where they are until its limits remove the oldest.
func New(ctx context.Context, js jetstream.JetStream, cfg Config) (*StreamStore, error) {
	if err := checkConfig(js, cfg); err != nil {
		return nil, err
	}
	s := &StreamStore{
		js: js, publisher: cfg.Publisher, name: cfg.Stream, subject: cfg.Subject, prefix: cfg.Subject + ".",
		api:     apiPrefix(js.Options()),
		limits:  limits{request: RequestTimeout, try: time.Second, window: 512, probe: 4096, crowded: orphaned + RequestTimeout},
		ordered: newOrdered(),
	}
	if s.publisher == nil {
		s.publisher = js
	}
	err := s.inTries(ctx, s.limits.try, func(ctx context.Context) (err error) {
		s.stream, err = js.Stream(ctx, cfg.Stream)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening stream %q: %w", cfg.Stream, s.readError(err))
	}
	if err := checkStream(s.stream.CachedInfo().Config, cfg.Subject); err != nil {
		return nil, err
	}
	s.begin(s.stream.CachedInfo())
	return s, nil
}

func apiPrefix(opts jetstream.JetStreamOptions) string {
	switch {
	case opts.Domain != "":
		return "$JS." + opts.Domain + ".API."
	case opts.APIPrefix == "":
		return jetstream.DefaultAPIPrefix
	case opts.APIPrefix[len(opts.APIPrefix)-1] == '.':
		return opts.APIPrefix
	default:
		return opts.APIPrefix + "."
	}
}

// opened lets a nil or zero StreamStore fail with an error.
func (s *StreamStore) opened() error {
	if s == nil || s.js == nil {
		return fmt.Errorf("%w: the store was not made by New", ErrInvalidConfig)
	}
	return nil
}

// readError gives an error of a request its sentinel.
func (s *StreamStore) readError(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("%w: %w", ErrNotReady, missing(s.name))
	}
	return fmt.Errorf("%w: %w", ErrNotReady, s.explain(err))
}

// missing is the name of a stream that does not exist.
type missing string

func (m missing) Error() string {
	return fmt.Sprintf("the stream %q does not exist: create it, or correct Config.Stream", string(m))
}

func (m missing) Unwrap() error { return jetstream.ErrStreamNotFound }

// explain adds what the connection knows about a permission violation, which looks like a time-out to the request.
func (s *StreamStore) explain(err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) || errors.Is(err, context.Canceled) {
		return err
	}
	if own, is := s.publisher.(*linkedPublisher); is {
		if fault := own.link.fault(); fault != nil {
			return fmt.Errorf("%w (%w)", err, fault)
		}
	}
	if last := s.violation(); last != nil {
		return fmt.Errorf("%w (the connection's last error: %w)", err, last)
	}
	return err
}

// violation is the connection's last error, where that is a permission violation.
func (s *StreamStore) violation() error {
	if last := s.js.Conn().LastError(); errors.Is(last, nats.ErrPermissionViolation) {
		return last
	}
	return nil
}

// within returns the context with a deadline that is at most d away.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if ctx == nil {
		ctx = context.Background()
	}
	return context.WithTimeout(ctx, d)
}

// pause waits and says whether the context is still alive, also where its end and that of the pause come together.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return ctx.Err() == nil
}
