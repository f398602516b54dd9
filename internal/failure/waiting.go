package failure

import "time"

// Waiting is an error that passes without a change of the resource, but not soon: a bucket that does not exist yet, an
// account without room. The controller reports it as Reconciling and looks again after After.
type Waiting struct {
	// Reason is one of the condition reasons in api/v1alpha1.
	Reason string
	// After is when to look again, at the latest; an event may come first.
	After time.Duration
	Err   error
}

// Error implements error.
func (w *Waiting) Error() string { return w.Err.Error() }

// Unwrap implements the interface that errors.Is and errors.As use.
func (w *Waiting) Unwrap() error { return w.Err }
