package auditstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func spoolConfig(dir string) BufferedConfig { return BufferedConfig{Policy: Spool, Dir: dir} }

// spooled leaves a spool with the entries behind that nothing has forwarded.
func spooled(t *testing.T, dir string, ids ...string) {
	t.Helper()
	store := &heldStore{}
	defer store.hold()()
	b := newBuffered(t, store, spoolConfig(dir))
	take(t, b, ids...)
	abort(t, b)
}

// abort stops at once, which leaves the rest on disk.
func abort(t *testing.T, b *Buffered) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Close(ctx); b.Stats().Depth > 0 {
		wantIs(t, err, ErrNotForwarded)
	}
}

// forwarded opens the spool, forwards all that is in it, and returns the ids with what OnError was told.
func forwarded(t *testing.T, dir string, more ...string) (ids string, reports []error) {
	t.Helper()
	store := &heldStore{}
	cfg := spoolConfig(dir)
	cfg.OnError = func(e Entry, err error) { reports = append(reports, err) }
	b := newBuffered(t, store, cfg)
	take(t, b, more...)
	mustClose(t, b)
	return store.ids(), reports
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func onlyFile(t *testing.T, dir, pattern string) (string, []byte) {
	t.Helper()
	paths := files(t, dir, pattern)
	if len(paths) != 1 {
		t.Fatalf("there are %d files %s: %v", len(paths), pattern, paths)
	}
	data, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	return paths[0], data
}

func overwrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// offsets returns where the records of a segment begin, and its length.
func offsets(t *testing.T, data []byte) []int {
	t.Helper()
	starts := []int{0}
	for at := 0; at < len(data); {
		_, n, err := parseRecord(data[at:])
		if err != nil {
			t.Fatal(err)
		}
		at += n
		starts = append(starts, at)
	}
	return starts
}

func TestSpoolOutlivesItsProcess(t *testing.T) {
	dir := t.TempDir()
	spooled(t, dir, "a", "b")
	spooled(t, dir, "c")
	b := newBuffered(t, &heldStore{fail: func(Entry) error { return ErrNotReady }}, spoolConfig(dir))
	if stats := b.Stats(); stats.Depth != 3 || stats.OldestAge <= 0 || stats.SpoolBytes == 0 || stats.Accepted != 0 {
		t.Errorf("Stats are %+v", stats)
	}
	abort(t, b)
	if got, reports := forwarded(t, dir, "d"); got != "a b c d" || len(reports) > 0 {
		t.Errorf("forwarded %q, %v", got, reports)
	}
	if got, _ := forwarded(t, dir); got != "" || len(files(t, dir, "*.seg")) > 0 {
		t.Errorf("forwarded %q once more, and left %v", got, files(t, dir, "*.seg"))
	}
	// The position lives on without segments.
	if got, _ := forwarded(t, dir, "e"); got != "e" {
		t.Errorf("forwarded %q", got)
	}
}

func TestSpoolTornTailIsCutOff(t *testing.T) {
	dir := t.TempDir()
	spooled(t, dir, "a", "b")
	spooled(t, dir, "c", "last")
	path, whole := files(t, dir, "*.seg")[1], []byte(nil)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	earlier, err := os.ReadFile(files(t, dir, "*.seg")[0])
	if err != nil {
		t.Fatal(err)
	}
	last := offsets(t, whole)[1]
	for _, zeros := range []bool{false, true} {
		for size := last; size < len(whole); size++ {
			dir := t.TempDir()
			overwrite(t, filepath.Join(dir, "00000000000000000001.seg"), earlier)
			torn := filepath.Join(dir, filepath.Base(path))
			cut := whole[:size:size]
			if zeros { // the size has reached the disk, and the rest of the data not
				if size < last+recordHeader && size > last {
					continue // half a sector of a header: that is damage, and reported
				}
				cut = append(cut, make([]byte, len(whole)-size)...)
			}
			overwrite(t, torn, cut)
			got, reports := forwarded(t, dir, "new")
			wantTorn := !zeros || size == last
			if got != "a b c new" || wantTorn != (len(reports) == 0) || len(files(t, dir, "corrupt-*")) != len(reports) {
				t.Fatalf("cut at %d of %d (zeros: %v): forwarded %q, %v", size, len(whole), zeros, got, reports)
			}
		}
	}
}

func TestSpoolCorruptMiddleIsReportedAndKept(t *testing.T) {
	dir := t.TempDir()
	spooled(t, dir, "a", "b", "c")
	path, whole := onlyFile(t, dir, "*.seg")
	at := offsets(t, whole)
	flip := func(place int) []byte {
		data := slices.Clone(whole)
		data[place] ^= 0x40
		return data
	}
	tests := map[string]struct {
		data []byte
		want string
		kept []byte
	}{
		"magic":        {flip(at[1]), "a c", flip(at[1])[at[1]:at[2]]},
		"size":         {flip(at[1] + 7), "a c", flip(at[1] + 7)[at[1]:at[2]]},
		"checksum":     {flip(at[1] + 9), "a c", flip(at[1] + 9)[at[1]:at[2]]},
		"sequence":     {flip(at[1] + recordHeader), "a c", flip(at[1] + recordHeader)[at[1]:at[2]]},
		"body":         {flip(at[2] - 5), "a c", flip(at[2] - 5)[at[1]:at[2]]},
		"first":        {flip(40), "b c", flip(40)[:at[1]]},
		"last":         {flip(at[3] - 1), "a b", flip(at[3] - 1)[at[2]:]},
		"last, header": {flip(at[2] + 5), "a b", flip(at[2] + 5)[at[2]:]},
		"bytes gone":   {slices.Concat(whole[:at[1]+30], whole[at[1]+60:]), "a", slices.Concat(whole[at[1]:at[1]+30], whole[at[1]+60:])[:at[2]-at[1]]},
		"bytes added":  {slices.Concat(whole[:at[1]], []byte("garbage"), whole[at[1]:]), "a b c", []byte("garbage")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			overwrite(t, filepath.Join(dir, filepath.Base(path)), test.data)
			for _, damaged := range []bool{true, false} {
				// Also where nothing new follows that would settle the segment.
				more := strings.Fields("new")
				if strings.HasPrefix(name, "last") {
					more = nil
				}
				store, reports := &heldStore{}, []error(nil)
				cfg := spoolConfig(dir)
				cfg.OnError = func(e Entry, err error) { reports = append(reports, err) }
				b := newBuffered(t, store, cfg)
				take(t, b, more...)
				mustClose(t, b)
				if !damaged {
					if got := store.ids(); got != strings.Join(more, " ") || len(reports) > 0 {
						t.Errorf("the next time it forwards %q, and reports %v", got, reports)
					}
					return
				}
				got := store.ids()
				if name == "bytes gone" { // the record behind may be damaged as well
					got = strings.Replace(got, "a c", "a", 1)
				}
				test.want = strings.Join(append([]string{test.want}, more...), " ")
				if got != test.want || len(reports) == 0 || b.Stats().Corrupt != int64(len(reports)) {
					t.Errorf("forwarded %q, want %q; reports %v; stats %+v", got, test.want, reports, b.Stats())
				}
				wantIs(t, errors.Join(reports...), ErrSpoolCorrupt)
				kept, data := files(t, dir, "corrupt-*")[0], []byte(nil)
				if data, _ = os.ReadFile(kept); !bytes.Equal(data, test.kept) || !strings.Contains(reports[0].Error(), kept) {
					t.Errorf("%s holds %d bytes, want %d; the report is %v", kept, len(data), len(test.kept), reports[0])
				}
			}
		})
	}
}

