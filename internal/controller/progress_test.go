package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// midway is a first copy that has dealt with done of total entries.
func midway(total, done int64) migrate.Checkpoint {
	return migrate.Checkpoint{StartTime: startTime, Counts: migrate.Counts{Total: total, Migrated: done}}
}

func TestPaceIsThatOfTheRun(t *testing.T) {
	for name, test := range map[string]struct {
		total, now, before int64
		elapsed            time.Duration
		want               pace
	}{
		"from the beginning": {200_000, 84_000, 0, 4 * time.Second, pace{21_000, 5523809523 * time.Nanosecond, startTime.Add(4*time.Second + 5523809523*time.Nanosecond)}},
		"resumed":            {200_000, 84_000, 80_000, 4 * time.Second, pace{1000, 116 * time.Second, startTime.Add(120 * time.Second)}},
		"through":            {200_000, 200_000, 0, 4 * time.Second, pace{perSecond: 50_000}},
		"nothing done yet":   {200_000, 80_000, 80_000, 4 * time.Second, pace{}},
		"no time gone":       {200_000, 80_000, 0, 0, pace{}},
		"a snail":            {1 << 60, 1, 0, time.Hour, pace{}},
	} {
		t.Run(name, func(t *testing.T) {
			c := midway(test.total, test.now)
			got := paceOf(&c, test.before, startTime, startTime.Add(test.elapsed))
			gomega.NewWithT(t).Expect(got).To(gomega.Equal(test.want))
		})
	}
	c := midway(10, 5)
	gomega.NewWithT(t).Expect(paceOf(&c, 0, time.Time{}, startTime)).To(gomega.BeZero(), "a run that waits for its turn has none")
}

func TestThousands(t *testing.T) {
	g := gomega.NewWithT(t)
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 84_000: "84,000", 1_234_567: "1,234,567"} {
		g.Expect(thousands(n)).To(gomega.Equal(want))
	}
}

// migratingScope is the scope of a reconcile that found the buckets like this.
func migratingScope(facts ...bucketFact) *scope {
	s := &scope{obj: &v1alpha1.AuditStream{}, live: &jetstream.StreamInfo{Created: startTime}, streamReady: true, buckets: facts}
	for i := range facts {
		facts[i].bucket = fmt.Sprintf("b%d", i)
		s.obj.Spec.MigrateFrom = append(s.obj.Spec.MigrateFrom, v1alpha1.MigrationSource{Bucket: facts[i].bucket})
	}
	return s
}

func TestStatusOfACopyUnderWay(t *testing.T) {
	g := gomega.NewWithT(t)
	c := midway(200_000, 80_000)
	c.Invalid = 4000
	s := migratingScope(bucketFact{phase: v1alpha1.MigrationCopying, checkpoint: c, pace: paceOf(&c, 0, startTime, startTime.Add(4*time.Second))})
	status := deriveStatus(s, nil, startTime.Add(5*time.Second))
	ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	g.Expect(ready.Message).To(gomega.Equal("bucket b0: 84,000 of 200,000 entries copied, 21,000 a second, about 6s left"))
	m := status.Migration[0]
	g.Expect([]int64{m.Total, m.Remaining, m.EntriesPerSecond}).To(gomega.Equal([]int64{200_000, 116_000, 21_000}))
	g.Expect(m.EstimatedCompletionTime.Time).To(gomega.Equal(startTime.Add(9*time.Second)), "cut to whole seconds")
	g.Expect(status.MigrationProgress).To(gomega.Equal("42%"))

	s.obj.Status = status
	for name, unknown := range map[string]*scope{
		"suspended": {obj: s.obj, suspended: true}, "out of reach": {obj: s.obj},
	} {
		m := deriveStatus(unknown, noNATS, startTime).Migration[0]
		g.Expect(m.Remaining).To(gomega.BeEquivalentTo(116_000), name)
		g.Expect(m.EntriesPerSecond).To(gomega.BeZero(), name)
		g.Expect(m.EstimatedCompletionTime).To(gomega.BeNil(), name)
	}

	s.buckets[0].checkpoint.Migrated = 196_000
	g.Expect(s.buckets[0].verdict().message).To(gomega.ContainSubstring("all 200,000 entries are dealt with"))
	g.Expect(deriveStatus(s, nil, startTime).MigrationProgress).To(gomega.Equal("99%"))
}

