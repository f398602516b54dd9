package auditstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSpoolGoesOnBehindAnUnreadableSegment: a file that cannot be read is reported and kept, and does not hold up what comes behind.
func TestSpoolGoesOnBehindAnUnreadableSegment(t *testing.T) {
	dir := t.TempDir()
	// A directory can be opened and not read, by root neither.
	blocked := filepath.Join(dir, fmt.Sprintf("%020d.seg", 1))
	if err := os.MkdirAll(filepath.Join(blocked, "kept"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, reports := forwarded(t, dir, "b", "c")
	if got != "b c" || len(reports) != 1 {
		t.Fatalf("forwarded %q, %v", got, reports)
	}
	wantIs(t, reports[0], ErrSpoolCorrupt)
	aside := onlyName(t, dir, "*.unreadable")
	if _, err := os.Stat(filepath.Join(aside, "kept")); err != nil || !strings.Contains(reports[0].Error(), aside) {
		t.Errorf("it is not kept as %s, which %v", aside, reports[0])
	}
	if got, reports := forwarded(t, dir, "d"); got != "d" || len(reports) > 0 {
		t.Errorf("the next time it forwards %q, and reports %v", got, reports)
	}
}

// TestSpoolGoesOnBehindARemovedSegment: the files of entries that wait are removed by somebody else.
func TestSpoolGoesOnBehindARemovedSegment(t *testing.T) {
	dir := t.TempDir()
	store := &heldStore{}
	release := store.hold()
	var reports []error
	cfg := spoolConfig(dir)
	cfg.OnError = func(_ Entry, err error) { reports = append(reports, err) }
	b := newBuffered(t, store, cfg)
	b.room.(*spool).segmentMax = 1 // so that each entry has a segment
	const total = windowSize + 20
	for i := range total {
		take(t, b, fmt.Sprint("e", i))
	}
	segments := files(t, dir, "*.seg")
	if err := os.Remove(segments[len(segments)-5]); err != nil {
		t.Fatal(err)
	}
	release()
	mustClose(t, b)
	stats := b.Stats()
	if stats.Written != total-1 || stats.Corrupt != 1 || stats.Depth != 0 || len(reports) != 1 {
		t.Fatalf("Stats are %+v; reports %v", stats, reports)
	}
	wantIs(t, reports[0], ErrSpoolCorrupt, os.ErrNotExist)
	if !strings.Contains(reports[0].Error(), "1 of its entries") || strings.Contains(store.ids(), fmt.Sprintf("e%d ", total-5)) {
		t.Errorf("forwarded %s\nreported %v", store.ids(), reports[0])
	}
	if left := files(t, dir, "*.seg"); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// TestSpoolReadsASegmentThatCanBeReadAgain loses nothing where a file could not be read for a while.
func TestSpoolReadsASegmentThatCanBeReadAgain(t *testing.T) {
	dir := t.TempDir()
	spooled(t, dir, "a", "b")
	path, content := onlyFile(t, dir, "*.seg")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	// It has at least the size of the file, as a file that cannot be read has its own.
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	sp := &spool{dir: dir, counts: &counts{}}
	if err := sp.openUnreadable(path, 1); err != nil {
		t.Fatal(err)
	}
	if seg := sp.segments[0]; seg.last < 2 || sp.last != seg.last || !seg.uncounted {
		t.Errorf("the segment is %+v; the last number is %d", seg, sp.last)
	}
	seg := &segment{path: path, first: 1, size: int64(len(content)), uncounted: true}
	sp.out = make(chan record, 2)
	if !sp.yield(t.Context(), seg, 0, content) || len(sp.out) != 2 || sp.counts.depth.Load() != 2 {
		t.Errorf("%d records, of which %d are counted", len(sp.out), sp.counts.depth.Load())
	}
}

func onlyName(t *testing.T, dir, pattern string) string {
	t.Helper()
	paths := files(t, dir, pattern)
	if len(paths) != 1 {
		t.Fatalf("there are %d files %s: %v", len(paths), pattern, paths)
	}
	return paths[0]
}

// TestEntryLargerThanTheSpool never fits, which is not that the spool is full.
func TestEntryLargerThanTheSpool(t *testing.T) {
	cfg := spoolConfig(t.TempDir())
	cfg.MaxSpoolBytes = minSpoolBytes
	b := newBuffered(t, &heldStore{}, cfg)
	large := named("large")
	large.Path = strings.Repeat("x", minSpoolBytes)
	wantIs(t, b.Write(t.Context(), large), ErrTooLarge)
	take(t, b, "a")
	mustClose(t, b)
	if stats := b.Stats(); stats.Dropped != 0 || stats.Written != 1 {
		t.Errorf("Stats are %+v", stats)
	}
}
