package jsclient

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// bucketInterval is the least time between two events of a bucket.
const bucketInterval = 100 * time.Millisecond

// echoes are when an event is delivered again after the last write. A subscriber is told of a put when the server takes it, and
// the stream may store it later: who looks at once may be too early, and would not be told again.
var echoes = []time.Duration{bucketInterval, time.Second, 5 * time.Second}

var bucketRe = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// buckets are the followed buckets of a client.
type buckets struct {
	client *Client
	mu     sync.Mutex
	byName map[string]*follow
}

// follow is one followed bucket. Its subscription is made once connected and lives until the last follower stops.
type follow struct {
	name     string
	refs     int // guarded by buckets.mu
	throttle *throttle

	mu      sync.Mutex
	nc      *nats.Conn
	sub     *nats.Subscription
	stopped bool
	// paused counts those who want no subscription for a while.
	paused int
}

// FollowBucket delivers a BucketWritten event for the bucket's backing stream KV_<bucket> when a key is written: at
// once for the first write, every 100 ms while they go on, and 100 ms, 1 s and 5 s after the last one, by when the stream has
// stored it. Several followers of a bucket share one subscription; each calls stop when it is done, more than once does no harm.
//
// It succeeds while NATS is down and while the bucket does not exist, and fails with a *failure.Waiting of reason
// PermissionDenied when NATS is known to forbid the subscription. Writes during an outage have no event of their own,
// Connected stands for them; the same is true of writes in another JetStream domain that its leaf node keeps to itself.
func (c *Client) FollowBucket(bucket string) (stop func(), err error) {
	if !bucketRe.MatchString(bucket) {
		return nil, fmt.Errorf("bucket %q is not a valid bucket name: letters, digits, - and _ are allowed", bucket)
	}
	f := c.buckets.acquire(bucket)
	release := sync.OnceFunc(func() { c.buckets.release(f) })
	if err := c.confirm(f); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// PauseBucket ends the subscription to the bucket's subjects, whoever follows it, until resume is called, which delivers an
// event for what may have been missed. It returns once the server has no subscription left.
func (c *Client) PauseBucket(ctx context.Context, bucket string) (resume func(), err error) {
	if !c.Connected() {
		return nil, Classify(fmt.Errorf("pausing to follow bucket %s: %w", bucket, nats.ErrDisconnected))
	}
	nc, f := c.link.Load().nc, c.buckets.acquire(bucket)
	f.pause(1)
	resume = sync.OnceFunc(func() {
		f.pause(-1)
		if _, err := f.subscribe(c.link.Load().nc); err != nil {
			c.log.Error(err, "Could not subscribe to a bucket", "bucket", bucket)
		}
		f.throttle.hit()
		c.buckets.release(f)
	})
	f.unsubscribe()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := nc.FlushWithContext(ctx); err != nil {
		resume()
		return nil, Classify(fmt.Errorf("pausing to follow bucket %s: %w", bucket, err))
	}
	return resume, nil
}

func (f *follow) pause(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused += n
}

func (f *follow) subject() string { return bucketSubject(f.name) }

func bucketSubject(bucket string) string { return "$KV." + bucket + ".>" }

// confirm subscribes, when connected, and waits for the server to have seen it: a refusal has arrived by then.
func (c *Client) confirm(f *follow) error {
	if !c.Connected() {
		return nil
	}
	nc := c.link.Load().nc
	before := nc.LastError()
	fresh, err := f.subscribe(nc)
	if errors.Is(err, nats.ErrConnectionClosed) {
		return nil
	}
	if err != nil {
		return Classify(fmt.Errorf("following bucket %s: %w", f.name, err))
	}
	if fresh {
		c.awaitRefusal(nc, f.subject(), before)
	}
	return c.state.subscriptionDenied(f.subject())
}

// awaitRefusal gives the server the time to refuse a subscription. The refusal arrives before the answer to the ping
// but is handed to the error handler later, so it is taken from the connection's last error, if that is a new one.
func (c *Client) awaitRefusal(nc *nats.Conn, subject string, before error) {
	ctx, cancel := context.WithTimeout(c.ctx, requestTimeout)
	defer cancel()
	if err := nc.FlushWithContext(ctx); err != nil {
		// The connection broke. The subscription comes back with it.
		return
	}
	err := nc.LastError()
	if !errors.Is(err, nats.ErrPermissionViolation) || err == before { //nolint:errorlint // Asks whether it is the same object.
		return
	}
	if v, ok := parseViolation(err); ok && v.subscription && v.subject == subject {
		c.onViolation(err)
	}
}

// subscribe reports whether the subscription is new.
func (f *follow) subscribe(nc *nats.Conn) (fresh bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped || f.paused > 0 || (f.sub != nil && f.nc == nc) {
		return false, nil
	}
	sub, err := nc.Subscribe(f.subject(), func(*nats.Msg) { f.throttle.hit() })
	if err != nil {
		return false, err
	}
	f.nc, f.sub = nc, sub
	return true, nil
}

func (f *follow) unsubscribe() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sub != nil {
		_ = f.sub.Unsubscribe()
		f.sub = nil
	}
}

