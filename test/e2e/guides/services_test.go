package guides

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// TestPermissionsOfAService reads and writes as a user who may do no more than the page on security says.
func TestPermissionsOfAService(t *testing.T) {
	var shown []string
	for _, b := range readGuide(t, "security.md") {
		if b.language == "conf" {
			shown = append(shown, b.text())
		}
	}
	if len(shown) != 2 {
		t.Fatalf("the page shows permissions %d times, want the operator's and a service's", len(shown))
	}
	g := &guide{t: t, dir: t.TempDir()}
	g.startNATS(t.Context(), shown[1])
	_, err := g.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}, AllowDirect: true})
	g.must(err)
	nc, err := nats.Connect(g.nats.URL(), nats.UserInfo(operatorUser, password))
	g.must(err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	g.must(err)
	store, err := auditstore.New(t.Context(), js, auditstore.Config{Stream: "AUDIT", Subject: "audit"})
	g.must(err)

	const n = 20_000 // more than are read without a consumer
	buffered, err := auditstore.NewBuffered(store, auditstore.BufferedConfig{})
	g.must(err)
	for i := range n {
		g.must(buffered.Write(t.Context(), auditstore.Entry{ID: fmt.Sprint("e", i)}))
	}
	g.must(buffered.Close(t.Context()))
	g.must(store.Write(t.Context(), auditstore.Entry{ID: "last", User: "ada"}))
	_, err = store.Get(t.Context(), "last")
	g.must(err)
	if entries, err := store.ListAll(t.Context()); err != nil || len(entries) != n+1 {
		t.Errorf("ListAll returned %d entries, %v", len(entries), err)
	}
	page, err := store.Page(t.Context(), "", 1)
	g.must(err)
	g.must(store.Write(t.Context(), auditstore.Entry{ID: "tailed"}))
	for record, err := range store.Tail(t.Context(), page.Latest) {
		g.must(err)
		if record.ID != "tailed" {
			t.Errorf("the tail shows %+v", record)
		}
		break
	}
	g.checkPermissions()
}
