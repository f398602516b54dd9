package controller

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/jsclient"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// scope carries one reconcile: the resource, and the facts that the steps find.
type scope struct {
	obj  *v1alpha1.AuditStream
	nats *jsclient.Client

	// want is the declared configuration of the stream, once ensureStream has made it.
	want jetstream.StreamConfig
	// suspended says that the steps were left out because spec.suspend is set.
	suspended bool
	// live is the stream as it is after the reconcile; nil when it is not known or does not exist.
	live *jetstream.StreamInfo
	// streamReady says that live is owned by the resource and as declared.
	streamReady bool
	// refused is what the retention lock of live forbids of the declaration. All else was done.
	refused error
	// created says that this reconcile created the stream, adopted that it took over one.
	created, adopted bool
	// lost is set when this reconcile found the stream deleted, or replaced, out of band.
	lost *v1alpha1.StreamLoss
	// healed are the differences that this reconcile put right.
	healed []jsbuilder.Difference
	// buckets says how the migrations stand, in the order of spec.migrateFrom; nil when it is not known.
	buckets []bucketFact
}

// bucketFact is how the migration of one bucket stands.
type bucketFact struct {
	bucket     string
	phase      v1alpha1.MigrationPhase
	checkpoint migrate.Checkpoint
	// pace is how fast the first copy gets on.
	pace pace
	// maxAge is how long entries are kept by the spec, 0 for ever.
	maxAge time.Duration
	// err is why the migration does not get on, or why the bucket is not handed over.
	err error
}

// claimed says whether the status shows that the resource has had the stream before.
func (s *scope) claimed() bool {
	return s.obj.Status.Stream != nil && s.obj.Status.Stream.CreationTime != nil
}

// sameStream says whether the live stream is the one that the status speaks of.
func (s *scope) sameStream(live *jetstream.StreamInfo) bool {
	return s.claimed() && s.obj.Status.Stream.CreationTime.Time.Equal(live.Created.Truncate(time.Microsecond))
}

// markLost records that the stream the status speaks of is gone.
func (s *scope) markLost(now time.Time) {
	old := s.obj.Status.Stream
	s.lost = &v1alpha1.StreamLoss{
		Time: seconds(now), Entries: old.Entries, FirstSequence: old.FirstSequence, LastSequence: old.LastSequence,
		ObservedGeneration: s.obj.Generation,
	}
}
