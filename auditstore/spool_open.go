package auditstore

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// openSpool locks the directory, looks through what is in it, and starts to write and to read. Reading ends with the context.
func openSpool(ctx context.Context, dir string, limit int64, c *counts) (*spool, error) {
	sp := &spool{
		dir: dir, counts: c, out: make(chan record, windowSize), sync: (*os.File).Sync,
		max: limit, segmentMax: min(max(limit/16, smallestSegment), largestSegment),
	}
	sp.work, sp.grown = sync.NewCond(&sp.mu), sync.NewCond(&sp.mu)
	if err := sp.open(); err != nil {
		if sp.mark != nil {
			_ = sp.mark.Close()
		}
		if sp.lock != nil {
			_ = sp.lock.Close()
		}
		if errors.Is(err, ErrSpoolLocked) {
			return nil, fmt.Errorf("%w: Dir is %q: give every Buffered a directory of its own, and close one before the next is opened",
				err, dir)
		}
		return nil, fmt.Errorf("%w: Dir is %q: %w", ErrSpoolFailed, dir, err)
	}
	sp.finished.Add(2)
	go sp.flush()
	go sp.read(ctx)
	return sp, nil
}

func (sp *spool) open() (err error) {
	if err := makeDir(sp.dir); err != nil {
		return err
	}
	if sp.lock, err = lockFile(filepath.Join(sp.dir, "lock")); err != nil {
		return err
	}
	if err := sp.openMark(); err != nil {
		return err
	}
	// The names are numbers of one width, so that their order is that of the records.
	paths, err := filepath.Glob(filepath.Join(globEscape(sp.dir), "*"+segmentSuffix))
	if err != nil {
		return err
	}
	slices.Sort(paths)
	for i, path := range paths {
		if err := sp.openSegment(path, i == len(paths)-1); err != nil {
			return err
		}
	}
	sp.last = max(sp.last, sp.settled)
	sp.next = max(sp.next, sp.last) + 1
	return nil
}

// makeDir makes the directory, and those above it, so that a crash does not take them away with what is synced in them.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func globEscape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(dir)
}

// openSegment counts what is to be forwarded. What is damaged is left to the reader, but for the torn end of the last segment,
// which a crash has left: no writer was told that it is safe, and it is cut off.
func (sp *spool) openSegment(path string, newest bool) error {
	first, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), segmentSuffix), 10, 64)
	if err != nil {
		return fmt.Errorf("%s is not the name of a segment: move the file elsewhere", path)
	}
	sp.next = first // it takes this number also where nothing in it can be read
	data, err := os.ReadFile(path)
	if err != nil {
		return sp.openUnreadable(path, first)
	}
	seg := &segment{path: path, first: first, sealed: true, size: int64(len(data))}
	for at := 0; at < len(data); {
		rec, n, err := parseRecord(data[at:])
		if errors.Is(err, errCutShort) && newest {
			seg.size = int64(at)
			if err := cutFile(path, seg.size); err != nil {
				return err
			}
		}
		if err == nil {
			sp.found(seg, rec)
		}
		at += n
	}
	sp.last = max(sp.last, seg.last)
	sp.size += seg.size
	sp.segments = append(sp.segments, seg)
	return nil
}

// openUnreadable leaves the segment to the reader, who tries again. Its entries have at most these numbers.
func (sp *spool) openUnreadable(path string, first uint64) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	seg := &segment{path: path, first: first, sealed: true, uncounted: true, size: info.Size()}
	seg.last = first + uint64(seg.size)/(recordHeader+recordFixed)
	sp.last = max(sp.last, seg.last)
	sp.size += seg.size
	sp.segments = append(sp.segments, seg)
	return nil
}

func (sp *spool) found(seg *segment, rec record) {
	seg.last = max(seg.last, rec.sequence)
	if rec.sequence <= sp.skip {
		return
	}
	seg.count++
	if sp.counts.depth.Add(1) == 1 {
		sp.counts.oldest.Store(rec.accepted)
	}
}

func cutFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

// openMark reads the position: up to where everything was settled. Where a crash has spoiled it, everything on disk is forwarded
// once more, and found to be stored.
func (sp *spool) openMark() (err error) {
	if sp.mark, err = os.OpenFile(filepath.Join(sp.dir, "position"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	content, err := io.ReadAll(sp.mark)
	if err != nil {
		return err
	}
	number, _, _ := strings.Cut(string(content), " ")
	position, err := strconv.ParseUint(number, 10, 64)
	if err == nil && string(content) == string(markContent(position)) {
		sp.skip, sp.settled = position, position
	}
	return nil
}

func markContent(position uint64) []byte {
	number := fmt.Appendf(nil, "%020d", position)
	return fmt.Appendf(number, " %08x\n", crc32.Checksum(number, castagnoli))
}