func TestTheEndHasNoPace(t *testing.T) {
	g := gomega.NewWithT(t)
	for _, phase := range []v1alpha1.MigrationPhase{v1alpha1.MigrationComplete, v1alpha1.MigrationDryRun, v1alpha1.MigrationWaiting} {
		s := migratingScope(bucketFact{phase: phase, checkpoint: complete, pace: pace{1, time.Second, startTime}})
		m := deriveStatus(s, nil, startTime).Migration[0]
		g.Expect(m.EntriesPerSecond).To(gomega.BeZero())
		g.Expect(m.EstimatedCompletionTime).To(gomega.BeNil())
	}
}

func TestMigrationProgress(t *testing.T) {
	copying := func(total, done int64) bucketFact {
		return bucketFact{phase: v1alpha1.MigrationCopying, checkpoint: midway(total, done)}
	}
	done := bucketFact{phase: v1alpha1.MigrationComplete, checkpoint: withCounts(migrate.Counts{Total: 100, Migrated: 100})}
	refused := bucketFact{phase: v1alpha1.MigrationWaiting, err: &failure.Terminal{Reason: v1alpha1.ReasonBucketConflict, Err: errFault}}
	broken := copying(100, 40)
	broken.err = terminal
	retried := copying(100, 40)
	retried.err = errFault
	dryRun := bucketFact{phase: v1alpha1.MigrationDryRun, checkpoint: withCounts(migrate.Counts{Total: 1000, Migrated: 1000})}
	for name, test := range map[string]struct {
		facts []bucketFact
		want  string
	}{
		"no migration":               {nil, ""},
		"begun":                      {[]bucketFact{copying(0, 0)}, "0%"},
		"under way":                  {[]bucketFact{copying(1000, 999)}, "99%"},
		"read, not yet verified":     {[]bucketFact{copying(1000, 1000)}, "99%"},
		"over all buckets":           {[]bucketFact{copying(300, 0), done}, "25%"},
		"a dry run does not count":   {[]bucketFact{copying(100, 10), dryRun}, "10%"},
		"done":                       {[]bucketFact{done}, "True"},
		"only a dry run":             {[]bucketFact{dryRun}, "False"},
		"a bucket missing":           {[]bucketFact{{phase: v1alpha1.MigrationWaiting, err: noBucket}}, "False"},
		"one refused, one under way": {[]bucketFact{refused, copying(100, 30)}, "30%"},
		"one refused, one done":      {[]bucketFact{refused, done}, "False"},
		"failed for good":            {[]bucketFact{broken}, "False"},
		"failed for now":             {[]bucketFact{retried}, "40%"},
	} {
		t.Run(name, func(t *testing.T) {
			status := deriveStatus(migratingScope(test.facts...), nil, startTime)
			gomega.NewWithT(t).Expect(status.MigrationProgress).To(gomega.Equal(test.want))
		})
	}
}

func TestARefusedBucketIsTheWorst(t *testing.T) {
	g := gomega.NewWithT(t)
	refused := &failure.Terminal{Reason: v1alpha1.ReasonBucketConflict, Err: errFault}
	differs := bucketFact{phase: v1alpha1.MigrationMismatched, checkpoint: withCounts(migrate.Counts{Mismatched: 1})}
	for want, facts := range map[string][]bucketFact{
		v1alpha1.ReasonBucketConflict: {{err: errFault}, {err: refused}, {phase: v1alpha1.MigrationCopying}},
		v1alpha1.ReasonEntryMismatch:  {{err: refused}, differs},
	} {
		migrated, _ := migratedVerdict(migratingScope(facts...))
		g.Expect(migrated.reason).To(gomega.Equal(want))
	}
}

func TestProgressOfWhatIsNotLookedAt(t *testing.T) {
	g := gomega.NewWithT(t)
	s := migratingScope(bucketFact{phase: v1alpha1.MigrationCopying, checkpoint: midway(100, 50)})
	s.obj.Status = deriveStatus(s, nil, startTime)
	g.Expect(deriveStatus(&scope{obj: s.obj}, noNATS, startTime).MigrationProgress).To(gomega.Equal("50%"))
	g.Expect(deriveStatus(&scope{obj: s.obj, suspended: true}, nil, startTime).MigrationProgress).To(gomega.Equal("False"))
}

