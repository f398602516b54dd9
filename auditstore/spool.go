package auditstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// spool is the room on disk: segments of records, to which one goroutine appends what all writers have brought since the last
// fsync, and which another reads in order. A segment is never appended to by a later process, and is removed once it is settled.
//
// It is not built on a library. tidwall/wal (1.2.1) has no checksums, fsyncs under the lock that writers wait for, one writer
// after the other, and leaves a log with a torn end to be repaired by hand; hashicorp/raft-wal (0.4.0, unchanged since 2023) calls
// itself experimental, is under the MPL, and brings raft, two bolts and etcd into the module graph. Neither shares an fsync
// between writers, or gets past damage in the middle.
type spool struct {
	dir    string
	counts *counts
	out    chan record
	lock   io.Closer
	sync   func(*os.File) error // a field so that a test can have a disk fail

	mark     *os.File  // the position
	marked   time.Time // when it was written
	letters  *os.File  // the dead letters, once there are any
	skip     uint64    // what was settled by an earlier process
	finished sync.WaitGroup

	mu          sync.Mutex
	work, grown *sync.Cond
	segments    []*segment // oldest first
	active      *os.File   // of the last segment, or nil when the next group begins one
	group       *group     // what comes with the next fsync
	max         int64
	segmentMax  int64
	size        int64  // of the segments and the group
	next        uint64 // the sequence of the next record
	last        uint64 // the highest sequence on disk
	settled     uint64
	closed      bool // no more records are taken
	ended       bool // all that were are on disk
}

// segment is one file. Its size is what is known to be on disk.
type segment struct {
	path        string
	first, last uint64 // last is 0 where nothing in it can be read
	size        int64
	sealed      bool   // nothing more is appended
	read        bool   // the reader has come to its end
	count       int    // of the entries that are still to be read, unless it is uncounted
	uncounted   bool   // it could not be looked through when the spool was opened
	aside       string // where it could not be read, the name to keep it under; nothing more is written to it
}

// group is what one fsync covers.
type group struct {
	data  []byte
	count int
	first uint64
	last  uint64
	done  chan struct{}
	err   error // once done
}

const (
	// The segments are at most these, and a sixteenth of a smaller spool.
	largestSegment  = 4 << 20
	smallestSegment = 64 << 10

	segmentSuffix = ".seg"
	// markEvery is how often the position is written while entries are forwarded. What lies behind it after a crash is sent
	// once more, and found to be stored.
	markEvery = 200 * time.Millisecond
	// diskPause is between two tries of something the disk has refused.
	diskPause = time.Second
)

func (sp *spool) put(ctx context.Context, rec record) error {
	need := recordSize(rec)
	if most := min(maxRecord, sp.max); int64(need) > most {
		return fmt.Errorf("%w: it has %d bytes, and the spool takes %d (at most MaxSpoolBytes)", ErrTooLarge, need, most)
	}
	g, err := sp.join(rec, int64(need))
	if err != nil {
		return err
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return fmt.Errorf("%w: the disk was busy, and the entry may be in the spool all the same: %w", ErrNotReady, ctx.Err())
	}
}

// join adds the record to the group that goes to disk next.
func (sp *spool) join(rec record, need int64) (*group, error) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	switch {
	case sp.closed:
		return nil, ErrClosed
	case sp.size+need > sp.max:
		sp.counts.dropped.Add(1)
		return nil, fmt.Errorf("%w: %d of %d bytes are used in %s: see why entries are not forwarded (Stats().LastError), "+
			"or raise MaxSpoolBytes", ErrSpoolFull, sp.size, sp.max, sp.dir)
	}
	rec.sequence = sp.next
	sp.next++
	sp.size += need
	if sp.group == nil {
		sp.group = &group{first: rec.sequence, done: make(chan struct{})}
	}
	g := sp.group
	g.data = appendRecord(g.data, rec)
	g.count++
	g.last = rec.sequence
	sp.work.Signal()
	return g, nil
}

// flush writes one group after the other. While one is on its way to the disk, the next one grows.
func (sp *spool) flush() {
	defer sp.finished.Done()
	for {
		sp.mu.Lock()
		for sp.group == nil && !sp.closed {
			sp.work.Wait()
		}
		g := sp.group
		sp.group = nil
		if g == nil {
			sp.ended = true
			sp.seal()
			sp.grown.Broadcast()
			sp.mu.Unlock()
			return
		}
		sp.mu.Unlock()
		if g.err = sp.write(g); g.err != nil {
			sp.abandon(g)
		}
		close(g.done)
	}
}

// write returns once the group is on disk, and the reader may have it.
func (sp *spool) write(g *group) error {
	seg, err := sp.segmentFor(g)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSpoolFailed, err)
	}
	if _, err := sp.active.WriteAt(g.data, seg.size); err != nil {
		return fmt.Errorf("%w: %w", ErrSpoolFailed, err)
	}
	if err := sp.sync(sp.active); err != nil {
		return fmt.Errorf("%w: %w", ErrSpoolFailed, err)
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	seg.size += int64(len(g.data))
	seg.last, sp.last = g.last, g.last
	seg.count += g.count
	sp.counts.accept(g.count)
	sp.grown.Broadcast()
	return nil
}

// segmentFor returns the segment that the group goes to, and begins one where the last is full, or was abandoned.
func (sp *spool) segmentFor(g *group) (*segment, error) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.active != nil {
		seg := sp.segments[len(sp.segments)-1]
		if seg.aside == "" && (seg.size+int64(len(g.data)) <= sp.segmentMax || seg.size == 0) {
			return seg, nil
		}
		sp.seal()
	}
	path := filepath.Join(sp.dir, fmt.Sprintf("%020d%s", g.first, segmentSuffix))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syncDir(sp.dir); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	seg := &segment{path: path, first: g.first}
	sp.active, sp.segments = f, append(sp.segments, seg)
	sp.grown.Broadcast() // the reader may go on from the last one
	return seg, nil
}

// seal ends the last segment. The lock is held.
func (sp *spool) seal() {
	if sp.active != nil {
		_ = sp.active.Close() // everything in it was synced
		sp.active = nil
		sp.segments[len(sp.segments)-1].sealed = true
	}
}

// abandon gives up the segment that a group could not be written to: after an fsync has failed, what the file holds beyond the
// last good one is anybody's guess. The group's writers are told, and none of its records is forwarded.
func (sp *spool) abandon(g *group) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.size -= int64(len(g.data))
	if sp.active == nil {
		return
	}
	// Where this fails too, the next process finds the records, and forwards what nobody was told is safe: no harm.
	seg := sp.segments[len(sp.segments)-1]
	_ = sp.active.Truncate(seg.size)
	sp.seal()
	if seg.size == 0 { // a disk that keeps failing must not fill up with them
		_ = os.Remove(seg.path)
		sp.segments = sp.segments[:len(sp.segments)-1]
	}
	sp.grown.Broadcast()
}

func (sp *spool) records() <-chan record { return sp.out }

func (sp *spool) shut() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.closed = true
	sp.work.Signal()
}

func (sp *spool) bytes() int64 {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.size
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
