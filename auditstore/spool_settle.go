package auditstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// settle notes that the records up to this one are stored, or kept as dead letters.
func (sp *spool) settle(rec record) {
	sp.mu.Lock()
	sp.settled = rec.sequence
	idle := sp.settled == sp.last
	sp.sweep()
	sp.mu.Unlock()
	// When there is nothing more to do, the position must not wait: the process may be killed days later, when retention has
	// removed what would then be sent once more.
	if now := time.Now(); idle || now.Sub(sp.marked) >= markEvery {
		sp.marked = now
		_, _ = sp.mark.WriteAt(markContent(rec.sequence), 0) // where it fails, more is sent once more after a crash
	}
}

// sweep removes the segments that are settled. The lock is held.
func (sp *spool) sweep() {
	for len(sp.segments) > 0 {
		seg := sp.segments[0]
		if !seg.sealed || !seg.read || seg.last > sp.settled && seg.aside == "" {
			return
		}
		if seg.aside != "" {
			_ = os.Rename(seg.path, seg.aside) // it may be gone
		} else {
			// A file that stays is found again by the next process, and passed over.
			_ = os.Remove(seg.path)
		}
		sp.size -= seg.size
		sp.segments = sp.segments[1:]
	}
}

// deadLetter is a line of dead-letter.jsonl.
type deadLetter struct {
	RefusedAt time.Time       `json:"refused_at"`
	Error     string          `json:"error"`
	Entry     json.RawMessage `json:"entry"`
}

// refuse adds the record to the dead letters and returns once it is on disk there. After a crash a record may be there twice.
func (sp *spool) refuse(rec record, cause error) error {
	line, err := json.Marshal(deadLetter{RefusedAt: time.Now().UTC(), Error: cause.Error(), Entry: rec.data})
	if err == nil {
		err = sp.appendLetter(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("%w: keeping an entry that was refused (%w): %w", ErrSpoolFailed, cause, err)
	}
	return nil
}

func (sp *spool) appendLetter(line []byte) (err error) {
	if sp.letters == nil {
		if sp.letters, err = openLetters(filepath.Join(sp.dir, "dead-letter.jsonl")); err != nil {
			return err
		}
	}
	if _, err = sp.letters.Write(line); err == nil {
		err = sp.letters.Sync()
	}
	if err != nil {
		// The next try opens it again, and ends the line that may have been begun.
		err = errors.Join(err, sp.letters.Close())
		sp.letters = nil
	}
	return err
}

// openLetters opens the file for appending, behind a line that a crash has cut short.
func openLetters(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	last := []byte{'\n'}
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		_, err = f.ReadAt(last, info.Size()-1)
	}
	if err == nil && last[0] != '\n' {
		_, err = f.WriteString("\n")
	}
	if err = errors.Join(err, syncDir(filepath.Dir(path))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// release waits for what writes and reads, and gives up the lock. A spool that is settled leaves no segment behind.
func (sp *spool) release() error {
	sp.finished.Wait()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.sweep()
	var err error
	if sp.settled > sp.skip {
		_, err = sp.mark.WriteAt(markContent(sp.settled), 0)
		err = errors.Join(err, sp.mark.Sync())
	}
	err = errors.Join(err, sp.mark.Close())
	if sp.letters != nil {
		err = errors.Join(err, sp.letters.Close())
	}
	if err = errors.Join(err, sp.lock.Close()); err != nil {
		return fmt.Errorf("%w: closing it: %w", ErrSpoolFailed, err)
	}
	return nil
}
