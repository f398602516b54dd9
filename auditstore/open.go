package auditstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// OpenTimeout is how long Open tries where its context has no deadline.
const OpenTimeout = 30 * time.Second

// closeWait is how long Close waits for a connection that is being made before it cuts it.
const closeWait = 250 * time.Millisecond

// ErrUnauthorized is returned, together with ErrNotReady, when NATS refuses the credentials. Open and everything that was opened
// go on trying with what the binding then holds, so that the error passes once the credentials are renewed.
var ErrUnauthorized = errors.New("auditstore: NATS refuses the credentials")

// Client is a StreamStore on a connection of its own. Open makes it, and it has to be closed.
//
// It is a type of its own, and not a StreamStore with one more method, so that a program sees from the type which store it has
// to close: one that New made lives on a connection of the program's.
type Client struct {
	*StreamStore

	target  bindingTarget
	given   nats.Options // the caller's
	options nats.Options // and what Open stands for
	link    *link
	dialer  *dialer
}

// Open connects to the stream that a service binding leads to, and returns a store on it as New does.
//
// A binding is a directory with one file a key, as servicebinding.io describes it and as Kubernetes mounts a Secret. A newline at
// the end of a file is not part of it, and an empty file is an error. The keys, and the variables that stand for them where the
// binding is read from the environment:
//
//	uri          $AUDITSTORE_URI            nats:// or tls:// URLs of servers, divided by commas. Required
//	stream       $AUDITSTORE_STREAM         name of the stream. Required
//	subject      $AUDITSTORE_SUBJECT        base subject of the trail. Required
//	domain       $AUDITSTORE_DOMAIN         JetStream domain
//	credentials  $AUDITSTORE_CREDENTIALS    a NATS credentials file (JWT and seed)
//	username     $AUDITSTORE_USERNAME       with password
//	password     $AUDITSTORE_PASSWORD_FILE
//	token        $AUDITSTORE_TOKEN_FILE
//	ca.crt       $AUDITSTORE_CA             certificate authorities of the servers, in place of the system's
//	tls.crt      $AUDITSTORE_CERT           client certificate, with tls.key
//	tls.key      $AUDITSTORE_KEY
//	type         -                          "auditstream" or "nats", or absent
//
// The variables of the last eight keys but username hold paths of files. Credentials are one of credentials, username with
// password, token, or a user in the uri; a client certificate may come with any of them. Other keys, such as provider, are ignored.
//
// The binding is the one that FromDirectory, FromBinding or FromEnvironment says. Without any of them it is the environment
// where one of its variables is set, and otherwise the only binding in $SERVICE_BINDING_ROOT that is for an audit trail: its type
// is "auditstream", or it has the key stream or subject and the type is "nats" or absent. Sources are never mixed.
//
// Open waits for the first connection until the context ends, or for OpenTimeout where that has no deadline. Afterwards the
// connection is made again whenever it is lost, for ever, also while NATS refuses the credentials. Each try reads the servers,
// credentials and certificates anew, so that a rotation needs no restart. The stream, subject and domain stay what they were.
// While there is no connection nothing is queued: a write tries again until its own deadline, and then fails, and is not sent later.
//
// It returns ErrInvalidConfig where the binding or an option cannot be right, naming the file or the variable; ErrNotReady where
// no server could be reached in time, or the stream is not fit as New describes it; and ErrUnauthorized with ErrNotReady where a
// server refused the credentials. After an error nothing is left open. No error and no log line holds a credential.
func Open(ctx context.Context, options ...OpenOption) (*Client, error) {
	settings, b, err := newOpenSettings(options)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	c, err := newClient(settings, b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	ctx, cancel := openContext(ctx)
	defer cancel()
	if err := c.open(ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("opening %s: %w", b.name, err)
	}
	return c, nil
}

func newClient(settings *openSettings, b *binding) (*Client, error) {
	t, err := b.target()
	if err != nil {
		return nil, err
	}
	given, err := settings.natsOptions()
	if err != nil {
		return nil, err
	}
	l := newLink(settings.log, b)
	c := &Client{target: t, given: given, options: given, link: l, dialer: newDialer(given, l.dialFailed)}
	l.replace = c.replace
	l.adopt(&c.options, c.dialer)
	return c, nil
}

func openContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx == nil {
		ctx = context.Background()
	}
	if _, bounded := ctx.Deadline(); !bounded {
		return context.WithTimeout(ctx, OpenTimeout)
	}
	return context.WithCancel(ctx)
}

func (c *Client) open(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.dialer.abort)
	defer stop()
	if err := c.establish(ctx, "Connected to NATS"); err != nil {
		return err
	}
	handle := &linkedHandle{JetStream: c.link.now().js, link: c.link}
	store, err := New(ctx, handle, Config{
		Stream: c.target.stream, Subject: c.target.subject, Publisher: &linkedPublisher{Publisher: handle, link: c.link},
	})
	if err == nil && !stop() {
		err = fmt.Errorf("%w: %w", ErrNotReady, context.Cause(ctx)) // and so the connection was cut
	}
	if err != nil {
		return err
	}
	c.StreamStore = store
	return nil
}

// Conn returns the connection, for statistics and further use. It belongs to the Client: where it is closed, by the program or by
// nats.go after an answer that it takes for the end, the Client makes another.
func (c *Client) Conn() *nats.Conn {
	if c == nil || c.link == nil {
		return nil
	}
	if s := c.link.now(); s != nil {
		return s.nc
	}
	return nil
}

// Err returns nil while the connection is up, and otherwise ErrNotReady with the reason that it is down. It never waits, and so
// can answer a readiness probe. That the connection is up does not say that the stream can be written to.
func (c *Client) Err() error {
	if c == nil || c.link == nil {
		return fmt.Errorf("%w: the client was not made by Open", ErrInvalidConfig)
	}
	if err := c.link.fault(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return nil
}

// Close closes the connection. Calls that are under way fail with ErrNotReady, and so do later ones. A write that has returned
// nil is durable, so there is nothing to drain. Closing again does nothing. The error is always nil; it is there for io.Closer.
func (c *Client) Close() error {
	if c == nil || c.link == nil || !c.link.close() {
		return nil
	}
	// nats.go's Close waits for a server that is just being dialed.
	cut := time.AfterFunc(closeWait, c.dialer.abort)
	defer cut.Stop()
	if nc := c.Conn(); nc != nil {
		nc.Close()
	}
	c.dialer.abort()
	return nil
}
