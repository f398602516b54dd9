package auditstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// journal collects what is logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func newJournal(t *testing.T) *journal {
	t.Helper()
	j := &journal{}
	t.Cleanup(func() {
		if strings.Contains(j.String(), marker) {
			t.Errorf("the log holds a secret:\n%s", j)
		}
		if t.Failed() {
			t.Logf("log:\n%s", j)
		}
	})
	return j
}

func logTo(j *journal) OpenOption { return WithLogger(slog.New(slog.NewTextHandler(j, nil))) }

// quickly makes tries follow each other fast.
func quickly() OpenOption {
	return WithNATSOptions(nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(5*time.Millisecond, 5*time.Millisecond))
}

// openDir opens the binding in the directory and closes it with the test.
func openDir(t *testing.T, dir string, options ...OpenOption) (*Client, *journal) {
	t.Helper()
	j := newJournal(t)
	client, err := Open(t.Context(), append([]OpenOption{FromDirectory(dir), logTo(j), quickly()}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client, j
}

// controlled is a server whose options the test changes between two starts.
type controlled struct {
	*natstest.Server
	opts *server.Options
}

// runControlled starts a server that has the stream. auth is how the test itself connects.
func runControlled(t *testing.T, change func(*server.Options), auth ...nats.Option) *controlled {
	t.Helper()
	c := &controlled{}
	c.Server = natstest.Run(t, func(o *server.Options) {
		c.opts = o
		if change != nil {
			change(o)
		}
	})
	create(t, c.JetStream(auth...), streamConfig())
	return c
}

func (c *controlled) restartWith(change func(*server.Options)) {
	c.Stop()
	change(c.opts)
	c.Restart()
}

func (c *controlled) keys() keys {
	return keys{"type": "auditstream", "uri": c.URL() + "\n", "stream": testStream + "\n", "subject": testSubject + "\n"}
}

func (c *controlled) binding(t *testing.T, more keys) string {
	t.Helper()
	return writeKeys(t, t.TempDir(), c.keys().with(more))
}

func password(user, secret string) func(*server.Options) {
	return func(o *server.Options) { o.Username, o.Password = user, secret }
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	eventually(t, what, func() error {
		if !done() {
			return errors.New("not yet")
		}
		return nil
	})
}

// natsGoroutines counts the goroutines that nats.go runs for connections.
func natsGoroutines() int {
	buf := make([]byte, 1<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	n := 0
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		if strings.Contains(stack, "nats.go@") {
			n++
		}
	}
	return n
}

func TestOpenWritesAndReads(t *testing.T) {
	srv := runControlled(t, nil)
	client, j := openDir(t, srv.binding(t, nil), WithClientName("payments"))
	mustWrite(t, client.StreamStore, "a", "b")
	var store Store = client
	entries, total, err := store.List(t.Context(), 5, 0)
	if idsOf(entries) != "b a" || total != 2 || err != nil {
		t.Errorf("List is %q of %d, %v", idsOf(entries), total, err)
	}
	if err := client.Err(); err != nil {
		t.Errorf("Err of an open client: %v", err)
	}
	if name := client.Conn().Opts.Name; name != "payments" {
		t.Errorf("the connection is called %q", name)
	}
	if !strings.Contains(j.String(), "Connected to NATS") || !strings.Contains(j.String(), srv.URL()) {
		t.Errorf("the log does not say that it is connected:\n%s", j)
	}
}

func TestOpenFromTheEnvironment(t *testing.T) {
	clearEnvironment(t)
	srv := runControlled(t, password("ada", marker), nats.UserInfo("ada", marker))
	file := writeKeys(t, t.TempDir(), keys{"pw": marker + "\n"})
	for name, value := range (keys{"URI": srv.URL(), "STREAM": testStream, "SUBJECT": testSubject, "USERNAME": "ada",
		"PASSWORD_FILE": filepath.Join(file, "pw")}) {
		t.Setenv("AUDITSTORE_"+name, value)
	}
	client, err := Open(t.Context(), logTo(newJournal(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	mustWrite(t, client.StreamStore, "a")
}

func TestOpenTakesItsSecretsFromTheBinding(t *testing.T) {
	token := func(o *server.Options) { o.Authorization = marker }
	for name, c := range map[string]struct {
		auth func(*server.Options)
		ours nats.Option
		keys func(url string) keys
	}{
		"username":     {password("ada", marker), nats.UserInfo("ada", marker), func(string) keys { return keys{"username": "ada\n", "password": marker + "\n"} }},
		"token":        {token, nats.Token(marker), func(string) keys { return keys{"token": marker + "\n"} }},
		"user in uri":  {password("ada", marker), nats.UserInfo("ada", marker), func(url string) keys { return keys{"uri": strings.Replace(url, "//", "//ada:"+marker+"@", 1)} }},
		"token in uri": {token, nats.Token(marker), func(url string) keys { return keys{"uri": strings.Replace(url, "//", "//"+marker+"@", 1)} }},
	} {
		t.Run(name, func(t *testing.T) {
			srv := runControlled(t, c.auth, c.ours)
			client, _ := openDir(t, srv.binding(t, c.keys(srv.URL())))
			mustWrite(t, client.StreamStore, "a")
			if strings.Contains(client.Conn().ConnectedUrl(), marker) {
				t.Error("the connection shows the secret")
			}
		})
	}
}

func TestOpenInADomain(t *testing.T) {
	srv := runControlled(t, func(o *server.Options) { o.JetStreamDomain = "hub" })
	client, _ := openDir(t, srv.binding(t, keys{"domain": "hub\n"}))
	mustWrite(t, client.StreamStore, "a")
	_, err := Open(t.Context(), FromDirectory(srv.binding(t, keys{"domain": "leaf"})), logTo(newJournal(t)))
	wantIs(t, err, ErrNotReady)
}

func TestOpenWaitsForTheServer(t *testing.T) {
	srv := runControlled(t, nil)
	dir := srv.binding(t, nil)
	srv.Stop()
	j := newJournal(t)
	opened := make(chan error, 1)
	go func() {
		client, err := Open(t.Context(), FromDirectory(dir), logTo(j), quickly())
		if err == nil {
			err = client.Write(t.Context(), named("a"))
		}
		_ = client.Close()
		opened <- err
	}()
	until(t, "a failed try", func() bool { return strings.Contains(j.String(), "Failed to connect to NATS") })
	srv.Restart()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(j.String(), "connection refused"); n != 1 {
		t.Errorf("the same reason was logged %d times", n)
	}
}

// untilLogged is a context for what is bound to fail: it ends once the log says why.
func untilLogged(t *testing.T, j *journal, why string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	go func() {
		defer cancel()
		for !strings.Contains(j.String(), why) && pause(ctx, 5*time.Millisecond) {
		}
	}()
	return ctx
}

// silentServer accepts connections, counts them and says nothing.
func silentServer(t *testing.T) (uri string, taken *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	taken = &atomic.Int64{}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			taken.Add(1)
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	return "nats://" + l.Addr().String(), taken
}

func TestOpenGivesUpWithItsContext(t *testing.T) {
	silent, _ := silentServer(t)
	for name, c := range map[string]struct{ uri, want string }{
		"refused": {"nats://127.0.0.1:1", "connection refused"},
		"silent":  {silent, "no server has answered"},
	} {
		t.Run(name, func(t *testing.T) {
			before := natsGoroutines()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // for one try of each server at least
			defer cancel()
			start := time.Now()
			dir := writeKeys(t, t.TempDir(), plainKeys.with(keys{"uri": c.uri}))
			client, err := Open(ctx, FromDirectory(dir), logTo(newJournal(t)), quickly(), WithNATSOptions(nats.Timeout(time.Minute)))
			wantIs(t, err, ErrNotReady, context.DeadlineExceeded)
			if client != nil || errors.Is(err, ErrUnauthorized) || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("got %v, %v; want %q", client, err, c.want)
			}
			if took := time.Since(start); took > 20*time.Second { // and not after the minute that a try may take
				t.Errorf("gave up after %s", took)
			}
			until(t, "the goroutines to end", func() bool { return natsGoroutines() <= before })
		})
	}
}

func TestOpenTellsARefusalFromAnOutage(t *testing.T) {
	srv := runControlled(t, password("ada", marker), nats.UserInfo("ada", marker))
	for name, uri := range map[string]string{"one server": srv.URL(), "and one that is away": srv.URL() + ",nats://127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			dir := srv.binding(t, keys{"uri": uri, "username": "ada", "password": marker + "-old"})
			j := newJournal(t)
			_, err := Open(untilLogged(t, j, "Authorization Violation"), FromDirectory(dir), logTo(j), quickly())
			wantIs(t, err, ErrNotReady, ErrUnauthorized, nats.ErrAuthorization)
			for _, word := range []string{srv.URL(), "Authorization Violation", filepath.Join(dir, "password"), "renew"} {
				if !strings.Contains(fmt.Sprint(err), word) {
					t.Errorf("the error %q does not say %q", err, word)
				}
			}
			if strings.Contains(fmt.Sprint(err), marker) {
				t.Errorf("the error holds a secret: %v", err)
			}
		})
	}
}

type countingDialer struct {
	net.Dialer
	dials atomic.Int64
}

func (d *countingDialer) Dial(network, address string) (net.Conn, error) {
	d.dials.Add(1)
	return d.Dialer.Dial(network, address)
}

func TestOpenTriesEachServerOnceARound(t *testing.T) {
	d := &countingDialer{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var rounds atomic.Int64
	dir := writeKeys(t, t.TempDir(), plainKeys.with(keys{"uri": "nats://127.0.0.1:1,nats://127.0.0.1:2,nats://127.0.0.1:3"}))
	_, err := Open(ctx, FromDirectory(dir), logTo(newJournal(t)), WithNATSOptions(nats.SetCustomDialer(d),
		nats.CustomReconnectDelay(func(round int) time.Duration {
			if rounds.Store(int64(round)); round == 3 {
				cancel()
			}
			return time.Millisecond
		})))
	wantIs(t, err, ErrNotReady, context.Canceled)
	if rounds.Load() != 3 || d.dials.Load() != 9 {
		t.Errorf("%d dials of 3 servers in %d rounds, want 9 in 3", d.dials.Load(), rounds.Load())
	}
}

func TestOpenTakesACorrectionOfTheBinding(t *testing.T) {
	srv := runControlled(t, nil)
	dir := srv.binding(t, keys{"uri": "nats://127.0.0.1:1"})
	j := newJournal(t)
	opened := make(chan error, 1)
	go func() {
		client, err := Open(t.Context(), FromDirectory(dir), logTo(j), quickly())
		_ = client.Close()
		opened <- err
	}()
	until(t, "a failed try", func() bool { return strings.Contains(j.String(), "connection refused") })
	writeKeys(t, dir, keys{"uri": srv.URL()})
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
}

func TestOpenReportsTheStream(t *testing.T) {
	srv := runControlled(t, nil)
	before := natsGoroutines()
	for name, c := range map[string]struct {
		change keys
		want   string
	}{
		"missing": {keys{"stream": "NONE"}, `the stream "NONE" does not exist`},
		"unfit":   {keys{"subject": "other"}, `outside "other.>"`},
	} {
		_, err := Open(t.Context(), FromDirectory(srv.binding(t, c.change)), logTo(newJournal(t)))
		wantIs(t, err, ErrNotReady)
		if !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: the error %q does not say %q", name, err, c.want)
		}
	}
	until(t, "the connections to end", func() bool { return natsGoroutines() <= before })
}

func TestClose(t *testing.T) {
	srv := runControlled(t, nil)
	before := natsGoroutines()
	client, j := openDir(t, srv.binding(t, nil))
	mustWrite(t, client.StreamStore, "a")
	for range 2 {
		if err := client.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	wantIs(t, client.Err(), ErrNotReady, nats.ErrConnectionClosed)
	wantIs(t, client.Write(t.Context(), named("b")), ErrNotReady, nats.ErrConnectionClosed)
	_, err := client.Get(t.Context(), "a")
	wantIs(t, err, ErrNotReady)
	until(t, "the goroutines to end", func() bool { return natsGoroutines() <= before })
	for _, word := range []string{"Lost", "closed for good", "Failed"} {
		if strings.Contains(j.String(), word) {
			t.Errorf("the log takes Close for a fault:\n%s", j)
		}
	}
}

func TestCloseWithoutAConnection(t *testing.T) {
	srv := runControlled(t, nil)
	before := natsGoroutines()
	dir := srv.binding(t, nil)
	client, _ := openDir(t, dir, WithNATSOptions(nats.Timeout(time.Minute)))
	srv.Stop()
	// From now on each try hangs in the handshake.
	silent, taken := silentServer(t)
	writeKeys(t, dir, keys{"uri": silent})
	until(t, "a try that hangs", func() bool { return taken.Load() > 0 })
	wantIs(t, client.Err(), ErrNotReady)
	start := time.Now()
	_ = client.Close()
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("Close took %s", took)
	}
	until(t, "the goroutines to end", func() bool { return natsGoroutines() <= before })
}

func TestClientThatOpenDidNotMake(t *testing.T) {
	var none *Client
	for _, client := range []*Client{none, {}} {
		wantIs(t, client.Err(), ErrInvalidConfig)
		if client.Conn() != nil || client.Close() != nil {
			t.Error("a client without a connection has one")
		}
	}
	wantIs(t, (&Client{}).Write(t.Context(), named("a")), ErrInvalidConfig)
}

func TestOpenWithANilContext(t *testing.T) {
	srv := runControlled(t, nil)
	client, err := Open(nil, FromDirectory(srv.binding(t, nil)), logTo(newJournal(t)), nil) //nolint:staticcheck // what a caller may do by mistake
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
}

func TestOptionsThatContradict(t *testing.T) {
	dir := writeKeys(t, t.TempDir(), plainKeys)
	for name, c := range map[string]struct {
		option OpenOption
		want   string
	}{
		"two sources":      {FromBinding("audit"), "contradict each other"},
		"no name":          {WithClientName(""), "WithClientName"},
		"no logger":        {WithLogger(nil), "WithLogger"},
		"no directory":     {FromDirectory(""), `FromDirectory("") names nothing`},
		"servers":          {WithNATSOptions(func(o *nats.Options) error { o.Servers = []string{"a"}; return nil }), "binding's uri"},
		"token":            {WithNATSOptions(nats.Token(marker)), "sets credentials"},
		"user":             {WithNATSOptions(nats.UserInfo("ada", marker)), "sets credentials"},
		"nkey":             {WithNATSOptions(nats.Nkey("U", func([]byte) ([]byte, error) { return nil, nil })), "sets credentials"},
		"certificates":     {WithNATSOptions(func(o *nats.Options) error { o.RootCAsCB = (&binding{}).neededCAs; return nil }), "sets certificates"},
		"no reconnect":     {WithNATSOptions(nats.NoReconnect()), "limits reconnecting"},
		"few reconnects":   {WithNATSOptions(nats.MaxReconnects(3)), "limits reconnecting"},
		"reconnect buffer": {WithNATSOptions(nats.ReconnectBufSize(1024)), "reconnect buffer"},
		"option that errs": {WithNATSOptions(func(*nats.Options) error { return errors.New("bad option") }), "WithNATSOptions: bad option"},
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, []string{c.want}, dir, FromDirectory(dir), c.option) })
	}
}