// TestSpoolTakesNoRecordFromAnEntry: who can write an entry must not be able to have another one forwarded in its place, however
// the spool is damaged.
func TestSpoolTakesNoRecordFromAnEntry(t *testing.T) {
	forged := named("forged")
	data, err := json.Marshal(forged)
	if err != nil {
		t.Fatal(err)
	}
	inner := appendRecord(nil, record{id: "forged", data: data, sequence: 5})
	outer := []byte(`{"id":"outer","path":"` + string(bytes.ReplaceAll(inner, []byte(`"`), []byte(`\"`))) + `"}`)
	// Even with checksums that fit what is in the entry.
	escaped := appendRecord(nil, record{id: "forged", data: bytes.ReplaceAll(data, []byte(`"`), []byte(`\"`)), sequence: 5})
	outer = append(outer, escaped...)
	segment := appendRecord(nil, record{id: "outer", data: outer, sequence: 1})
	segment[0] ^= 1
	dir := t.TempDir()
	overwrite(t, filepath.Join(dir, "00000000000000000001.seg"), segment)
	b := newBuffered(t, &heldStore{}, spoolConfig(dir))
	mustClose(t, b)
	if stats := b.Stats(); stats.Written != 0 || stats.Corrupt == 0 {
		t.Errorf("Stats are %+v", stats)
	}
}

