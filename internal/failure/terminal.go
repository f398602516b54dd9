package failure

// Terminal is an error that stays until somebody changes the resource, or what it collides with. The controller
// reports it as Stalled and does not try again by itself, except at the slow resync.
type Terminal struct {
	// Reason is one of the condition reasons in api/v1alpha1.
	Reason string
	Err    error
}

// Error implements error.
func (t *Terminal) Error() string { return t.Err.Error() }

// Unwrap implements the interface that errors.Is and errors.As use.
func (t *Terminal) Unwrap() error { return t.Err }