func TestOptionsOfNATSArePassedOn(t *testing.T) {
	srv := runControlled(t, nil)
	var lost, back, closed atomic.Int64
	client, _ := openDir(t, srv.binding(t, nil), WithNATSOptions(nil, nats.CustomInboxPrefix("_IN.payments"), nats.MaxReconnects(-1),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { lost.Add(1) }),
		nats.ReconnectHandler(func(*nats.Conn) { back.Add(1) }),
		nats.ClosedHandler(func(*nats.Conn) { closed.Add(1) })))
	if inbox := client.Conn().NewInbox(); !strings.HasPrefix(inbox, "_IN.payments.") {
		t.Errorf("the inbox is %s", inbox)
	}
	srv.Restart()
	until(t, "the caller's callbacks", func() bool { return lost.Load() == 1 && back.Load() == 1 })
	_ = client.Close()
	until(t, "the caller's last callback", func() bool { return closed.Load() == 1 })
}

func TestWritesOfAnOutageAreNotSentLater(t *testing.T) {
	srv := runControlled(t, nil)
	client, _ := openDir(t, srv.binding(t, nil))
	srv.Stop()
	until(t, "a failed try", func() bool { return strings.Contains(fmt.Sprint(client.Err()), "connection refused") })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := client.Write(ctx, named("late"))
	wantIs(t, err, ErrNotReady, context.DeadlineExceeded)
	if !strings.Contains(fmt.Sprint(err), "no connection to NATS") || !strings.Contains(fmt.Sprint(err), "connection refused") {
		t.Errorf("the error does not say why: %v", err)
	}
	// Past the store's own guard too.
	if err := client.Conn().Publish(testSubject+".later", body("later", "ada")); !errors.Is(err, nats.ErrReconnectBufExceeded) {
		t.Errorf("a publish without a connection gave %v", err)
	}
	srv.Restart()
	mustWrite(t, client.StreamStore, "next") // on the same connection, and so behind whatever it had kept
	if got, total := list(t, client.StreamStore, 5, 0); got != "next" || total != 1 {
		t.Errorf("the stream holds %q, want next alone", got)
	}
}