// TestSpoolWithNothingReadable: a segment of which nothing can be read is reported once, goes, and is in nobody's way until then.
func TestSpoolWithNothingReadable(t *testing.T) {
	dir := t.TempDir()
	spooled(t, dir, "a")
	path, segment := onlyFile(t, dir, "*.seg")
	segment[recordHeader+3] ^= 1
	overwrite(t, path, segment)
	blocked := filepath.Join(dir, fmt.Sprintf("corrupt-%020d-0-%08x.bin", 1, crc32.Checksum(segment, castagnoli)))
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	b := newBuffered(t, &heldStore{}, spoolConfig(dir))
	eventually(t, "the reason", func() error {
		if err := b.Stats().LastError; !errors.Is(err, ErrSpoolFailed) {
			return fmt.Errorf("it is %w", err)
		}
		return nil
	})
	take(t, b, "b")
	abort(t, b)
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	if got, reports := forwarded(t, dir); got != "b" || len(reports) != 1 {
		t.Errorf("forwarded %q, %v", got, reports)
	}

	alone := t.TempDir()
	overwrite(t, filepath.Join(alone, filepath.Base(path)), segment)
	for _, want := range []int{1, 0} {
		if got, reports := forwarded(t, alone); got != "" || len(reports) != want || len(files(t, alone, "*.seg")) > 0 {
			t.Errorf("forwarded %q, %v, and left %v", got, reports, files(t, alone, "*.seg"))
		}
	}
}