func TestMereProgressIsNotUrgent(t *testing.T) {
	was := deriveStatus(migratingScope(bucketFact{phase: v1alpha1.MigrationCopying, checkpoint: midway(100, 1)}), nil, startTime)
	for name, test := range map[string]struct {
		change func(*v1alpha1.AuditStreamStatus)
		want   bool
	}{
		"counts":      {func(s *v1alpha1.AuditStreamStatus) { s.Migration[0].Migrated++ }, false},
		"progress":    {func(s *v1alpha1.AuditStreamStatus) { s.MigrationProgress = "2%" }, false},
		"a message":   {func(s *v1alpha1.AuditStreamStatus) { s.Conditions[0].Message = "other" }, false},
		"entries":     {func(s *v1alpha1.AuditStreamStatus) { s.Stream.Entries++ }, false},
		"generation":  {func(s *v1alpha1.AuditStreamStatus) { s.ObservedGeneration++ }, true},
		"a reason":    {func(s *v1alpha1.AuditStreamStatus) { s.Conditions[1].Reason = "Other" }, true},
		"a status":    {func(s *v1alpha1.AuditStreamStatus) { s.Conditions[1].Status = metav1.ConditionUnknown }, true},
		"one less":    {func(s *v1alpha1.AuditStreamStatus) { s.Conditions = s.Conditions[1:] }, true},
		"one instead": {func(s *v1alpha1.AuditStreamStatus) { s.Conditions[0].Type = "Other" }, true},
		"a new stream": {func(s *v1alpha1.AuditStreamStatus) {
			s.Stream.CreationTime = &metav1.MicroTime{Time: startTime.Add(time.Second)}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			now := was.DeepCopy()
			test.change(now)
			gomega.NewWithT(t).Expect(urgent(&was, now)).To(gomega.Equal(test.want))
		})
	}
}

func TestPatchPace(t *testing.T) {
	g := gomega.NewWithT(t)
	var p patchPace
	a, b := types.NamespacedName{Name: "a"}, types.NamespacedName{Name: "b"}
	g.Expect(p.hold(a, startTime)).To(gomega.BeZero(), "nothing was written yet")
	p.wrote(a, startTime, 0)
	g.Expect(p.hold(a, startTime.Add(500*time.Millisecond))).To(gomega.Equal(1500 * time.Millisecond))
	g.Expect(p.hold(a, startTime.Add(2*time.Second))).To(gomega.BeZero())
	g.Expect(p.hold(b, startTime)).To(gomega.BeZero(), "another resource")
	p.wrote(b, startTime, 8)
	p.wrote(b, startTime.Add(time.Second), 0)
	g.Expect(p.hold(b, startTime)).To(gomega.Equal(10*time.Second), "a second for each event; a later write does not shorten it")
	p.forget(b)
	g.Expect(p.hold(b, startTime)).To(gomega.BeZero())
}

func TestAgainLooksAtEveryBucket(t *testing.T) {
	g := gomega.NewWithT(t)
	soon := &failure.Waiting{After: time.Second, Err: errFault}
	late := &failure.Waiting{After: time.Minute, Err: errFault}
	after, transient := again(migratingScope(bucketFact{err: terminal}, bucketFact{err: late}, bucketFact{err: soon}), terminal)
	g.Expect(after).To(gomega.Equal(time.Second))
	g.Expect(transient).NotTo(gomega.HaveOccurred())
	_, transient = again(migratingScope(bucketFact{err: terminal}, bucketFact{err: errFault}), terminal)
	g.Expect(transient).To(gomega.Equal(errFault))
	after, transient = again(&scope{}, nil)
	g.Expect(after).To(gomega.BeZero())
	g.Expect(transient).NotTo(gomega.HaveOccurred())
}

