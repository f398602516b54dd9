package auditstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/auditstoretest"
)

// mountBinding stands for Kubernetes, which mounts the binding's Secret into the workload.
func mountBinding(tb *exampleTB) (dir string) {
	_, nc := auditstoretest.Run(tb)
	dir = tb.TempDir()
	for key, value := range map[string]string{
		"type":    "auditstream",
		"uri":     nc.ConnectedUrl(),
		"stream":  auditstoretest.DefaultStream,
		"subject": auditstoretest.DefaultSubject,
	} {
		if err := os.WriteFile(filepath.Join(dir, key), []byte(value), 0o600); err != nil {
			log.Panic(err)
		}
	}
	return dir
}

func ExampleOpen() {
	tb := &exampleTB{}
	defer tb.close()
	dir := mountBinding(tb)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	store, err := auditstore.Open(ctx,
		auditstore.FromDirectory(dir), // not needed with $SERVICE_BINDING_ROOT
		auditstore.WithClientName("payments"),
		auditstore.WithLogger(slog.New(slog.DiscardHandler)),
	)
	if err != nil {
		log.Panic(err)
	}
	defer func() { _ = store.Close() }()

	err = store.Write(ctx, auditstore.Entry{ID: "first", User: "ada"})
	fmt.Println(err, store.Err())
	entries, total, err := store.List(ctx, 20, 0)
	fmt.Println(entries[0].User, total, err)
	// Output:
	// <nil> <nil>
	// ada 1 <nil>
}

// What is wrong with a binding is said at once, by file.
func ExampleOpen_invalid() {
	tb := &exampleTB{}
	defer tb.close()
	dir := mountBinding(tb)
	if err := os.Remove(filepath.Join(dir, "stream")); err != nil {
		log.Panic(err)
	}

	_, err := auditstore.Open(context.Background(), auditstore.FromDirectory(dir))
	fmt.Println(errors.Is(err, auditstore.ErrInvalidConfig))
	// Output: true
}
