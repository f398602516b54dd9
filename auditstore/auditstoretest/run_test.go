package auditstoretest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

// The package may not import the operator's builder, so a test keeps the two alike.
func TestStreamIsTheOperators(t *testing.T) {
	want, err := jsbuilder.Build(&v1alpha1.AuditStreamSpec{Stream: "TRAIL", Subject: "trail.api"}, "payments", "api-audit", "owner")
	if err != nil {
		t.Fatal(err)
	}
	got := streamConfig("TRAIL", "trail.api")
	want.Description, want.Metadata = got.Description, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Run makes the stream\n%+v\nand the operator\n%+v", got, want)
	}
}

func TestRun(t *testing.T) {
	store, nc := Run(t, WithStream("TRAIL", "trail.api"),
		WithConfig(func(cfg *jetstream.StreamConfig) { cfg.MaxAge = time.Hour }),
		WithConfig(func(cfg *jetstream.StreamConfig) { cfg.DenyDelete = false }))
	if err := store.Write(t.Context(), sample("id")); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "TRAIL")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	if cfg.MaxAge != time.Hour || cfg.DenyDelete || !cfg.DenyPurge || cfg.Storage != jetstream.FileStorage {
		t.Errorf("the stream is %+v, want it with both changes and else as the operator makes it", cfg)
	}
	if _, err := stream.GetLastMsgForSubject(t.Context(), "trail.api.id"); err != nil {
		t.Errorf("reading the entry: %v", err)
	}
}

func TestRunCleansUp(t *testing.T) {
	var nc *nats.Conn
	var url, dir string
	t.Run("", func(t *testing.T) {
		_, nc = Run(t)
		url = nc.ConnectedUrl()
		dir = filepath.Dir(t.TempDir()) // beside the directory of the server
		if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
			t.Errorf("the test has the directories %v and the error %v, want the server's and one more", files, err)
		}
	})
	if !nc.IsClosed() {
		t.Error("the connection is still open after the test")
	}
	if again, err := nats.Connect(url); err == nil {
		again.Close()
		t.Error("the server still runs after the test")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the server's files are still there after the test: %v", err)
	}
}

// Two servers in one test have nothing in common.
func TestRunTwice(t *testing.T) {
	one, _ := Run(t)
	two, _ := Run(t)
	if err := one.Write(t.Context(), sample("id")); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Get(t.Context(), "id"); !errors.Is(err, auditstore.ErrNotFound) {
		t.Errorf("Get from another server: %v, want ErrNotFound", err)
	}
}

// fatal records what Run says before it gives up.
type fatal struct {
	testing.TB
	*recorder
}

func (f fatal) Helper()                           {}
func (f fatal) Context() context.Context          { return f.TB.Context() }
func (f fatal) Errorf(format string, args ...any) { f.recorder.Errorf(format, args...) }
func (f fatal) Fatalf(format string, args ...any) { f.recorder.Fatalf(format, args...) }

func TestRunReportsABadStream(t *testing.T) {
	for name, option := range map[string]Option{
		`making the stream "a.b"`: WithStream("a.b", "audit"),
		"opening the store":       WithConfig(func(cfg *jetstream.StreamConfig) { cfg.AllowDirect = false }),
	} {
		failures := record(t, check{run: func(r tester, _ auditstore.Store) {
			Run(fatal{TB: t, recorder: r.(*recorder)}, option)
		}}, nil)
		if len(failures) != 1 || !strings.Contains(failures[0], name) {
			t.Errorf("Run reported %q, want one failure that says %q", failures, name)
		}
	}
}