func TestSpoolFull(t *testing.T) {
	store := &heldStore{}
	release := store.hold()
	defer release()
	cfg := spoolConfig(t.TempDir())
	cfg.MaxSpoolBytes = minSpoolBytes
	b := newBuffered(t, store, cfg)
	large := named("")
	large.Path = strings.Repeat("x", 50000)
	var err error
	taken := int64(0)
	for ; err == nil && taken < 100; taken++ {
		err = b.Write(t.Context(), large)
	}
	taken--
	wantIs(t, err, ErrSpoolFull)
	if stats := b.Stats(); taken < 15 || stats.Accepted != taken || stats.Dropped != 1 || stats.SpoolBytes > minSpoolBytes {
		t.Errorf("after %d entries the stats are %+v", taken, stats)
	}
	onDisk := int64(0)
	for _, path := range files(t, cfg.Dir, "*.seg") {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		onDisk += info.Size()
	}
	if stats := b.Stats(); onDisk != stats.SpoolBytes {
		t.Errorf("%d bytes are on disk, the stats are %+v", onDisk, stats)
	}
	release()
	eventually(t, "the segments to go", func() error {
		if n := len(files(t, cfg.Dir, "*.seg")); n > 1 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
	if err := b.Write(t.Context(), large); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	mustClose(t, b)
	wantStats(t, b, BufferedStats{Accepted: taken + 1, Written: taken + 1, Dropped: 1})
	if left := files(t, cfg.Dir, "*.seg"); len(left) > 0 || b.Stats().SpoolBytes != 0 {
		t.Errorf("%v are left, and %d bytes", left, b.Stats().SpoolBytes)
	}
}

func TestSpoolBelongsToOne(t *testing.T) {
	dir := t.TempDir()
	first := newBuffered(t, &heldStore{}, spoolConfig(dir))
	_, err := NewBuffered(&heldStore{}, spoolConfig(dir))
	wantIs(t, err, ErrSpoolLocked)
	if !strings.Contains(err.Error(), dir) {
		t.Errorf("the error does not name the directory: %v", err)
	}
	other := newBuffered(t, &heldStore{}, spoolConfig(t.TempDir()))
	mustClose(t, other)
	mustClose(t, first)
	mustClose(t, newBuffered(t, &heldStore{}, spoolConfig(dir)))
}

func TestSpoolDirectoryThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	overwrite(t, file, nil)
	foreign := t.TempDir()
	overwrite(t, filepath.Join(foreign, "mine.seg"), nil)
	for _, dir := range []string{file, filepath.Join(file, "below"), foreign} {
		_, err := NewBuffered(&heldStore{}, spoolConfig(dir))
		wantIs(t, err, ErrSpoolFailed)
		if !strings.Contains(fmt.Sprint(err), dir) {
			t.Errorf("the error does not name the directory: %v", err)
		}
	}
	wide := filepath.Join(t.TempDir(), "a[b]*c?")
	spooled(t, wide, "a")
	if got, _ := forwarded(t, wide); got != "a" {
		t.Errorf("forwarded %q from %s", got, wide)
	}
}

func TestSpoolReturnsOnceItIsSynced(t *testing.T) {
	b := newBuffered(t, &heldStore{}, spoolConfig(t.TempDir()))
	sp := b.room.(*spool)
	syncs, proceed := make(chan struct{}), make(chan struct{})
	sp.sync = func(f *os.File) error {
		syncs <- struct{}{}
		<-proceed
		return f.Sync()
	}
	const writers = 50
	results := make(chan error, writers+1)
	go func() { results <- b.Write(t.Context(), named("first")) }()
	<-syncs
	for i := range writers {
		go func() { results <- b.Write(t.Context(), named(fmt.Sprintf("e%d", i))) }()
	}
	eventually(t, "the writers to wait", func() error {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		if sp.group == nil || sp.group.count < writers {
			return errors.New("not all do")
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantIs(t, b.Write(ctx, named("impatient")), ErrNotReady, context.Canceled)
	if len(results) > 0 || b.Stats().Accepted != 0 {
		t.Errorf("%d writers returned before the sync, and %d entries count as taken", len(results), b.Stats().Accepted)
	}
	proceed <- struct{}{}
	<-syncs // one sync for all of them
	if len(results) > 1 {
		t.Error("writers returned before their sync")
	}
	close(proceed)
	for range writers + 1 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	mustClose(t, b)
	wantStats(t, b, BufferedStats{Accepted: writers + 2, Written: writers + 2})
}

func TestSpoolOnADiskThatFails(t *testing.T) {
	dir := t.TempDir()
	store := &heldStore{}
	release := store.hold()
	b := newBuffered(t, store, spoolConfig(dir))
	sp := b.room.(*spool)
	take(t, b, "a")
	var broken error
	sp.sync = func(f *os.File) error { return errors.Join(broken, f.Sync()) }
	for _, id := range []string{"b", "c"} {
		broken = errors.New("input/output error")
		wantIs(t, b.Write(t.Context(), named("lost")), ErrSpoolFailed, broken)
		broken = nil
		take(t, b, id)
	}
	onDisk := int64(0)
	for _, path := range files(t, dir, "*.seg") {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		onDisk += info.Size()
	}
	if stats := b.Stats(); stats.Accepted != 3 || stats.SpoolBytes != onDisk {
		t.Errorf("%d bytes are on disk, the stats are %+v", onDisk, stats)
	}
	abort(t, b)
	release()
	if got, reports := forwarded(t, dir, "d"); got != "a b c d" || len(reports) > 0 {
		t.Errorf("forwarded %q, %v", got, reports)
	}
}

func TestSpoolKeepsWhatIsRefused(t *testing.T) {
	dir := t.TempDir()
	overwrite(t, filepath.Join(dir, "dead-letter.jsonl"), []byte(`{"refused_at":"2026-`)) // a crash has cut it short
	store := &heldStore{fail: func(e Entry) error {
		if strings.HasPrefix(e.ID, "bad") {
			return fmt.Errorf("no: %w", ErrConflict)
		}
		return nil
	}}
	b := newBuffered(t, store, spoolConfig(dir))
	take(t, b, "a", "bad1", "b", "bad2")
	mustClose(t, b)
	if got := store.ids(); got != "a b" {
		t.Errorf("stored %q", got)
	}
	_, content := onlyFile(t, dir, "dead-letter.jsonl")
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	if len(lines) != 3 {
		t.Fatalf("the file holds %q", content)
	}
	for i, line := range lines[1:] {
		var letter struct {
			RefusedAt time.Time `json:"refused_at"`
			Error     string    `json:"error"`
			Entry     Entry     `json:"entry"`
		}
		if err := json.Unmarshal([]byte(line), &letter); err != nil || letter.Entry.ID != fmt.Sprintf("bad%d", i+1) ||
			letter.Entry.User != "ada" || !strings.Contains(letter.Error, "another entry") || time.Since(letter.RefusedAt) > time.Hour {
			t.Errorf("line %d is %s, %v", i+1, line, err)
		}
	}
	if got, _ := forwarded(t, dir); got != "" {
		t.Errorf("forwarded %q again", got)
	}
}

// TestSpoolRefusalWaitsForItsFile: an entry that is refused is not let go before it is kept.
func TestSpoolRefusalWaitsForItsFile(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "dead-letter.jsonl")
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	b := newBuffered(t, &heldStore{fail: func(Entry) error { return ErrConflict }}, spoolConfig(dir))
	take(t, b, "a")
	eventually(t, "the reason", func() error {
		if err := b.Stats().LastError; !errors.Is(err, ErrSpoolFailed) || !errors.Is(err, ErrConflict) {
			return fmt.Errorf("it is %w", err)
		}
		return nil
	})
	wantStats(t, b, BufferedStats{Depth: 1, Accepted: 1})
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	mustClose(t, b)
	wantStats(t, b, BufferedStats{Accepted: 1, Refused: 1})
}

// TestSpoolForgetsItsPosition: without it everything on disk is sent again, which a store finds to be stored.
func TestSpoolForgetsItsPosition(t *testing.T) {
	s, _, _ := open(t)
	dir := t.TempDir()
	b := newBuffered(t, s, spoolConfig(dir))
	ids := numbered("e", 300)
	var wg sync.WaitGroup
	for part := range slices.Chunk(ids, 100) {
		wg.Go(func() { take(t, b, part...) })
	}
	wg.Wait()
	var position []byte
	eventually(t, "the position, which is written once all is", func() error {
		if _, position = onlyFile(t, dir, "position"); !bytes.Equal(position, markContent(300)) {
			return fmt.Errorf("it is %q", position)
		}
		return nil
	})
	path, segment := onlyFile(t, dir, "*.seg")
	mustClose(t, b)
	for name, content := range map[string][]byte{"as it was": position, "spoiled": []byte("00000000000000000007 00000000\n"), "empty": nil} {
		overwrite(t, path, segment)
		overwrite(t, filepath.Join(dir, "position"), content)
		cfg := spoolConfig(dir)
		cfg.OnError = func(_ Entry, err error) { t.Errorf("%s: OnError got %v", name, err) }
		b := newBuffered(t, s, cfg)
		mustClose(t, b)
		want := int64(300)
		if name == "as it was" {
			want = 0
		}
		wantStats(t, b, BufferedStats{Written: want})
	}
	if got := inStream(t, s); len(got) != len(ids) {
		t.Errorf("the stream holds %d entries, want %d", len(got), len(ids))
	}
}

// TestSpoolLeavesNoEmptySegments: a disk that fails write after write is not filled with files.
func TestSpoolLeavesNoEmptySegments(t *testing.T) {
	dir := t.TempDir()
	store := &heldStore{}
	release := store.hold()
	b := newBuffered(t, store, spoolConfig(dir))
	sp := b.room.(*spool)
	take(t, b, "a")
	whole := sp.sync
	sp.sync = func(*os.File) error { return errors.New("no space left on device") }
	for range 20 {
		wantIs(t, b.Write(t.Context(), named("lost")), ErrSpoolFailed)
	}
	if left := files(t, dir, "*.seg"); len(left) != 1 {
		t.Errorf("%d segments are there, want the one that holds an entry: %v", len(left), left)
	}
	sp.sync = whole
	take(t, b, "b")
	release()
	mustClose(t, b)
	if store.ids() != "a b" {
		t.Errorf("forwarded %q, want a b", store.ids())
	}
}
