package audithttp

import (
	"context"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/internal/attribute"
)

// maxMethod is how many bytes of a method an entry takes.
const maxMethod = 64

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
	entry.TraceID = attribute.TraceID(r.Context(), e.request.Context())
	entry.Roles = []string{}
	var failures []error
	fill := func(name string, set func()) {
		if err := guard(name, set); err != nil {
			failures = append(failures, err)
		}
	}
	fill("User", func() { entry.User = attribute.Cut(e.cfg.User(r), attribute.MaxValue) })
	if e.cfg.Roles != nil {
		fill("Roles", func() { entry.Roles = attribute.Roles(e.cfg.Roles(r)) })
	}
	if e.cfg.OperationID != nil {
		fill("OperationID", func() { entry.OperationID = attribute.Cut(e.cfg.OperationID(r), attribute.MaxValue) })
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