func TestBucketNotes(t *testing.T) {
	at := func(seconds int64) *metav1.Time {
		return &metav1.Time{Time: startTime.Add(time.Duration(seconds) * time.Second)}
	}
	none := v1alpha1.BucketMigration{}
	copying := func(done int64) v1alpha1.BucketMigration {
		return v1alpha1.BucketMigration{Bucket: "b", Phase: v1alpha1.MigrationCopying, StartTime: at(0), Total: 1000, Remaining: 1000 - done, Migrated: done}
	}
	ended := v1alpha1.BucketMigration{Bucket: "b", Phase: v1alpha1.MigrationComplete, StartTime: at(0), CompletionTime: at(9), Total: 1000, Migrated: 990, Invalid: 10}
	differing := ended
	differing.Mismatched = 1
	dry := v1alpha1.BucketMigration{Bucket: "b", Phase: v1alpha1.MigrationDryRun, Total: 1000}
	newBucket := copying(0)
	newBucket.StartTime = at(20)
	for name, test := range map[string]struct {
		was, is v1alpha1.BucketMigration
		want    string
	}{
		"the start":               {none, copying(0), "Normal Migrating StartCopy: bucket b: the copy has begun; the bucket holds 1,000 values"},
		"begun afresh":            {ended, newBucket, "Normal Migrating StartCopy: bucket b: the copy has begun; the bucket holds 1,000 values"},
		"no further tenth":        {copying(110), copying(199), ""},
		"a tenth":                 {copying(299), copying(300), "Normal Migrating Copied30Percent: bucket b: 300 of 1,000 entries copied"},
		"several at once":         {copying(0), copying(755), "Normal Migrating Copied70Percent: bucket b: 755 of 1,000 entries copied"},
		"through but not at ends": {copying(900), copying(1000), ""},
		"the end": {copying(500), ended, "Normal MigrationComplete CopiedBucket: bucket b: of 1,000 entries 990 were copied, " +
			"0 were already present, 0 had expired, 10 are not entries, 0 differ from the stream's"},
		"the end with a mismatch": {copying(500), differing, "Warning EntryMismatch CopiedBucket: bucket b: of 1,000 entries 990 were copied, " +
			"0 were already present, 0 had expired, 10 are not entries, 1 differ from the stream's"},
		"nothing new":    {ended, ended, ""},
		"a late writer":  {ended, func() v1alpha1.BucketMigration { e := ended; e.Total++; e.Migrated++; return e }(), ""},
		"handed over":    {ended, func() v1alpha1.BucketMigration { e := ended; e.Phase = v1alpha1.MigrationRedirected; return e }(), ""},
		"a dry run":      {none, dry, ""},
		"a missing one":  {none, v1alpha1.BucketMigration{Bucket: "b", Phase: v1alpha1.MigrationWaiting}, ""},
		"out and back":   {func() v1alpha1.BucketMigration { c := copying(300); c.Phase = v1alpha1.MigrationWaiting; return c }(), copying(300), ""},
		"begun and done": {none, ended, "Normal MigrationComplete CopiedBucket: bucket b: of 1,000 entries 990 were copied, 0 were already present, 0 had expired, 10 are not entries, 0 differ from the stream's"},
	} {
		t.Run(name, func(t *testing.T) {
			g := gomega.NewWithT(t)
			// The tenths of another bucket are no measure.
			other := copying(990)
			other.Bucket = "another"
			before := []v1alpha1.BucketMigration{other}
			if test.was.Bucket != "" {
				before = append(before, test.was)
			}
			var got string
			for _, n := range bucketNotes(before, []v1alpha1.BucketMigration{test.is}) {
				got += n.kind + " " + n.reason + " " + n.action + ": " + n.text
				g.Expect(n.bucket).To(gomega.Equal("b"))
			}
			g.Expect(got).To(gomega.Equal(test.want))
		})
	}
}

func TestReadyIsNotToldTwice(t *testing.T) {
	g := gomega.NewWithT(t)
	started, ended := []note{{reason: v1alpha1.ReasonMigrating}}, []note{{reason: v1alpha1.ReasonMigrationComplete}}
	g.Expect(tells(started, v1alpha1.ReasonMigrating)).To(gomega.BeTrue())
	g.Expect(tells(started, v1alpha1.ReasonReady)).To(gomega.BeFalse())
	g.Expect(tells(ended, v1alpha1.ReasonReady)).To(gomega.BeTrue())
	g.Expect(tells(nil, v1alpha1.ReasonReady)).To(gomega.BeFalse())
	g.Expect(tells([]note{{reason: v1alpha1.ReasonEntryMismatch}}, v1alpha1.ReasonEntryMismatch)).To(gomega.BeFalse(), "Ready names the keys")
}

