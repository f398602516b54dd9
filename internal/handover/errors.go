package handover

import (
	"errors"
	"fmt"
)

var (
	// ErrNotClean is returned when the bucket holds what is not, or not like that, in the stream: values that are not
	// entries, or entries that differ. The bucket has its subjects. It passes when somebody mends the bucket.
	ErrNotClean = errors.New("the bucket holds what the stream does not")

	// ErrWrittenSince is returned by Delete when the bucket was written to after its copy was verified. The bucket has its
	// subjects: copy on, verify and try again.
	ErrWrittenSince = errors.New("the bucket was written to since its copy was verified")

	// ErrStillFenced is returned when a hand-over failed and the bucket's subjects could not be given back: writers fail
	// until the next pass, which should come soon.
	ErrStillFenced = errors.New("nobody takes what is put into the bucket")

	// ErrOpen is returned by Return while the stream has the bucket's subjects: close it first.
	ErrOpen = errors.New("the stream has the bucket's subjects")

	// errTooSlow ends a hand-over that keeps the writers waiting for too long.
	errTooSlow = errors.New("the hand-over took too long")
)

// RefusedError says why a bucket cannot be handed over or deleted. Nothing was changed. It passes when somebody changes
// the bucket.
type RefusedError struct {
	Bucket string
	Reason string
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("bucket %s cannot be handed over: %s", e.Bucket, e.Reason)
}
