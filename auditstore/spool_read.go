package auditstore

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// read yields the records in order, from the oldest that was not settled, as they come to be on disk.
func (sp *spool) read(ctx context.Context) {
	defer sp.finished.Done()
	defer close(sp.out)
	defer context.AfterFunc(ctx, func() {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		sp.grown.Broadcast()
	})()
	var seg *segment
	var at int64
	tries := 0
	for {
		next, end := sp.await(ctx, seg, at)
		if next == nil {
			return
		}
		if next != seg {
			seg, at = next, 0
		}
		data, err := readRange(seg.path, at, end)
		if err == nil {
			tries = 0
			if !sp.yield(ctx, seg, at, data) {
				return
			}
			at = end
			continue
		}
		sp.counts.fail(fmt.Errorf("%w: reading the spool: %w", ErrSpoolFailed, err))
		if !pause(ctx, diskPause) {
			return
		}
		if tries++; tries < readTries || passing(err) {
			continue
		}
		if !sp.send(ctx, record{corrupt: sp.giveUp(seg, at, end, err)}) {
			return
		}
		at, tries = end, 0
	}
}

// readTries is how often a segment is tried to be read before it is set aside.
const readTries = 5

// passing says whether an error is the process's or the system's, and not the file's.
func passing(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// giveUp goes on without a part of a segment that cannot be read, and returns the report of it. The file is kept: it is set aside
// under another name once nothing more is written to it.
func (sp *spool) giveUp(seg *segment, from, to int64, cause error) error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if seg.aside == "" {
		seg.aside = fmt.Sprintf("%s.%d.unreadable", seg.path, time.Now().UnixNano())
	}
	lost := "those of its entries that were not forwarded before"
	if !seg.uncounted {
		lost = fmt.Sprintf("%d of its entries", seg.count)
	}
	sp.counts.depth.Add(-int64(seg.count))
	seg.count = 0
	return fmt.Errorf("%w: %w: the bytes %d to %d of %s cannot be read, and %s are not forwarded; where it is still there, it is kept as %s: "+
		"to forward them, give it its old name in an empty directory, and open a Buffered on that", ErrSpoolCorrupt, cause, from, to,
		seg.path, lost, seg.aside)
}

// send returns false when the context ends.
func (sp *spool) send(ctx context.Context, rec record) bool {
	select {
	case sp.out <- rec:
		return true
	case <-ctx.Done():
		return false
	}
}

// await waits until there is something to read behind at, and returns the segment it is in, and its end. It returns nil when there
// is nothing more to come.
func (sp *spool) await(ctx context.Context, seg *segment, at int64) (*segment, int64) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for ctx.Err() == nil {
		if seg != nil && at < seg.size {
			return seg, seg.size
		}
		if seg != nil && seg.sealed && !seg.read {
			seg.read = true
			sp.sweep()
		}
		if seg == nil || seg.sealed {
			if next := sp.after(seg); next != nil {
				seg, at = next, 0
				continue
			}
			if sp.ended {
				return nil, 0
			}
		}
		sp.grown.Wait()
	}
	return nil, 0
}

// after returns the segment that follows. The lock is held.
func (sp *spool) after(seg *segment) *segment {
	for _, next := range sp.segments {
		if seg == nil || next.first > seg.first {
			return next
		}
	}
	return nil
}

func readRange(path string, from, to int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data := make([]byte, to-from)
	_, err = f.ReadAt(data, from)
	return data, errors.Join(err, f.Close())
}

// yield sends the records of data, which is at the given place of the segment. It returns false when the context ends.
func (sp *spool) yield(ctx context.Context, seg *segment, at int64, data []byte) bool {
	passed := 0
	for len(data) > 0 {
		rec, n, err := parseRecord(data)
		if err != nil {
			if rec.corrupt = sp.setAside(ctx, seg, at, data[:n], err); rec.corrupt == nil {
				return false
			}
		}
		if rec.corrupt != nil || rec.sequence > sp.skip {
			if rec.corrupt == nil {
				passed++
			}
			if rec.corrupt == nil && seg.uncounted {
				sp.counts.depth.Add(1)
			}
			if !sp.send(ctx, rec) {
				return false
			}
		}
		data, at = data[n:], at+int64(n)
	}
	if !seg.uncounted {
		sp.mu.Lock()
		seg.count -= passed
		sp.mu.Unlock()
	}
	return true
}

// setAside keeps what is no record in a file of its own, because the segment will go. It returns the report of it, or nil when the
// context ends. The name says what it was and where, so that what is found again after a crash is kept once.
func (sp *spool) setAside(ctx context.Context, seg *segment, at int64, data []byte, cause error) error {
	path := filepath.Join(sp.dir, fmt.Sprintf("corrupt-%020d-%d-%08x.bin", seg.first, at, crc32.Checksum(data, castagnoli)))
	for {
		err := writeSynced(path, data)
		if err == nil {
			return fmt.Errorf("%w: %w: %d bytes at %d of %s; they are kept in %s", ErrSpoolCorrupt, cause, len(data), at, seg.path, path)
		}
		sp.counts.fail(fmt.Errorf("%w: keeping what is corrupt: %w", ErrSpoolFailed, err))
		if !pause(ctx, diskPause) {
			return nil
		}
	}
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close(), syncDir(filepath.Dir(path)))
}
