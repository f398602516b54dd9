package auditgrpc

import (
	"context"
	"runtime/debug"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// How many bytes of a value an entry takes. JSON needs up to six bytes for one, and a server by default takes messages of 1 MiB.
const (
	maxValue = 4 << 10
	maxRole  = 256
	maxRoles = 128
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
	entry.TraceID = traceID(ctx, c.ctx)
	entry.Roles = []string{}
	var failures []error
	fill := func(name string, set func()) {
		if err := guard(name, set); err != nil {
			failures = append(failures, err)
		}
	}
	fill("User", func() { entry.User = cut(c.cfg.User(ctx), maxValue) })
	if c.cfg.Roles != nil {
		fill("Roles", func() { entry.Roles = cutRoles(c.cfg.Roles(ctx)) })
	}
	fill("OperationID", func() { entry.OperationID = cut(c.cfg.OperationID(ctx, c.fullMethod), maxValue) })
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

func traceID(contexts ...context.Context) string {
	for _, ctx := range contexts {
		if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
			return span.TraceID().String()
		}
	}
	return ""
}

func cutRoles(roles []string) []string {
	short := make([]string, 0, min(len(roles), maxRoles))
	for _, role := range roles[:cap(short)] {
		short = append(short, cut(role, maxRole))
	}
	return short
}

// cut returns at most limit bytes of the value, at the end of a character.
func cut(value string, limit int) string {
	const mark = "…"
	if len(value) <= limit {
		return value
	}
	end := limit - len(mark)
	for end > 0 && end > limit-len(mark)-utf8.UTFMax && !utf8.RuneStart(value[end]) {
		end--
	}
	return value[:end] + mark
}
