//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package auditstore

import (
	"errors"
	"io"
)

// lockFile fails: without a lock two processes would forward and remove each other's files.
func lockFile(string) (io.Closer, error) {
	return nil, errors.New("files cannot be locked on this system: use the policy Block or Drop")
}
