package main

import (
	"bytes"
	stdlog "log"

	"github.com/go-logr/logr"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// logOptions are kubebuilder's, except that an error has no stack trace unless --zap-stacktrace-level asks for it: the operator's
// errors say what to do, and where in the code they were met is no help to who reads them.
func logOptions() zap.Options { return zap.Options{StacktraceLevel: zapcore.PanicLevel} }

// setLogger has everything that is logged in this process go the same way, so that each line of it can be read by the same
// program: client-go logs by klog, and net/http by Go's standard logger.
func setLogger(opts *zap.Options) {
	logger := calm(zap.New(zap.UseFlagOptions(opts)))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger.WithName("client-go"))
	stdlog.SetFlags(0)
	stdlog.SetOutput(lineWriter{logger.WithName("go")})
}

// lineWriter logs what is written to it.
type lineWriter struct{ logr.Logger }

// Write implements io.Writer. The standard logger writes one line at a time.
func (w lineWriter) Write(line []byte) (int, error) {
	w.Info("A library wrote a line", "text", string(bytes.TrimSpace(line)))
	return len(line), nil
}
