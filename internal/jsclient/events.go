package jsclient

import (
	"container/list"
	"context"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// EventKind says what happened.
type EventKind int

const (
	// StreamCreated: a stream was created, by anybody.
	StreamCreated EventKind = iota + 1
	// StreamUpdated: a stream's configuration was changed, by anybody.
	StreamUpdated
	// StreamDeleted: a stream was deleted, by anybody.
	StreamDeleted
	// BucketWritten: a key of a followed bucket was put, deleted or purged.
	BucketWritten
	// Connected: the connection is up, for the first time or again, or events were missed for another reason. Anything
	// may have changed.
	Connected
	// Disconnected: NATS has been out of reach for PoolOptions.DisconnectedAfter.
	Disconnected
)

// String returns the kind's name.
func (k EventKind) String() string {
	switch k {
	case StreamCreated:
		return "StreamCreated"
	case StreamUpdated:
		return "StreamUpdated"
	case StreamDeleted:
		return "StreamDeleted"
	case BucketWritten:
		return "BucketWritten"
	case Connected:
		return "Connected"
	case Disconnected:
		return "Disconnected"
	default:
		return "Unknown"
	}
}

// Event is something that happened on a connection.
type Event struct {
	Kind EventKind
	// Stream is the stream it happened to, KV_<bucket> for a bucket, empty for Connected and Disconnected.
	Stream string
}

const (
	advisoryPrefix = "$JS.EVENT.ADVISORY.STREAM."
	// advisoryBuffer holds what arrives while the queue is being worked on. More than that makes nats.go drop
	// advisories and say so, which becomes a Connected event.
	advisoryBuffer = 4096
)

var advisoryKinds = []struct {
	token string
	kind  EventKind
}{
	{"CREATED", StreamCreated},
	{"UPDATED", StreamUpdated},
	{"DELETED", StreamDeleted},
}

func advisorySubject(token string) string { return advisoryPrefix + token + ".*" }

// parseAdvisory reads the event off an advisory's subject: $JS.EVENT.ADVISORY.STREAM.<action>.<stream>.
func parseAdvisory(subject string) (Event, bool) {
	token, stream, found := strings.Cut(strings.TrimPrefix(subject, advisoryPrefix), ".")
	if !found || stream == "" {
		return Event{}, false
	}
	for _, known := range advisoryKinds {
		if known.token == token {
			return Event{Kind: known.kind, Stream: stream}, true
		}
	}
	return Event{}, false
}

// subscribeAdvisories is called once connected. All subscriptions of a connection share one channel, which keeps the
// server's order among them.
func (c *Client) subscribeAdvisories() {
	l := c.link.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.advisories) > 0 {
		return
	}
	for _, known := range advisoryKinds {
		sub, err := l.nc.ChanSubscribe(advisorySubject(known.token), c.advisories)
		if err != nil {
			c.log.Error(err, "Could not subscribe to advisories", "subject", advisorySubject(known.token))
			continue
		}
		l.advisories = append(l.advisories, sub)
	}
}

// resubscribeAdvisories makes the forbidden subscriptions anew, in case they are permitted by now.
func (c *Client) resubscribeAdvisories() {
	l := c.link.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, sub := range l.advisories {
		if c.state.subscriptionDenied(sub.Subject) == nil {
			continue
		}
		_ = sub.Unsubscribe()
		if again, err := l.nc.ChanSubscribe(sub.Subject, c.advisories); err == nil {
			l.advisories[i] = again
		}
	}
}

// onSlowConsumer makes up for messages that nats.go has dropped.
func (c *Client) onSlowConsumer(sub *nats.Subscription) {
	if sub == nil || !strings.HasPrefix(sub.Subject, advisoryPrefix) {
		// Of a bucket's messages only the last counts, and the queue that overflowed is still to be worked off.
		return
	}
	c.log.Info("Dropped advisories, looking at everything again", "subject", sub.Subject)
	c.events.push(Event{Kind: Connected})
}

func (c *Client) readAdvisories() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case msg := <-c.advisories:
			if e, ok := parseAdvisory(msg.Subject); ok {
				c.events.push(e)
			}
		}
	}
}

// eventQueue holds events until they are delivered. An event that is pushed while an equal one waits takes its place
// at the end: so the queue never holds more than one of a kind for each stream, nothing is lost, and the last event
// of a stream stays the last.
type eventQueue struct {
	mu      sync.Mutex
	order   *list.List
	waiting map[Event]*list.Element
	wake    chan struct{}
}

func newEventQueue() *eventQueue {
	return &eventQueue{order: list.New(), waiting: map[Event]*list.Element{}, wake: make(chan struct{}, 1)}
}

func (q *eventQueue) push(e Event) {
	q.mu.Lock()
	if element, ok := q.waiting[e]; ok {
		q.order.MoveToBack(element)
	} else {
		q.waiting[e] = q.order.PushBack(e)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *eventQueue) pop() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	front := q.order.Front()
	if front == nil {
		return Event{}, false
	}
	e, _ := q.order.Remove(front).(Event)
	delete(q.waiting, e)
	return e, true
}

// deliver hands the events on, one at a time, until ctx ends.
func (q *eventQueue) deliver(ctx context.Context, handle func(Event)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		for e, ok := q.pop(); ok && ctx.Err() == nil; e, ok = q.pop() {
			handle(e)
		}
	}
}
