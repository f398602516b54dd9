package main

import "github.com/go-logr/logr"

const (
	// What controller-runtime says, as an error, of every leader that was told to end: the election has no other way to report
	// that it is over.
	lateMessage  = "error received after stop sequence was engaged"
	electionOver = "leader election lost"
	// What it says each time that somebody probes an operator that is not ready.
	probeMessage = "healthz check failed"
)

// calmSink logs the first as what it is, so that no rollout of the operator looks like a failure, and leaves out the second. A
// lease that is lost while the operator works ends it with an error of its own.
type calmSink struct{ logr.LogSink }

func calm(logger logr.Logger) logr.Logger { return logger.WithSink(calmSink{logger.GetSink()}) }

// Info implements logr.LogSink. A probe that finds what the one before it found is no news: what made it so has a line already.
func (s calmSink) Info(level int, message string, keysAndValues ...any) {
	if message != probeMessage {
		s.LogSink.Info(level, message, keysAndValues...)
	}
}

// Error implements logr.LogSink.
func (s calmSink) Error(err error, message string, keysAndValues ...any) {
	if message == lateMessage && err != nil && err.Error() == electionOver {
		s.LogSink.Info(0, "Ended the leader election")
		return
	}
	s.LogSink.Error(err, message, keysAndValues...)
}

// WithValues implements logr.LogSink.
func (s calmSink) WithValues(keysAndValues ...any) logr.LogSink {
	return calmSink{s.LogSink.WithValues(keysAndValues...)}
}

// WithName implements logr.LogSink.
func (s calmSink) WithName(name string) logr.LogSink { return calmSink{s.LogSink.WithName(name)} }
