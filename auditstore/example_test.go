package auditstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// exampleTB lets an example, which has no testing.T, run the test server.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (e *exampleTB) Helper()                           {}
func (e *exampleTB) Cleanup(f func())                  { e.cleanups = append(e.cleanups, f) }
func (e *exampleTB) Fatalf(format string, args ...any) { log.Panicf(format, args...) }

func (e *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "auditstore")
	if err != nil {
		log.Panic(err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (e *exampleTB) close() {
	for _, cleanup := range slices.Backward(e.cleanups) {
		cleanup()
	}
}

// connect stands for jetstream.New on the service's own connection. The operator has made the stream.
func connect() (js jetstream.JetStream, done func()) {
	tb := &exampleTB{}
	js = natstest.Run(tb).JetStream()
	_, err := js.CreateStream(context.Background(), jetstream.StreamConfig{
		Name: "AUDIT", Subjects: []string{"audit.>"}, AllowDirect: true,
	})
	if err != nil {
		log.Panic(err)
	}
	return js, tb.close
}

func openStore() (*auditstore.StreamStore, func()) {
	js, done := connect()
	store, err := auditstore.New(context.Background(), js, auditstore.Config{Stream: "AUDIT", Subject: "audit"})
	if err != nil {
		log.Panic(err)
	}
	return store, done
}

func ExampleNew() {
	js, done := connect()
	defer done()
	ctx := context.Background()

	store, err := auditstore.New(ctx, js, auditstore.Config{Stream: "AUDIT", Subject: "audit"})
	fmt.Println(store != nil, err)

	_, err = auditstore.New(ctx, js, auditstore.Config{Stream: "AUDITS", Subject: "audit"})
	fmt.Println(errors.Is(err, auditstore.ErrNotReady))
	fmt.Println(err)
	// Output:
	// true <nil>
	// true
	// opening stream "AUDITS": auditstore: the stream is not ready: the stream "AUDITS" does not exist: create it, or correct Config.Stream
}

func ExampleStreamStore_Write() {
	store, done := openStore()
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	// An id and a timestamp of one's own make it safe to write the entry again, also after a restart.
	entry := auditstore.Entry{ID: auditstore.NewID(), Timestamp: time.Now(), User: "ada", Method: "DELETE", Path: "/nodes/7"}
	fmt.Println(store.Write(ctx, entry))
	fmt.Println(store.Write(ctx, entry))

	entry.User = "eve"
	fmt.Println(errors.Is(store.Write(ctx, entry), auditstore.ErrConflict))
	// Output:
	// <nil>
	// <nil>
	// true
}

func ExampleStreamStore_Get() {
	store, done := openStore()
	defer done()
	ctx := context.Background()
	if err := store.Write(ctx, auditstore.Entry{ID: "first", User: "ada", ResponseCode: 204}); err != nil {
		log.Panic(err)
	}

	entry, err := store.Get(ctx, "first")
	fmt.Println(entry.User, entry.ResponseCode, err)
	_, err = store.Get(ctx, "second")
	fmt.Println(errors.Is(err, auditstore.ErrNotFound))
	// Output:
	// ada 204 <nil>
	// true
}

func ExampleStreamStore_List() {
	store, done := openStore()
	defer done()
	ctx := context.Background()
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		if err := store.Write(ctx, auditstore.Entry{ID: id, User: "ada"}); err != nil {
			log.Panic(err)
		}
	}

	entries, total, err := store.List(ctx, 2, 0)
	if err != nil && !errors.Is(err, auditstore.ErrCorrupt) {
		log.Panic(err) // with ErrCorrupt there is a page: err names what it lacks
	}
	fmt.Println(entries[0].ID, entries[1].ID, "of", total)
	// Output: e d of 5
}

func ExampleStreamStore_ListAll() {
	store, done := openStore()
	defer done()
	ctx := context.Background()
	fill(store, "ada", "eve", "bob")

	entries, err := store.ListAll(ctx) // a trail that fits into memory; Query and Export read any other
	if err != nil && !errors.Is(err, auditstore.ErrCorrupt) {
		log.Panic(err) // with ErrCorrupt the entries are whole but for what err names
	}
	for _, entry := range entries {
		fmt.Println(entry.ID, entry.User)
	}
	// Output:
	// entry-3 bob
	// entry-2 eve
	// entry-1 ada
}

// fill writes one entry for each name, by that user.
func fill(store *auditstore.StreamStore, users ...string) {
	for i, user := range users {
		entry := auditstore.Entry{ID: fmt.Sprint("entry-", i+1), User: user, Method: "GET", Path: "/nodes", ResponseCode: 200}
		if err := store.Write(context.Background(), entry); err != nil {
			log.Panic(err)
		}
	}
}

func ExampleStreamStore_Page() {
	store, done := openStore()
	defer done()
	ctx := context.Background()
	fill(store, "ada", "eve", "ada", "bob", "ada")

	var cursor auditstore.Cursor
	for {
		page, err := store.Page(ctx, cursor, 2)
		if err != nil && !errors.Is(err, auditstore.ErrCorrupt) {
			log.Panic(err)
		}
		for _, entry := range page.Entries {
			fmt.Print(entry.ID, " ")
		}
		fmt.Println("of", page.Total)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	// Output:
	// entry-5 entry-4 of 5
	// entry-3 entry-2 of 5
	// entry-1 of 5
}

func ExampleStreamStore_Query() {
	store, done := openStore()
	defer done()
	fill(store, "ada", "eve", "ada", "bob", "ada")

	lastHour := auditstore.Query{From: time.Now().Add(-time.Hour), User: "ada", PathPrefix: "/nodes"}
	for entry, err := range store.Query(context.Background(), lastHour) {
		if errors.Is(err, auditstore.ErrCorrupt) {
			log.Print(err) // one message that is not an entry; the others follow
			continue
		}
		if err != nil {
			log.Panic(err) // the trail could not be read to its end
		}
		fmt.Println(entry.ID, entry.User)
	}
	// Output:
	// entry-5 ada
	// entry-3 ada
	// entry-1 ada
}

func ExampleStreamStore_Export() {
	store, done := openStore()
	defer done()
	fill(store, "ada", "eve")

	n, err := store.Export(context.Background(), os.Stdout, auditstore.ExportOptions{
		Query: auditstore.Query{User: "eve", Match: func(e *auditstore.Entry) bool {
			e.Timestamp = time.Time{} // so that the example prints the same each time
			return true
		}},
		Format: auditstore.CSV,
	})
	fmt.Println(n, err)
	// Output:
	// id,timestamp,user,roles,method,path,operation_id,source_ip,response_code,duration_ms,trace_id,corrupt_sequence
	// entry-2,0001-01-01T00:00:00Z,eve,[],GET,/nodes,,,200,0,,
	// 1 <nil>
}

func ExampleStreamStore_Tail() {
	store, done := openStore()
	defer done()
	fill(store, "ada", "eve")

	page, err := store.Page(context.Background(), "", 20) // what is there
	if err != nil {
		log.Panic(err)
	}
	if err := store.Write(context.Background(), auditstore.Entry{ID: "entry-3", User: "bob"}); err != nil {
		log.Panic(err)
	}
	for record, err := range store.Tail(context.Background(), page.Latest) { // and what came since
		if err != nil {
			log.Panic(err)
		}
		fmt.Println(record.ID, record.User, record.Cursor != "") // the cursor is what to begin from after a restart
		break
	}
	// Output: entry-3 bob true
}
