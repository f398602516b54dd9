package controller

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"

	"github.com/osapi-io/auditstream-operator/internal/migrate"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

func TestStopEndsWhatAResourceDoesWithABucket(t *testing.T) {
	g := gomega.NewWithT(t)
	c := newCopies(nil, time.Now)
	var ended []string
	for _, bucket := range []string{"a", "b"} {
		id := copyID{bucket: bucket}
		c.follows[id] = func() { ended = append(ended, "following "+bucket) }
		c.runs[id] = &copyRun{running: true, cancel: func(error) { ended = append(ended, "copying "+bucket) }}
	}
	c.stop(copyID{bucket: "a"})
	g.Expect(ended).To(gomega.ConsistOf("following a", "copying a"))
	g.Expect(c.follows).NotTo(gomega.HaveKey(copyID{bucket: "a"}))
	c.runs[copyID{bucket: "b"}].running = false
	c.stop(copyID{bucket: "b"})
	g.Expect(c.runs).NotTo(gomega.HaveKey(copyID{bucket: "b"}), "what has ended is forgotten")
	c.stop(copyID{bucket: "c"})
}

func TestACopyTellsItsPace(t *testing.T) {
	g := gomega.NewWithT(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	js := natstest.Run(t).JetStream()
	_, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "b"})
	g.Expect(err).NotTo(gomega.HaveOccurred())
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	g.Expect(err).NotTo(gomega.HaveOccurred())
	for i := range 5000 {
		value := fmt.Appendf(nil, `{"id":"id-%d"}`, i)
		_, err := js.PublishAsync(fmt.Sprintf("$KV.b.id-%d", i), value, jetstream.WithStallWait(eventually))
		g.Expect(err).NotTo(gomega.HaveOccurred())
	}
	g.Eventually(js.PublishAsyncComplete()).WithTimeout(eventually).Should(gomega.BeClosed())

	// On this clock every look takes a second, so that the copy tells often.
	var seconds atomic.Int64
	clock := func() time.Time { return startTime.Add(time.Duration(seconds.Add(1)) * time.Second) }
	id := copyID{bucket: "b"}
	var c *copies
	var fastest atomic.Int64
	c = newCopies(func(types.NamespacedName) { fastest.Store(max(fastest.Load(), c.pace(id).perSecond)) }, clock) // in the midst of the copy
	go func() { _ = c.Start(ctx) }()
	g.Eventually(func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.ctx != nil }).Should(gomega.BeTrue())
	job := copyJob{explain: func(err error) error { return err }, Job: migrate.Job{
		JetStream: js, Bucket: "b", Stream: "S", Subject: "s", Now: clock, Linger: time.Millisecond,
		Save: func(context.Context, migrate.Checkpoint) error { return nil },
	}}
	bucket, err := js.Stream(ctx, "KV_b")
	g.Expect(err).NotTo(gomega.HaveOccurred())

	for range maxCopies {
		c.slots <- struct{}{}
	}
	begun, err := c.ensure(id, job, migrate.Checkpoint{}, bucket.CachedInfo())
	g.Expect(err).NotTo(gomega.HaveOccurred())
	g.Expect(begun.StartTime.After(startTime)).To(gomega.BeTrue(), "it counts as begun while it waits for its turn")
	g.Expect(begun.Total).To(gomega.BeEquivalentTo(5000))
	g.Expect(c.pace(id)).To(gomega.BeZero())
	for range maxCopies {
		<-c.slots
	}
	g.Eventually(func() bool {
		reached, err := c.ensure(id, job, begun, bucket.CachedInfo())
		g.Expect(err).NotTo(gomega.HaveOccurred())
		return reached.Complete()
	}).WithTimeout(eventually).Should(gomega.BeTrue())
	g.Expect(fastest.Load()).To(gomega.BeNumerically(">", 0))
	g.Expect(c.pace(id)).To(gomega.BeZero(), "what is complete has no pace")
	c.stopAll(types.NamespacedName{})
}

// What a run has reached that is being ended says nothing about another stream, and a dry run nothing about a copy.
func TestWhatCountsWhileARunIsBeingEnded(t *testing.T) {
	created := startTime.Add(-time.Hour)
	bucket := &jetstream.StreamInfo{Created: created, State: jetstream.StreamState{LastSeq: 25}}
	through := func(last uint64) migrate.Checkpoint {
		return migrate.Checkpoint{Created: created, LastSequence: last, CompletionTime: startTime}
	}
	params := copyParams{stream: "S", subject: "s", created: created}
	for name, test := range map[string]struct {
		change          func(run, now *copyParams)
		stored, reached migrate.Checkpoint
		want            uint64
	}{
		"a hand-over that has stored more than it has told": {func(run, _ *copyParams) { run.handOver = "Redirect" }, through(25), through(20), 25},
		"another maxAge":                         {func(_, now *copyParams) { now.maxAge = time.Hour }, through(20), through(25), 25},
		"another stream under the name":          {func(_, now *copyParams) { now.created = startTime }, migrate.Checkpoint{}, through(25), 0},
		"a dry run after which it is in earnest": {func(run, _ *copyParams) { run.dryRun = true }, migrate.Checkpoint{}, through(25), 0},
		"a copy that becomes a dry run":          {func(_, now *copyParams) { now.dryRun = true }, through(20), through(25), 0},
	} {
		t.Run(name, func(t *testing.T) {
			g := gomega.NewWithT(t)
			run, now := params, params
			test.change(&run, &now)
			ended := false
			c := newCopies(nil, time.Now)
			c.runs[copyID{}] = &copyRun{params: run, running: true, reached: test.reached, cancel: func(error) { ended = true }}
			job := copyJob{created: now.created, kind: now.handOver, Job: migrate.Job{
				Stream: now.stream, Subject: now.subject, MaxAge: now.maxAge, DryRun: now.dryRun,
			}}
			got, err := c.ensure(copyID{}, job, test.stored, bucket)
			g.Expect(err).NotTo(gomega.HaveOccurred())
			g.Expect(ended).To(gomega.BeTrue())
			g.Expect(got.LastSequence).To(gomega.Equal(test.want))
			g.Expect(got.Complete()).To(gomega.Equal(test.want > 0))
		})
	}
}

