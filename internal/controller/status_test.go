package controller

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

var (
	errFault  = errors.New("connection reset")
	terminal  = &failure.Terminal{Reason: v1alpha1.ReasonSubjectOverlap, Err: errFault}
	noNATS    = &failure.Waiting{Reason: v1alpha1.ReasonNATSUnavailable, After: time.Second, Err: errFault}
	noBucket  = &failure.Waiting{Reason: v1alpha1.ReasonBucketNotFound, After: time.Second, Err: errFault}
	complete  = migrate.Checkpoint{CompletionTime: time.Unix(1, 0)}
	startTime = time.Unix(1700000000, 0)
)

func withCounts(counts migrate.Counts) migrate.Checkpoint {
	c := complete
	c.Counts = counts
	return c
}

func TestDeriveStatus(t *testing.T) {
	live := &jetstream.StreamInfo{Created: startTime}
	ready := scope{live: live, streamReady: true}
	migrating := func(facts ...bucketFact) scope { return scope{live: live, streamReady: true, buckets: facts} }
	const (
		isTrue    = metav1.ConditionTrue
		isFalse   = metav1.ConditionFalse
		isUnknown = metav1.ConditionUnknown
		absent    = metav1.ConditionStatus("absent")
	)
	for name, test := range map[string]struct {
		scope    scope
		err      error
		ready    metav1.ConditionStatus
		reason   string
		stream   metav1.ConditionStatus
		migrated metav1.ConditionStatus
		progress string
	}{
		"as declared":          {ready, nil, isTrue, v1alpha1.ReasonReady, isTrue, absent, ""},
		"a transient fault":    {scope{}, errFault, isFalse, v1alpha1.ReasonReconcileError, isFalse, absent, v1alpha1.ConditionReconciling},
		"a terminal fault":     {scope{}, terminal, isFalse, v1alpha1.ReasonSubjectOverlap, isFalse, absent, v1alpha1.ConditionStalled},
		"NATS out of reach":    {scope{}, noNATS, isFalse, v1alpha1.ReasonNATSUnavailable, isUnknown, absent, v1alpha1.ConditionReconciling},
		"suspended":            {scope{suspended: true}, nil, isFalse, v1alpha1.ReasonSuspended, absent, absent, ""},
		"made again":           {scope{live: live, streamReady: true, lost: &v1alpha1.StreamLoss{ObservedGeneration: 3}}, nil, isTrue, v1alpha1.ReasonStreamRecreated, isTrue, absent, ""},
		"copying":              {migrating(bucketFact{phase: v1alpha1.MigrationCopying}), nil, isFalse, v1alpha1.ReasonMigrating, isTrue, isFalse, v1alpha1.ConditionReconciling},
		"copied":               {migrating(bucketFact{phase: v1alpha1.MigrationComplete, checkpoint: complete}), nil, isTrue, v1alpha1.ReasonReady, isTrue, isTrue, ""},
		"a bucket missing":     {migrating(bucketFact{err: noBucket}), noBucket, isFalse, v1alpha1.ReasonBucketNotFound, isTrue, isFalse, v1alpha1.ConditionReconciling},
		"one of two copied":    {migrating(bucketFact{checkpoint: complete}, bucketFact{err: noBucket}), noBucket, isFalse, v1alpha1.ReasonBucketNotFound, isTrue, isFalse, v1alpha1.ConditionReconciling},
		"invalid values":       {migrating(bucketFact{phase: v1alpha1.MigrationComplete, checkpoint: withCounts(migrate.Counts{Invalid: 1})}), nil, isTrue, v1alpha1.ReasonReady, isTrue, isTrue, ""},
		"an entry differs":     {migrating(bucketFact{phase: v1alpha1.MigrationMismatched, checkpoint: withCounts(migrate.Counts{Mismatched: 1})}), nil, isFalse, v1alpha1.ReasonEntryMismatch, isTrue, isFalse, v1alpha1.ConditionStalled},
		"a dry run":            {migrating(bucketFact{phase: v1alpha1.MigrationDryRun, checkpoint: complete}), nil, isFalse, v1alpha1.ReasonDryRun, isTrue, isFalse, ""},
		"a dry run and a copy": {migrating(bucketFact{phase: v1alpha1.MigrationDryRun, checkpoint: complete}, bucketFact{phase: v1alpha1.MigrationCopying}), nil, isFalse, v1alpha1.ReasonMigrating, isTrue, isFalse, v1alpha1.ConditionReconciling},
		"a fault of the copy":  {migrating(bucketFact{err: terminal}), terminal, isFalse, v1alpha1.ReasonSubjectOverlap, isTrue, isFalse, v1alpha1.ConditionStalled},
		"late writers fail":    {migrating(bucketFact{phase: v1alpha1.MigrationComplete, checkpoint: complete, err: errFault}), errFault, isFalse, v1alpha1.ReasonReconcileError, isTrue, isTrue, v1alpha1.ConditionReconciling},
	} {
		t.Run(name, func(t *testing.T) {
			g := gomega.NewWithT(t)
			s := test.scope
			s.obj = &v1alpha1.AuditStream{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
			for range s.buckets {
				s.obj.Spec.MigrateFrom = append(s.obj.Spec.MigrateFrom, v1alpha1.MigrationSource{})
			}
			status := deriveStatus(&s, test.err, startTime)
			of := func(kind string) metav1.ConditionStatus {
				if c := meta.FindStatusCondition(status.Conditions, kind); c != nil {
					return c.Status
				}
				return absent
			}
			g.Expect(of(v1alpha1.ConditionReady)).To(gomega.Equal(test.ready))
			g.Expect(meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady).Reason).To(gomega.Equal(test.reason))
			g.Expect(of(v1alpha1.ConditionStreamReady)).To(gomega.Equal(test.stream))
			g.Expect(of(v1alpha1.ConditionMigrated)).To(gomega.Equal(test.migrated))
			for _, kind := range []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
				want := absent
				if kind == test.progress {
					want = isTrue
				}
				g.Expect(of(kind)).To(gomega.Equal(want), kind)
			}
			g.Expect(status.ObservedGeneration).To(gomega.BeEquivalentTo(3))

			s.obj.Status = status
			later := deriveStatus(&s, test.err, startTime.Add(time.Hour))
			g.Expect(later).To(gomega.Equal(status), "nothing changes, transition times included, while nothing happens")
		})
	}
}

