package controller

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// survive runs do, and logs a panic as an error. It is for what runs beside the reconciles, where a panic would end the operator.
func survive(logger logr.Logger, do func()) {
	defer func() {
		if p := recover(); p != nil {
			logger.Error(fmt.Errorf("panic: %v\n%s", p, debug.Stack()), "Recovered from a panic")
		}
	}()
	do()
}

// logConstructor makes the loggers of reconciles, with the keys that controller-runtime gives them, and without the line that
// it writes for each try of a reconcile that fails.
func logConstructor(logger logr.Logger) func(*reconcile.Request) logr.Logger {
	logger = logger.WithSink(quietSink{logger.GetSink()}).WithValues(
		"controller", controllerName, "controllerGroup", v1alpha1.GroupVersion.Group, "controllerKind", resourceKind)
	return func(req *reconcile.Request) logr.Logger {
		if req == nil {
			return logger
		}
		return logger.WithValues(resourceKind, req.NamespacedName, "namespace", req.Namespace, "name", req.Name)
	}
}

// faults log why a reconcile fails when that changes, and not at each try. The zero value is ready for use, and it is safe for
// concurrent use.
type faults struct {
	mu   sync.Mutex
	last map[types.NamespacedName]string
}

// toldError is an error that is in the log.
type toldError struct{ error }

// Unwrap returns the error.
func (e toldError) Unwrap() error { return e.error }

// tell logs the error of a reconcile where it is another one than that of the try before, and returns it as one that has been
// logged.
func (f *faults) tell(ctx context.Context, key types.NamespacedName, err error) error {
	switch {
	case err == nil:
		f.forget(key)
		return nil
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return toldError{err} // the operator ends
	case f.news(key, err.Error()):
		log.FromContext(ctx).Error(err, "Failed to reconcile", "reason", errorVerdict(err).reason)
	}
	return toldError{err}
}

func (f *faults) news(key types.NamespacedName, text string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last[key] == text {
		return false
	}
	if f.last == nil {
		f.last = map[types.NamespacedName]string{}
	}
	f.last[key] = text
	return true
}

func (f *faults) forget(key types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.last, key)
}

// quietSink drops the lines of errors that are in the log already.
type quietSink struct{ logr.LogSink }

// Error implements logr.LogSink.
func (s quietSink) Error(err error, message string, keysAndValues ...any) {
	if _, told := errors.AsType[toldError](err); !told {
		s.LogSink.Error(err, message, keysAndValues...)
	}
}

// WithValues implements logr.LogSink.
func (s quietSink) WithValues(keysAndValues ...any) logr.LogSink {
	return quietSink{s.LogSink.WithValues(keysAndValues...)}
}

// WithName implements logr.LogSink.
func (s quietSink) WithName(name string) logr.LogSink { return quietSink{s.LogSink.WithName(name)} }
