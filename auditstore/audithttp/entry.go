package audithttp

import (
	"context"
	"net/http"
	"runtime/debug"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// How many bytes of a value an entry takes. JSON needs up to six bytes for one, and a server by default takes messages of 1 MiB.
const (
	maxMethod = 64
	maxValue  = 4 << 10
	maxRole   = 256
	maxRoles  = 128
)

// record writes the entry, unless it is one that is not wanted. It reports every failure itself.
func (e *exchange) record(status int) error {
	if e.cfg.Rejections == SkipRejections && (status == http.StatusUnauthorized || status == http.StatusForbidden) {
		return nil
	}
	entry := e.complete(status)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.request.Context()), e.cfg.WriteTimeout)
	defer cancel()
	var err error
	if panicked := guard("Write", func() { err = e.store.Write(ctx, entry) }); panicked != nil {
		err = panicked
	}
	if err != nil {
		e.report(entry, err)
	}
	return err
}

func (e *exchange) complete(status int) auditstore.Entry {
	entry := e.entry
	// An id of its own lets OnError keep the entry and write it again.
	entry.ID = auditstore.NewID()
	entry.ResponseCode = status
	entry.DurationMs = time.Since(e.start).Milliseconds()

	r := e.seen()
	entry.TraceID = traceID(r.Context(), e.request.Context())
	entry.Roles = []string{}
	var failures []error
	fill := func(name string, set func()) {
		if err := guard(name, set); err != nil {
			failures = append(failures, err)
		}
	}
	fill("User", func() { entry.User = cut(e.cfg.User(r), maxValue) })
	if e.cfg.Roles != nil {
		fill("Roles", func() { entry.Roles = cutRoles(e.cfg.Roles(r)) })
	}
	if e.cfg.OperationID != nil {
		fill("OperationID", func() { entry.OperationID = cut(e.cfg.OperationID(r), maxValue) })
	}
	for _, err := range failures {
		e.report(entry, err)
	}
	return entry
}

// seen is the request that Config's functions get.
func (e *exchange) seen() *http.Request {
	if r := e.observed.Load(); r != nil {
		return r
	}
	return e.request
}

// report calls OnError. There is nobody left to tell of its own panic but the log.
func (e *exchange) report(entry auditstore.Entry, err error) {
	if panicked := guard("OnError", func() { e.cfg.OnError(e.request, entry, err) }); panicked != nil {
		logError(e.request, entry, err)
		logError(e.request, entry, panicked)
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
