package jsclient

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// marker is the password in all tests. It must turn up in no log line and no error.
const marker = "s3cr3t-marker"

const (
	patience = time.Minute
	// atOnce is how long may take what must not wait for requestTimeout.
	atOnce = requestTimeout - time.Second
)

// bench is a pool whose logs and events are recorded.
type bench struct {
	*Pool

	mu     sync.Mutex
	logs   strings.Builder
	events []Event
	times  []time.Time
}

func newBench(t *testing.T, change ...func(*PoolOptions)) *bench {
	t.Helper()
	b := &bench{}
	opts := PoolOptions{
		Log: funcr.New(func(prefix, args string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			fmt.Fprintln(&b.logs, prefix, args)
		}, funcr.Options{Verbosity: 10}),
		OnEvent: func(_ Config, e Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, e)
			b.times = append(b.times, time.Now())
		},
		FileInterval: 50 * time.Millisecond,
	}
	for _, f := range change {
		f(&opts)
	}
	b.Pool = NewPool(opts)
	t.Cleanup(func() {
		b.Close()
		if strings.Contains(b.logText(), marker) {
			t.Errorf("the log holds a credential:\n%s", b.logText())
		}
		if t.Failed() {
			t.Logf("log:\n%s", b.logText())
		}
	})
	return b
}

func (b *bench) logText() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.logs.String()
}

func (b *bench) seen() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Event(nil), b.events...)
}

func (b *bench) count(e Event) int {
	n := 0
	for _, got := range b.seen() {
		if got == e {
			n++
		}
	}
	return n
}

func (b *bench) client(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := b.Get(cfg)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return c
}

// connected returns a client that is connected and has said so.
func (b *bench) connected(t *testing.T, cfg Config) *Client {
	t.Helper()
	c := b.client(t, cfg)
	eventually(t, "a connection", func() bool { return c.Connected() && b.count(Event{Kind: Connected}) > 0 })
	return c
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("waited %s for %s", patience, what)
}

// wantWaiting asserts that err is a Waiting of this reason and free of credentials, and returns its message.
func wantWaiting(t *testing.T, err error, reason string) (message string) {
	t.Helper()
	w, ok := errors.AsType[*failure.Waiting](err)
	if !ok {
		t.Fatalf("got %T (%v), want a *failure.Waiting of reason %s", err, err, reason)
	}
	if w.Reason != reason || w.After <= 0 {
		t.Fatalf("got reason %s after %s (%v), want %s", w.Reason, w.After, err, reason)
	}
	wantNoSecret(t, err)
	return w.Error()
}

func wantTerminal(t *testing.T, err error, reason string) {
	t.Helper()
	f, ok := errors.AsType[*failure.Terminal](err)
	if !ok || f.Reason != reason {
		t.Fatalf("got %T (%v), want a *failure.Terminal of reason %s", err, err, reason)
	}
	wantNoSecret(t, err)
}

func wantNoSecret(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), marker) {
		t.Fatalf("the error holds a credential: %v", err)
	}
}

func wantWithin(t *testing.T, limit time.Duration, what string, do func()) {
	t.Helper()
	start := time.Now()
	do()
	if took := time.Since(start); took > limit {
		t.Fatalf("%s took %s, want at most %s", what, took, limit)
	}
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func tempFile(t *testing.T, name, content string) string {
	t.Helper()
	return writeFile(t, filepath.Join(t.TempDir(), name), content)
}

func streamConfig(name string, subjects ...string) jetstream.StreamConfig {
	if len(subjects) == 0 {
		subjects = []string{strings.ToLower(name) + ".>"}
	}
	return jetstream.StreamConfig{Name: name, Subjects: subjects, Storage: jetstream.MemoryStorage}
}

func withPassword(user string, permissions *server.Permissions) natstest.Option {
	return func(o *server.Options) {
		o.Users = []*server.User{{Username: user, Password: marker, Permissions: permissions}}
	}
}

func background(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
