package auditstore

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// TestLazyWriterDoesNotWaitBehindAnotherCall: while one call waits for a stream that does not answer, the deadline of another counts.
func TestLazyWriterDoesNotWaitBehindAnotherCall(t *testing.T) {
	_, _, srv := open(t)
	g := newGateway(t, srv)
	asked := make(chan struct{}, 100)
	g.set(func(string, *nats.Msg) bool { asked <- struct{}{}; return true })
	l, err := NewLazyWriter(g.js, Config{Stream: testStream, Subject: testSubject})
	if err != nil {
		t.Fatal(err)
	}
	slow, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Write(slow, named("slow")) }()
	<-asked
	short, cancelShort := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancelShort()
	began := time.Now()
	wantIs(t, l.Write(short, named("short")), ErrNotReady, context.DeadlineExceeded)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a call with a deadline of 50 ms took %s", took)
	}
	cancel()
	wantIs(t, <-done, ErrNotReady)
	g.set(func(string, *nats.Msg) bool { return false })
	if err := l.Write(t.Context(), named("a")); err != nil {
		t.Error(err)
	}
}
