package jsclient

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
)

// publishMemory is how many refused publishes are remembered for Denied.
const publishMemory = 32

// deniedNews is how long a denied publish must not have been met again to be news. What needs it is tried each slowRetry.
const deniedNews = 5 * slowRetry

// violationRe finds what was refused in the server's text, the only place that says so. The subject is quoted as Go
// quotes strings.
var violationRe = regexp.MustCompile(`(?i)violation for (publish to|publish with reply of|subscription to) ("(?:[^"\\]|\\.)*")`)

// violation is a subject that NATS forbids to the operator's user.
type violation struct {
	subscription bool
	reply        bool
	subject      string
}

func parseViolation(err error) (violation, bool) {
	m := violationRe.FindStringSubmatch(err.Error())
	if m == nil {
		return violation{}, false
	}
	subject, unquoteErr := strconv.Unquote(m[2])
	if unquoteErr != nil {
		return violation{}, false
	}
	what := strings.ToLower(m[1])
	return violation{
		subscription: strings.HasPrefix(what, "subscription"),
		reply:        strings.Contains(what, "reply"),
		subject:      subject,
	}, true
}

// inbox says whether the violation is about the subscription that brings the answers of all requests.
func (v violation) inbox() bool {
	return v.subscription && strings.HasPrefix(v.subject, nats.InboxPrefix) && strings.HasSuffix(v.subject, ".*")
}

func (v violation) waiting(cause error) error {
	verb, permit := "publish to", v.subject
	switch {
	case v.inbox():
		verb, permit = "subscribe to", nats.InboxPrefix+">"
	case v.subscription:
		verb = "subscribe to"
	case v.reply:
		verb = "ask for answers on"
	}
	return &failure.Waiting{
		Reason: v1alpha1.ReasonPermissionDenied,
		After:  slowRetry,
		Err:    fmt.Errorf("NATS forbids the operator's user to %s %q: permit this subject (%w)", verb, permit, denied{cause}),
	}
}

// denied keeps the cause for errors.Is without its text, which repeats the subject; that of an inbox is another one
// with each connection.
type denied struct{ err error }

func (d denied) Error() string { return "permissions violation" }

func (d denied) Unwrap() error { return d.err }

// denials are the violations of a connection. The zero value is empty.
type denials struct {
	inbox         error
	subscriptions map[string]refusal
	publishes     []refusal
	// since is when the oldest denial, or the last try to overcome it, was. retried is set while the outcome of such a
	// try is open.
	since, retried time.Time
}

type refusal struct {
	at  time.Time
	err error
}

func (d *denials) reset() { *d = denials{publishes: d.publishes} }

func (d *denials) any() bool { return d.inbox != nil || len(d.subscriptions) > 0 }

func (d *denials) addSubscription(v violation, err error) (news bool) {
	if !d.any() {
		d.since = time.Now()
	}
	if v.inbox() {
		news = d.inbox == nil
		d.inbox = err
		return news
	}
	if d.subscriptions == nil {
		d.subscriptions = map[string]refusal{}
	}
	_, known := d.subscriptions[v.subject]
	d.subscriptions[v.subject] = refusal{at: time.Now(), err: err}
	return !known
}

func (d *denials) addPublish(err error) (news bool) {
	now := time.Now()
	news = !slices.ContainsFunc(d.publishes, func(r refusal) bool {
		return r.err.Error() == err.Error() && now.Sub(r.at) < deniedNews
	})
	if len(d.publishes) >= publishMemory {
		d.publishes = d.publishes[1:]
	}
	d.publishes = append(d.publishes, refusal{at: now, err: err})
	return news
}

