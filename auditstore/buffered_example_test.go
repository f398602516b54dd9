package auditstore_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/osapi-io/auditstream-operator/auditstore"
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