func TestAValueIsLoggedOnce(t *testing.T) {
	g := gomega.NewWithT(t)
	c := newCopies(nil, time.Now)
	a, b := copyID{bucket: "a"}, copyID{bucket: "b"}
	later := startTime.Add(time.Hour)
	for _, step := range []struct {
		id       copyID
		created  time.Time
		sequence uint64
		want     bool
	}{
		{a, startTime, 3, true}, {a, startTime, 5, true}, {a, startTime, 3, false}, {a, startTime, 5, false}, {a, startTime, 6, true},
		{b, startTime, 3, true}, {a, later, 3, true}, {a, later, 3, false},
	} {
		g.Expect(c.firstSeen(step.id, step.created, step.sequence)).To(gomega.Equal(step.want), fmt.Sprint(step))
	}
}

func TestARunBeginsWithTheBucketAsItIs(t *testing.T) {
	g := gomega.NewWithT(t)
	bucket := &jetstream.StreamInfo{Created: startTime.Add(-time.Hour), State: jetstream.StreamState{Msgs: 7, LastSeq: 9}}
	stored := complete
	stored.Created = bucket.Created
	g.Expect(beginning(stored, bucket, startTime)).To(gomega.Equal(stored))
	stored.Created = startTime.Add(-2 * time.Hour)
	begun := beginning(stored, bucket, startTime)
	g.Expect(begun.Complete()).To(gomega.BeFalse(), "a bucket that was made again has not been copied")
	g.Expect(begun.StartTime).To(gomega.Equal(startTime))
	g.Expect(begun.Total).To(gomega.BeEquivalentTo(7))
	g.Expect(begun.Matches(bucket.Created, bucket.State.LastSeq)).To(gomega.BeTrue())
	stored.StartTime = startTime.Add(time.Hour)
	begun = beginning(stored, bucket, startTime)
	g.Expect(begun.Supersedes(&stored)).To(gomega.BeTrue(), "also where the clock was put back")
}

func TestVerificationIsShown(t *testing.T) {
	g := gomega.NewWithT(t)
	c := complete
	c.Verified = &migrate.Verification{Time: startTime, LastSequence: 9, BucketEntries: 3, StreamEntries: 2}
	c.Verified.BucketDigest.Add("a", []byte("1"))
	c.Verified.StreamDigest.Add("b", []byte("2"))
	v := deriveStatus(migratingScope(bucketFact{phase: v1alpha1.MigrationComplete, checkpoint: c}), nil, startTime).Migration[0].Verification
	g.Expect(v).To(gomega.Equal(&v1alpha1.Verification{
		Time: &metav1.Time{Time: startTime}, LastSequence: 9, BucketEntries: 3, StreamEntries: 2,
		BucketDigest: c.Verified.BucketDigest.String(), StreamDigest: c.Verified.StreamDigest.String(),
	}))
	g.Expect(v.BucketDigest).To(gomega.HaveLen(64))
}

func TestWhenARedirectedBucketIsLookedAtAgain(t *testing.T) {
	key := func(bucket string, at time.Time) map[string]string {
		return map[string]string{jsbuilder.MetadataRedirectPrefix + bucket: at.Format(time.RFC3339Nano)}
	}
	for name, test := range map[string]struct {
		metadata map[string]string
		want     time.Duration
	}{
		"not redirected":               {nil, 0},
		"just now":                     {key("b0", startTime), lateLooks[0]},
		"between two looks":            {key("b0", startTime.Add(-2*time.Second)), lateLooks[1] - 2*time.Second},
		"after the last look":          {key("b0", startTime.Add(-lateLooks[len(lateLooks)-1])), 0},
		"by a clock that is ahead":     {key("b0", startTime.Add(time.Hour)), lateLooks[0]},
		"of which nobody knows when":   {map[string]string{jsbuilder.MetadataRedirectPrefix + "b0": "yes"}, 0},
		"one that is not looked after": {key("other", startTime), 0},
	} {
		s := migratingScope(bucketFact{})
		s.live.Config.Metadata = test.metadata
		if got := s.lookAgain(startTime); got != test.want {
			t.Errorf("A bucket that was redirected %s is looked at again after %s, want %s", name, got, test.want)
		}
	}
	if got := (&scope{obj: &v1alpha1.AuditStream{}}).lookAgain(startTime); got != 0 {
		t.Errorf("without a stream: %s", got)
	}
}
