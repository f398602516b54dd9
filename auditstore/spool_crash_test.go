package auditstore

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	childDir   = "AUDITSTORE_SPOOL_DIR"
	childURL   = "AUDITSTORE_SPOOL_URL"
	childRound = "AUDITSTORE_SPOOL_ROUND"
)

// TestSpoolChild is the workload that TestSpoolSurvivesKills kills. It writes until then, and prints the id of every entry that
// it was told is safe.
func TestSpoolChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("run by TestSpoolSurvivesKills")
	}
	nc, err := nats.Connect(os.Getenv(childURL), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	store, err := NewLazyWriter(js, Config{Stream: testStream, Subject: testSubject})
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBuffered(store, BufferedConfig{Policy: Spool, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("r%s-w%d-%06d", os.Getenv(childRound), w, i)
				if err := b.Write(context.Background(), named(id)); err != nil {
					t.Errorf("writing %s: %v", id, err)
					return
				}
				fmt.Printf("safe %s\n", id) // one write to the pipe, which is whole or not there
			}
		})
	}
	wg.Wait()
}

// runChild starts the workload, kills it at a random moment after n entries, and returns what it was told is safe.
func runChild(t *testing.T, dir, url string, round, n int, linger time.Duration) []string {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSpoolChild$")
	child.Env = append(os.Environ(), childDir+"="+dir, childURL+"="+url, fmt.Sprintf("%s=%d", childRound, round))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var safe, other []string
	var kill *time.Timer
	for lines := bufio.NewScanner(out); lines.Scan(); {
		id, is := strings.CutPrefix(lines.Text(), "safe ")
		if !is {
			other = append(other, lines.Text())
			continue
		}
		if safe = append(safe, id); len(safe) == n {
			kill = time.AfterFunc(linger, func() { _ = child.Process.Kill() })
		}
	}
	_ = child.Wait()
	if kill == nil {
		t.Fatalf("round %d ended by itself after %d entries: %q", round, len(safe), other)
	}
	return safe
}

// TestSpoolSurvivesKills kills the workload with -9 at random moments, in some rounds while the server is away.
func TestSpoolSurvivesKills(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s, _, srv := open(t)
	dir := t.TempDir()
	var safe []string
	const rounds = 8
	for round := range rounds {
		away := round%3 == 1
		if away {
			srv.Stop()
		}
		safe = append(safe, runChild(t, dir, srv.URL(), round, 1+random.IntN(1500), time.Duration(random.IntN(20000))*time.Microsecond)...)
		if away {
			srv.Restart()
		}
	}
	cfg := spoolConfig(dir)
	cfg.OnError = func(_ Entry, err error) { t.Errorf("OnError got %v", err) }
	b := newBuffered(t, s, cfg)
	left := b.Stats().Depth
	mustClose(t, b)

	stored := map[string]int{}
	for _, id := range inStream(t, s) {
		stored[id]++
	}
	for _, id := range safe {
		if stored[id] != 1 {
			t.Errorf("%s was taken, and is stored %d times", id, stored[id])
		}
	}
	// More may be stored than was told to be safe: a writer that was killed before it could say so has one each.
	if most := len(safe) + 4*rounds; len(stored) > most {
		t.Errorf("%d entries are stored, of %d that were taken", len(stored), len(safe))
	}
	t.Logf("%d entries were taken in %d lives, %d were left to the last one, %d are stored", len(safe), rounds, left, len(stored))
	wantOrder(t, s)
}

// wantOrder wants the entries of each writer in the order it wrote them in.
func wantOrder(t *testing.T, s *StreamStore) {
	t.Helper()
	last := map[string]string{}
	for _, id := range inStream(t, s) {
		writer := id[:strings.LastIndex(id, "-")]
		if id <= last[writer] {
			t.Errorf("%s is stored behind %s", id, last[writer])
		}
		last[writer] = id
	}
}
