package auditgrpc

import (
	"context"
	"runtime/debug"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/internal/attribute"
)

// record writes the entry, unless it is one that is not wanted. It reports every failure itself.
func (c *call) record(code codes.Code) error {
	if c.cfg.Rejections == SkipRejections && (code == codes.Unauthenticated || code == codes.PermissionDenied) {
		return nil
	}
	entry := c.complete(code)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), c.cfg.WriteTimeout)
	defer cancel()
	var err error
	if panicked := guard("Write", func() { err = c.store.Write(ctx, entry) }); panicked != nil {
		err = panicked
	}
	if err != nil {
		c.report(entry, err)
	}
	return err
}

func (c *call) complete(code codes.Code) auditstore.Entry {
	entry := c.entry
	// An id of its own lets OnError keep the entry and write it again.
	entry.ID = auditstore.NewID()
	entry.ResponseCode = HTTPStatus(code)
	entry.DurationMs = time.Since(c.start).Milliseconds()

	ctx := c.seen()
	entry.TraceID = attribute.TraceID(ctx, c.ctx)
	entry.Roles = []string{}
	var failures []error
	fill := func(name string, set func()) {
		if err := guard(name, set); err != nil {
			failures = append(failures, err)
		}
	}
	fill("User", func() { entry.User = attribute.Cut(c.cfg.User(ctx), attribute.MaxValue) })
	if c.cfg.Roles != nil {
		fill("Roles", func() { entry.Roles = attribute.Roles(c.cfg.Roles(ctx)) })
	}
	fill("OperationID", func() { entry.OperationID = attribute.Cut(c.cfg.OperationID(ctx, c.fullMethod), attribute.MaxValue) })
	for _, err := range failures {
		c.report(entry, err)
	}
	return entry
}

// seen is the context that Config's functions get.
func (c *call) seen() context.Context {
	if ctx := c.observed.Load(); ctx != nil {
		return *ctx
	}
	return c.ctx
}

// report calls OnError. There is nobody left to tell of its own panic but the log.
func (c *call) report(entry auditstore.Entry, err error) {
	if panicked := guard("OnError", func() { c.cfg.OnError(c.ctx, entry, err) }); panicked != nil {
		logError(c.ctx, entry, err)
		logError(c.ctx, entry, panicked)
	}
}

// guard calls f and returns its panic as a *PanicError. It leaves a panic that is already under way alone.
func guard(name string, f func()) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Func: name, Value: value, Stack: debug.Stack()}
		}
	}()
	f()
	return nil
}
