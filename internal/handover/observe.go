package handover

import (
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// State says who has the subjects of a bucket, as far as its backing stream tells.
type State int

const (
	// Foreign: the bucket cannot be handed over, Observation.Reason says why.
	Foreign State = iota
	// Own: the bucket takes what is put into it.
	Own
	// Fenced: the bucket takes nothing any more, in favour of the stream that was asked about.
	Fenced
	// FencedElsewhere: the bucket takes nothing any more, in favour of the stream that Observation.Target names.
	FencedElsewhere
)

// Observation is what the backing stream of a bucket says.
type Observation struct {
	State State
	// Target is the stream in whose favour the bucket is fenced.
	Target string
	// Reason says why the bucket cannot be handed over, where State is Foreign or FencedElsewhere.
	Reason string
}

// TakesNothing says whether the bucket is fenced, in whose favour ever.
func (o Observation) TakesNothing() bool { return o.State == Fenced || o.State == FencedElsewhere }

// Observe says where the bucket stands whose backing stream is live, as seen from the audit stream.
func Observe(live *jetstream.StreamInfo, bucket, stream string) Observation {
	cfg := &live.Config
	if reason := unsuitable(cfg); reason != "" {
		return Observation{State: Foreign, Reason: reason}
	}
	own, fence := jsbuilder.BucketSubjects(bucket), migrate.HandOverSubject(bucket)
	target := cfg.Metadata[jsbuilder.MetadataRedirectedTo]
	switch {
	case slices.Equal(cfg.Subjects, []string{own}):
		return Observation{State: Own}
	case !slices.Equal(cfg.Subjects, []string{fence}):
		return Observation{State: Foreign, Reason: fmt.Sprintf(
			"stream %s captures %q, not %q as the stream of a bucket does: set its subjects back", cfg.Name, cfg.Subjects, own)}
	case target == "":
		return Observation{State: Foreign, Reason: fmt.Sprintf(
			"stream %s captures %q, but its metadata does not say for which stream (%s): set its subjects back to %q",
			cfg.Name, fence, jsbuilder.MetadataRedirectedTo, own)}
	case target != stream:
		return Observation{State: FencedElsewhere, Target: target, Reason: fmt.Sprintf(
			"its subjects are handed over to stream %s already: have that AuditStream give them back first", target)}
	}
	return Observation{State: Fenced, Target: target}
}

// unsuitable says why the backing stream cannot be fenced, or cannot take the mark.
func unsuitable(cfg *jetstream.StreamConfig) string {
	switch {
	case cfg.Mirror != nil:
		return fmt.Sprintf("stream %s mirrors stream %s: what is put into the bucket is stored there, so name that bucket",
			cfg.Name, cfg.Mirror.Name)
	case len(cfg.Sources) > 0:
		return fmt.Sprintf("stream %s sources from other streams, which would go on filling the bucket: remove its sources first", cfg.Name)
	case cfg.SubjectTransform != nil:
		return fmt.Sprintf("stream %s transforms the subjects of what it takes: remove its subject_transform first", cfg.Name)
	case cfg.Sealed:
		return fmt.Sprintf("stream %s is sealed: nobody can write to the bucket, nor can its subjects be changed", cfg.Name)
	case cfg.NoAck:
		return fmt.Sprintf("stream %s acknowledges nothing: clear its no_ack first", cfg.Name)
	}
	return ""
}

// Opened says whether the audit stream takes what is put into the bucket.
func Opened(stream *jetstream.StreamInfo, bucket string) bool {
	return declared(stream, bucket) && captured(stream, bucket)
}

// claimed says whether the audit stream takes what is put into the bucket or will once its configuration is healed.
func claimed(stream *jetstream.StreamInfo, bucket string) bool {
	return declared(stream, bucket) || captured(stream, bucket)
}

func declared(stream *jetstream.StreamInfo, bucket string) bool {
	return slices.Contains(jsbuilder.Redirects(stream.Config.Metadata), bucket)
}

func captured(stream *jetstream.StreamInfo, bucket string) bool {
	return slices.Contains(stream.Config.Subjects, jsbuilder.BucketSubjects(bucket))
}