// onViolation gives a violation to the requests it explains. NATS reports it out of band, and all that the request
// itself would ever see is a time-out.
func (c *Client) onViolation(err error) {
	v, ok := parseViolation(err)
	if !ok {
		c.log.Error(err, "NATS reported a permission violation without naming a subject")
		return
	}
	waiting, news := c.state.deny(v, err)
	if !news {
		return
	}
	c.log.Error(waiting, "NATS denied the operator a subject")
	if v.subscription && strings.HasPrefix(v.subject, advisoryPrefix) {
		// What happens from here on is missed.
		c.events.push(Event{Kind: Connected})
	}
}

// deny records a violation, fails the requests that it belongs to, and reports whether it is news.
func (s *state) deny(v violation, cause error) (waiting error, news bool) {
	waiting = v.waiting(cause)
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.subscription {
		news = s.denials.addSubscription(v, waiting)
	} else {
		news = s.denials.addPublish(waiting)
	}
	for c := range s.calls {
		if v.inbox() || v.reply || (!v.subscription && c.subject == v.subject) {
			c.cancel(waiting)
		}
	}
	return waiting, news
}

// Denied returns the last publish that NATS has forbidden since a time, as a *failure.Waiting that names the subject,
// or nil. It is for those who publish through JetStream themselves, to whom a forbidden publish looks like an answer
// that never comes.
func (c *Client) Denied(since time.Time) error {
	s := c.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.denials.inbox != nil {
		return s.denials.inbox
	}
	if n := len(s.denials.publishes); n > 0 && !s.denials.publishes[n-1].at.Before(since) {
		return s.denials.publishes[n-1].err
	}
	return nil
}

// SubscriptionErr returns a *failure.Waiting that names each subscription, of advisories or of one of the buckets, that NATS
// forbids, or nil. Requests work nonetheless, but changes are then noticed only when somebody looks. When an advisory comes to
// be forbidden there is a Connected event.
func (c *Client) SubscriptionErr(buckets ...string) error {
	s := c.state
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, 0, len(s.denials.subscriptions))
	for subject, r := range s.denials.subscriptions {
		if strings.HasPrefix(subject, advisoryPrefix) || slices.ContainsFunc(buckets, func(b string) bool { return subject == bucketSubject(b) }) {
			errs = append(errs, r.err)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &failure.Waiting{Reason: v1alpha1.ReasonPermissionDenied, After: slowRetry, Err: joinSorted(errs)}
}

func (s *state) subscriptionDenied(subject string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.denials.subscriptions[subject].err
}

func (s *state) forgetSubscription(subject string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.denials.subscriptions, subject)
}

// retryDenied tries forbidden subscriptions again from time to time. A server that is given new permissions applies
// them to publishes at once, but never brings back a subscription that it has refused.
func (c *Client) retryDenied() {
	if c.state.concludeRetry() {
		c.log.Info("NATS permits the operator a subject that it denied before")
		// What happened meanwhile was missed.
		c.events.push(Event{Kind: Connected})
	}
	inbox, subscriptions := c.state.overdue(c.opts.deniedRetry)
	if inbox {
		if err := c.link.Load().nc.ForceReconnect(); err != nil {
			c.log.Error(err, "Could not reconnect to NATS")
		}
		return
	}
	if subscriptions {
		c.resubscribeAdvisories()
		c.buckets.resubscribe()
	}
}

// overdue says whether a denial of a subscription has stood for so long that it is worth another try.
func (s *state) overdue(after time.Duration) (inbox, subscriptions bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.denials
	if !s.connected || !d.any() || time.Since(d.since) < after {
		return false, false
	}
	d.since = time.Now()
	d.retried = d.since
	return d.inbox != nil, len(d.subscriptions) > 0
}

// concludeRetry forgets the denials that the last try has not brought up again, and reports whether there were any. It
// is called a while after the try, when the server's refusals have arrived.
func (s *state) concludeRetry() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.denials
	if !s.connected || d.retried.IsZero() {
		return false
	}
	before := len(d.subscriptions)
	maps.DeleteFunc(d.subscriptions, func(_ string, r refusal) bool { return r.at.Before(d.retried) })
	d.retried = time.Time{}
	return len(d.subscriptions) < before
}