func TestAFailureKeepsWhatIsKnown(t *testing.T) {
	g := gomega.NewWithT(t)
	s := scope{obj: &v1alpha1.AuditStream{}}
	s.obj.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: "b"}}
	s.obj.Status.Stream = &v1alpha1.StreamState{Entries: 7}
	s.obj.Status.Migration = []v1alpha1.BucketMigration{{Bucket: "b", Total: 7}, {Bucket: "gone", Total: 1}}
	s.obj.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionMigrated, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMigrationComplete}}
	status := deriveStatus(&s, noNATS, startTime)
	g.Expect(status.Stream.Entries).To(gomega.BeEquivalentTo(7))
	g.Expect(status.Migration).To(gomega.Equal([]v1alpha1.BucketMigration{{Bucket: "b", Total: 7}}))
	g.Expect(meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionMigrated)).To(gomega.BeTrue())
}

// Somebody may delete a bucket once Migrated is True: it must not be, of this generation, for a bucket that nobody has looked at.
func TestAFailureDoesNotCallAnAddedBucketMigrated(t *testing.T) {
	copied := v1alpha1.BucketMigration{Bucket: "a", CompletionTime: &metav1.Time{Time: startTime}}
	for name, test := range map[string]struct {
		declared []v1alpha1.MigrationSource
		want     metav1.ConditionStatus
	}{
		"the same":                    {[]v1alpha1.MigrationSource{{Bucket: "a"}}, metav1.ConditionTrue},
		"the same, to be redirected":  {[]v1alpha1.MigrationSource{{Bucket: "a", AfterMigration: v1alpha1.AfterMigrationRedirect}}, metav1.ConditionTrue},
		"another one, too":            {[]v1alpha1.MigrationSource{{Bucket: "a"}, {Bucket: "b"}}, metav1.ConditionFalse},
		"another one instead":         {[]v1alpha1.MigrationSource{{Bucket: "b"}}, metav1.ConditionFalse},
		"a dry run of the same again": {[]v1alpha1.MigrationSource{{Bucket: "a", DryRun: true}}, metav1.ConditionFalse},
	} {
		t.Run(name, func(t *testing.T) {
			s := scope{obj: &v1alpha1.AuditStream{}}
			s.obj.Generation = 2
			s.obj.Spec.MigrateFrom = test.declared
			s.obj.Status.Migration = []v1alpha1.BucketMigration{copied}
			s.obj.Status.Conditions = []metav1.Condition{{
				Type: v1alpha1.ConditionMigrated, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMigrationComplete, ObservedGeneration: 1,
			}}
			status := deriveStatus(&s, noNATS, startTime)
			gomega.NewWithT(t).Expect(meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionMigrated)).
				To(gomega.HaveField("Status", test.want))
		})
	}
}

