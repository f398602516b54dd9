//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package auditstore

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// lockFile takes the lock, which ends with the process at the latest. It returns ErrSpoolLocked while another one has it.
func lockFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			err = ErrSpoolLocked
		}
		_ = f.Close()
		return nil, err
	}
}