// A stream that was restored from a backup has an older checkpoint, and one whose checkpoint was removed has none: what this process
// knows is of another stream then.
func TestACheckpointThatWentBackCounts(t *testing.T) {
	created := startTime.Add(-time.Hour)
	bucket := &jetstream.StreamInfo{Created: created, State: jetstream.StreamState{LastSeq: 25}}
	through := func(last uint64) migrate.Checkpoint {
		return migrate.Checkpoint{Created: created, LastSequence: last, CompletionTime: startTime}
	}
	begun := migrate.Checkpoint{Created: created, LastSequence: 10}
	for name, test := range map[string]struct {
		known, stored migrate.Checkpoint
		want          bool
	}{
		"as it was stored":              {through(20), through(20), false},
		"further":                       {through(20), through(25), false},
		"restored":                      {through(20), through(10), true},
		"removed":                       {through(20), migrate.Checkpoint{}, true},
		"restored from before its end":  {through(10), begun, true},
		"never stored":                  {migrate.Checkpoint{}, migrate.Checkpoint{}, false},
		"of another bucket of the name": {through(20), migrate.Checkpoint{Created: startTime}, true},
	} {
		for _, running := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, running %t", name, running), func(t *testing.T) {
				g := gomega.NewWithT(t)
				ended := false
				c := newCopies(nil, time.Now)
				run := &copyRun{running: running, reached: through(25), cancel: func(error) { ended = true }}
				run.stored = test.known
				c.runs[copyID{}] = run
				g.Expect(c.wentBack(copyID{}, test.stored)).To(gomega.Equal(test.want))
				if !test.want {
					return
				}
				c.drop(copyID{})
				g.Expect(ended).To(gomega.Equal(running))
				got, err := c.ensure(copyID{}, copyJob{}, test.stored, bucket)
				g.Expect(got.LastSequence).To(gomega.Equal(test.stored.LastSequence), "what the run has reached does not count")
				if !running {
					g.Expect(err).To(gomega.MatchError(errStopped), "another one would begin")
				}
			})
		}
	}
}

func TestSkewIsWhatARequestCannotExplain(t *testing.T) {
	at := func(d time.Duration) time.Time { return startTime.Add(d) }
	for name, test := range map[string]struct {
		sent, answered, server time.Time
		want                   time.Duration
	}{
		"together":                    {at(0), at(time.Millisecond), at(0), 0},
		"a slow request":              {at(0), at(5 * time.Second), at(4 * time.Second), 0},
		"less than a second":          {at(0), at(0), at(900 * time.Millisecond), 0},
		"the operator is ahead":       {at(30 * time.Second), at(31 * time.Second), at(0), 30 * time.Second},
		"the operator is behind":      {at(0), at(time.Second), at(31 * time.Second), -30 * time.Second},
		"a server that does not tell": {at(0), at(time.Second), time.Time{}, 0},
	} {
		if got := skewOf(test.sent, test.answered, test.server); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// What the server's clock has recorded is judged by the server's clock.
func TestJobsGoByTheClockOfTheServer(t *testing.T) {
	r := &Reconciler{Now: func() time.Time { return startTime }}
	if got := r.serverNow(); !got.Equal(startTime) {
		t.Errorf("before the skew is known: %s", got)
	}
	for _, skew := range []time.Duration{30 * time.Second, -30 * time.Second, 0} {
		r.skew.Store(int64(skew))
		if got, want := r.serverNow(), startTime.Add(-skew); !got.Equal(want) {
			t.Errorf("with an operator %s ahead the server's time is %s, want %s", skew, got, want)
		}
	}
}

func TestClockSkew(t *testing.T) {
	for name, test := range map[string]struct {
		skew   time.Duration
		maxAge time.Duration
		want   string
	}{
		"together":                {0, time.Hour, ""},
		"within bounds":           {-maxSkew, time.Hour, ""},
		"ahead":                   {2 * time.Hour, time.Hour, "2h0m0s ahead of that of the NATS server"},
		"behind":                  {-2 * maxSkew, time.Hour, "2m0s behind that of the NATS server"},
		"nothing depends on them": {2 * time.Hour, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := gomega.NewWithT(t)
			err := clockSkew(test.skew, test.maxAge)
			if test.want == "" {
				g.Expect(err).NotTo(gomega.HaveOccurred())
				return
			}
			g.Expect(err).To(gomega.MatchError(gomega.ContainSubstring(test.want)))
		})
	}
}

func TestForgetDropsWhatWasLogged(t *testing.T) {
	g := gomega.NewWithT(t)
	c := newCopies(nil, time.Now)
	gone, other := types.NamespacedName{Name: "gone"}, types.NamespacedName{Name: "other"}
	for _, resource := range []types.NamespacedName{gone, other} {
		c.firstSeen(copyID{resource: resource, bucket: "b"}, startTime, 1)
	}
	c.forget(gone)
	g.Expect(c.logged).To(gomega.HaveLen(1))
	g.Expect(c.logged).To(gomega.HaveKey(copyID{resource: other, bucket: "b"}))
}