// Whoever lost the entries has to be told until somebody reacts: NATS may well be away, too, after it has lost a stream.
func TestALossStaysOnShowThroughFaults(t *testing.T) {
	g := gomega.NewWithT(t)
	s := scope{obj: &v1alpha1.AuditStream{ObjectMeta: metav1.ObjectMeta{Generation: 1}}, live: &jetstream.StreamInfo{}, streamReady: true}
	s.obj.Status.Stream = &v1alpha1.StreamState{Entries: 7, FirstSequence: 1, LastSequence: 9}
	s.markLost(startTime)
	s.obj.Status = deriveStatus(&s, nil, startTime)
	s.lost = nil
	message := meta.FindStatusCondition(s.obj.Status.Conditions, v1alpha1.ConditionReady).Message
	g.Expect(message).To(gomega.ContainSubstring("which was 7 entries (sequences 1 to 9)"))

	for _, fault := range []error{noNATS, errFault} {
		away := scope{obj: s.obj}
		s.obj.Status = deriveStatus(&away, fault, startTime)
		g.Expect(meta.IsStatusConditionTrue(s.obj.Status.Conditions, v1alpha1.ConditionReady)).To(gomega.BeFalse())
		s.obj.Status = deriveStatus(&s, nil, startTime.Add(time.Hour))
		for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionStreamReady} {
			g.Expect(meta.FindStatusCondition(s.obj.Status.Conditions, kind)).To(gomega.And(gomega.HaveField("Status", metav1.ConditionTrue),
				gomega.HaveField("Reason", v1alpha1.ReasonStreamRecreated), gomega.HaveField("Message", message)), "after "+fault.Error())
		}
	}

	s.obj.Generation = 2
	s.obj.Status = deriveStatus(&s, nil, startTime)
	g.Expect(meta.FindStatusCondition(s.obj.Status.Conditions, v1alpha1.ConditionReady).Reason).To(gomega.Equal(v1alpha1.ReasonReady))
	g.Expect(s.obj.Status.LastLoss).To(gomega.HaveField("Entries", gomega.BeEquivalentTo(7)), "it is no longer shouted, and still to be read")
}

func TestAnOutageIsOneWrite(t *testing.T) {
	g := gomega.NewWithT(t)
	s := scope{obj: &v1alpha1.AuditStream{}}
	outage := func(text string) error {
		return &failure.Waiting{Reason: v1alpha1.ReasonNATSUnavailable, Err: errors.New(text)}
	}
	s.obj.Status = deriveStatus(&s, outage("read tcp 10.0.0.1:50001->10.0.0.2:4222: i/o timeout"), startTime)
	g.Expect(deriveStatus(&s, outage("dial tcp 10.0.0.2:4222: connection refused"), startTime)).To(gomega.Equal(s.obj.Status))
}

// The API server refuses a status whose message is too long, and would go on showing the one before.
func TestMessagesAreCut(t *testing.T) {
	g := gomega.NewWithT(t)
	s := scope{obj: &v1alpha1.AuditStream{}}
	long := &failure.Terminal{Reason: v1alpha1.ReasonSubjectOverlap, Err: errors.New("x" + strings.Repeat("ä", maxMessage))}
	for _, c := range deriveStatus(&s, long, startTime).Conditions {
		g.Expect(len(c.Message)).To(gomega.BeNumerically("<=", maxMessage), c.Type)
		g.Expect(len(c.Message)).To(gomega.BeNumerically(">", maxMessage-8), c.Type)
		g.Expect(c.Message).To(gomega.HaveSuffix("ä..."), c.Type)
		g.Expect(utf8.ValidString(c.Message)).To(gomega.BeTrue(), c.Type)
	}
	g.Expect(shorten("just fits", 9)).To(gomega.Equal("just fits"))
}
