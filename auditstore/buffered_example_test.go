package auditstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

func ExampleNewBuffered() {
	store, done := openStore()
	defer done()
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		log.Panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()

	// On a disk that outlives the process: what is taken is never lost, also while NATS is away.
	buffered, err := auditstore.NewBuffered(store, auditstore.BufferedConfig{Policy: auditstore.Spool, Dir: dir})
	if err != nil {
		log.Panic(err)
	}
	for _, user := range []string{"ada", "eve"} {
		if err := buffered.Write(ctx, auditstore.Entry{User: user}); err != nil {
			log.Panic(err)
		}
	}
	fmt.Println(buffered.Close(ctx)) // forwards what is left

	_, total, err := store.List(ctx, 1, 0)
	fmt.Println(total, err)
	// Output:
	// <nil>
	// 2 <nil>
}

// A process that starts while its trail is away begins to spool at once.
func ExampleNewLazyWriter() {
	tb := &exampleTB{}
	defer tb.close()
	js := natstest.Run(tb).JetStream() // jetstream.New on a connection that was opened with nats.RetryOnFailedConnect
	ctx := context.Background()

	writer, err := auditstore.NewLazyWriter(js, auditstore.Config{Stream: "AUDIT", Subject: "audit"})
	if err != nil {
		log.Panic(err)
	}
	fmt.Println(errors.Is(writer.Write(ctx, auditstore.Entry{User: "ada"}), auditstore.ErrNotReady))
	buffered, err := auditstore.NewBuffered(writer, auditstore.BufferedConfig{Policy: auditstore.Spool, Dir: tb.TempDir()})
	if err != nil {
		log.Panic(err)
	}
	fmt.Println(buffered.Write(ctx, auditstore.Entry{User: "ada"}))

	// The operator makes the stream, and what was spooled goes there.
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}, AllowDirect: true})
	if err != nil {
		log.Panic(err)
	}
	fmt.Println(buffered.Close(ctx))
	info, err := stream.Info(ctx)
	if err != nil {
		log.Panic(err)
	}
	fmt.Println(info.State.Msgs, "entry")
	// Output:
	// true
	// <nil>
	// <nil>
	// 1 entry
}