func (b *buckets) acquire(bucket string) *follow {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, ok := b.byName[bucket]
	if !ok {
		event := Event{Kind: BucketWritten, Stream: "KV_" + bucket}
		f = &follow{name: bucket, throttle: &throttle{echoes: echoes, fire: func() { b.client.events.push(event) }}}
		if b.byName == nil {
			b.byName = map[string]*follow{}
		}
		b.byName[bucket] = f
	}
	f.refs++
	return f
}

func (b *buckets) release(f *follow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.refs--; f.refs > 0 {
		return
	}
	delete(b.byName, f.name)
	f.throttle.stop()
	b.client.state.forgetSubscription(f.subject())
	// Not waited for: nats.go holds its lock while it dials.
	go func() {
		f.mu.Lock()
		f.stopped = true
		f.mu.Unlock()
		f.unsubscribe()
	}()
}

func (b *buckets) all() []*follow {
	b.mu.Lock()
	defer b.mu.Unlock()
	follows := make([]*follow, 0, len(b.byName))
	for _, f := range b.byName {
		follows = append(follows, f)
	}
	return follows
}

// subscribeAll makes the subscriptions that were asked for while there was no connection.
func (b *buckets) subscribeAll() {
	nc := b.client.link.Load().nc
	for _, f := range b.all() {
		if _, err := f.subscribe(nc); err != nil {
			b.client.log.Error(err, "Could not subscribe to a bucket", "bucket", f.name)
		}
	}
}

// resubscribe makes the forbidden subscriptions anew, in case they are permitted by now.
func (b *buckets) resubscribe() {
	nc := b.client.link.Load().nc
	for _, f := range b.all() {
		if b.client.state.subscriptionDenied(f.subject()) == nil {
			continue
		}
		f.unsubscribe()
		if _, err := f.subscribe(nc); err != nil {
			b.client.log.Error(err, "Could not subscribe to a bucket", "bucket", f.name)
		}
	}
}

// throttle calls fire at once for a hit, for all hits within the first of echoes of that once more at its end, and at each of
// echoes after the last hit.
type throttle struct {
	echoes []time.Duration
	fire   func()

	mu      sync.Mutex
	timer   *time.Timer
	pending bool // whether there was a hit since the last call of fire
	step    int  // how many of echoes are done
	stopped bool
}

func (t *throttle) hit() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.stopped:
	case t.timer != nil && t.step == 0:
		t.pending = true
	case t.timer != nil && t.timer.Stop():
		t.begin()
	case t.timer != nil:
		t.pending = true // it has run out, and expire waits for the lock
	default:
		t.begin()
	}
}

// begin fires for a hit.
func (t *throttle) begin() {
	t.pending, t.step = false, 0
	t.timer = time.AfterFunc(t.echoes[0], t.expire)
	t.fire()
}

func (t *throttle) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.stopped:
	case t.pending:
		t.begin()
	default:
		t.fire()
		if t.step++; t.step == len(t.echoes) {
			t.timer, t.step = nil, 0
			return
		}
		t.timer = time.AfterFunc(t.echoes[t.step]-t.echoes[t.step-1], t.expire)
	}
}

func (t *throttle) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.timer != nil {
		t.timer.Stop()
	}
}
