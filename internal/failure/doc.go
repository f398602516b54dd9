// Package failure holds the two kinds of error that decide what the controller does next. It never decides which
// fault is of which kind: the package that meets the fault does (internal/jsclient for what NATS answers).
//
// An error that is neither Terminal nor Waiting is transient: the controller tries again with a growing delay.
package failure
