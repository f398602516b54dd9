package jsclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
)

// requestTimeout bounds each request to NATS.
const requestTimeout = 5 * time.Second

// operation is a request of the JetStream API.
type operation struct {
	// name is the operation's label in metrics, text what errors call it.
	name, text string
	// subject is the request's subject after the API prefix.
	subject string
}

// request runs one request of the JetStream API and classifies its error. It ends at the latest after requestTimeout,
// whatever deadline ctx has: nats.go applies a time-out of its own only to a context without one. It ends at once when
// there is no connection, when the connection breaks and when NATS denies the subject.
func request[T any](ctx context.Context, c *Client, op operation, do func(context.Context, *link) (T, error)) (T, error) {
	ctx, span := c.beginSpan(ctx, op)
	start := time.Now()
	value, err := attempt(ctx, c, op, do)
	if err != nil {
		err = Classify(describe(op, err))
	}
	c.metrics.observe(op.name, err, time.Since(start))
	endSpan(span, err)
	return value, err
}

func attempt[T any](ctx context.Context, c *Client, op operation, do func(context.Context, *link) (T, error)) (T, error) {
	var zero T
	subject := c.cfg.apiPrefix() + op.subject
	ctx, cancelTimeout := context.WithTimeoutCause(ctx, requestTimeout, fmt.Errorf("no answer to %s within %s: %w", subject, requestTimeout, nats.ErrTimeout))
	defer cancelTimeout()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	r := &call{subject: subject, cancel: cancel}
	if err := c.begin(ctx, r); err != nil {
		return zero, err
	}
	defer c.state.end(r)

	type result struct {
		value T
		err   error
	}
	// In a goroutine of its own, because nats.go can wait for its lock, which it holds while it dials, and does not look
	// at the context then.
	done := make(chan result, 1)
	go func() {
		value, err := do(ctx, c.link.Load())
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		if r.err != nil && ctx.Err() != nil && errors.Is(r.err, ctx.Err()) {
			return zero, context.Cause(ctx)
		}
		return r.value, r.err
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	}
}

// begin admits a request, or says why it would fail.
func (c *Client) begin(ctx context.Context, r *call) error {
	select {
	case <-c.state.settled:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return c.state.begin(r, c.cfg, c.secrets.fault())
}

func (s *state) begin(r *call, cfg Config, fileErr error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.errLocked(cfg, fileErr); err != nil {
		return err
	}
	if s.denials.inbox != nil {
		return s.denials.inbox
	}
	s.calls[r] = struct{}{}
	return nil
}

func (s *state) end(r *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, r)
}

// answerError is an error that NATS answered with, in words for a person.
type answerError struct {
	text string
	err  error
}

func (e *answerError) Error() string { return e.text }

func (e *answerError) Unwrap() error { return e.err }

// describe says which operation an error belongs to. Errors about the connection speak for themselves, and stay the
// same whatever it was that met them.
func describe(op operation, err error) error {
	if _, ok := errors.AsType[*failure.Waiting](err); ok {
		return err
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return &answerError{text: fmt.Sprintf("%s: NATS answered %q (code %d)", op.text, api.Description, api.ErrorCode), err: err}
	}
	return fmt.Errorf("%s: %w", op.text, err)
}

// Explain classifies an error of JetStream. It knows more than Classify: that a time-out was a forbidden publish, or
// that the connection is down.
func (c *Client) Explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	classified := Classify(err)
	w, ok := errors.AsType[*failure.Waiting](classified)
	if !ok || w.Reason != v1alpha1.ReasonNATSUnavailable {
		return classified
	}
	if denied := c.Denied(time.Now().Add(-2 * requestTimeout)); denied != nil {
		return denied
	}
	if down := c.Err(); down != nil {
		return down
	}
	return classified
}