func TestWriteOutlivesARestart(t *testing.T) {
	srv := runControlled(t, nil)
	client, _ := openDir(t, srv.binding(t, nil))
	srv.Stop()
	written := make(chan error, 1)
	go func() { written <- client.Write(t.Context(), named("a")) }()
	until(t, "the loss to be noticed", func() bool { return client.Err() != nil })
	srv.Restart()
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

func TestConnectionThatIsClosedIsReplaced(t *testing.T) {
	srv := runControlled(t, nil)
	before := natsGoroutines()
	client, j := openDir(t, srv.binding(t, nil))
	mustWrite(t, client.StreamStore, "a")
	for i, id := range []string{"b", "c"} {
		old := client.Conn()
		old.Close()
		until(t, "another connection", func() bool { return client.Conn() != old && client.Err() == nil })
		mustWrite(t, client.StreamStore, id)
		if got, total := list(t, client.StreamStore, 1, 0); got != id || total != i+2 {
			t.Errorf("List is %q of %d", got, total)
		}
		if all, err := client.ListAll(t.Context()); len(all) != i+2 || err != nil {
			t.Errorf("ListAll has %d entries, %v", len(all), err)
		}
	}
	if n := strings.Count(j.String(), "opening another"); n != 2 {
		t.Errorf("%d closed connections are in the log, want 2:\n%s", n, j)
	}
	client.Conn().Close()
	_ = client.Close() // while it may be opening another
	until(t, "the goroutines to end", func() bool { return natsGoroutines() <= before })
}

func TestReplacementWaitsForTheServer(t *testing.T) {
	srv := runControlled(t, nil)
	client, j := openDir(t, srv.binding(t, nil))
	srv.Stop()
	client.Conn().Close()
	until(t, "failed tries", func() bool { return strings.Contains(j.String(), "Failed to connect to NATS") })
	wantIs(t, client.Err(), ErrNotReady)
	if !strings.Contains(fmt.Sprint(client.Err()), "connection refused") {
		t.Errorf("Err does not say why: %v", client.Err())
	}
	srv.Restart()
	mustWrite(t, client.StreamStore, "a")
}

// TestLegacyDefect_TheConnectionClosesForEver: nats.go gives a server up after 60 failed tries, with 2 s between them, and one that
// gives the same authentication error twice at once. The legacy service then failed until it was restarted.
func TestLegacyDefect_TheConnectionClosesForEver(t *testing.T) {
	t.Run("server away for long", func(t *testing.T) {
		srv := runControlled(t, nil)
		var tries atomic.Int64
		client, _ := openDir(t, srv.binding(t, nil), WithNATSOptions(nats.ReconnectErrHandler(func(*nats.Conn, error) { tries.Add(1) })))
		conn := client.Conn()
		srv.Stop()
		until(t, "more tries than nats.go makes", func() bool { return tries.Load() > nats.DefaultMaxReconnect+10 })
		srv.Restart()
		mustWrite(t, client.StreamStore, "a")
		if client.Conn() != conn {
			t.Error("the connection was replaced by another")
		}
	})
	t.Run("credentials refused for a while", func(t *testing.T) {
		srv := runControlled(t, password("ada", marker), nats.UserInfo("ada", marker))
		var refusals atomic.Int64
		client, _ := openDir(t, srv.binding(t, keys{"username": "ada", "password": marker}),
			WithNATSOptions(nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
				if errors.Is(err, nats.ErrAuthorization) {
					refusals.Add(1)
				}
			})))
		conn := client.Conn()
		srv.restartWith(password("ada", "another"))
		until(t, "several refusals", func() bool { return refusals.Load() > 4 })
		wantIs(t, client.Err(), ErrNotReady, ErrUnauthorized)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		wantIs(t, client.Write(ctx, named("a")), ErrNotReady, ErrUnauthorized)
		srv.restartWith(password("ada", marker))
		mustWrite(t, client.StreamStore, "a")
		if err := client.Err(); err != nil {
			t.Errorf("Err once the credentials are taken again: %v", err)
		}
		if client.Conn() != conn {
			t.Error("the connection was replaced by another")
		}
	})
	t.Run("an entry larger than a limit that was lowered", func(t *testing.T) {
		srv := runControlled(t, nil)
		client, _ := openDir(t, srv.binding(t, nil))
		srv.Stop()
		running, err := server.NewServer(srv.opts.Clone())
		if err != nil {
			t.Fatal(err)
		}
		go running.Start()
		defer running.Shutdown()
		mustWrite(t, client.StreamStore, "a")
		buffered, err := NewBuffered(client, BufferedConfig{})
		if err != nil {
			t.Fatal(err)
		}
		lower := srv.opts.Clone()
		lower.MaxPayload = 600
		if err := running.ReloadOptions(lower); err != nil { // which clients are not told
			t.Fatal(err)
		}
		large := named("large")
		large.Path = strings.Repeat("x", 1000)
		wantIs(t, client.Write(t.Context(), large), ErrTooLarge)
		mustWrite(t, client.StreamStore, "b")
		if err := errors.Join(buffered.Write(t.Context(), named("c")), buffered.Close(t.Context())); err != nil {
			t.Errorf("writing without waiting: %v", err)
		}
		client.limits.probe = 0 // so that a consumer reads
		var read seen
		for entry, err := range client.Query(t.Context(), Query{Order: AsStored}) {
			read.add(t, entry, err)
		}
		if !slices.Equal(read, []string{"a", "b", "c"}) {
			t.Errorf("read %v", read)
		}
		tailFrom(t, client.StreamStore, position{kind: tailCursor, created: client.stream.CachedInfo().Created}.cursor()).want("a b c")
	})
}
