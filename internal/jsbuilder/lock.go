package jsbuilder

import (
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// MetadataRetentionLock is the key in a stream's metadata that says that the stream is under a retention lock. The lock
// lives with the data (docs/adr/0011), so that it outlives the AuditStream that has set it. The key alone counts, whatever
// its value.
const MetadataRetentionLock = "audit.osapi.io/retention-lock"

const lockValue = string(v1alpha1.RetentionLockCompliance)

// Locked says whether a stream with this metadata is under a retention lock.
func Locked(metadata map[string]string) bool {
	_, locked := metadata[MetadataRetentionLock]
	return locked
}

// Refusal is something in which the declared configuration must not be applied to a stream under a retention lock.
type Refusal struct {
	Difference
	// Remedy says what to declare instead.
	Remedy string
}

// KeepLocked is the configuration want, as Build makes it, without what would shorten the retention of the live stream have,
// which is under a retention lock, and what it has left out. All else of want is as
// declared: a lock keeps entries, and does not keep the stream from being put right.
func KeepLocked(want, have jetstream.StreamConfig) (jetstream.StreamConfig, []Refusal) {
	var refused []Refusal
	refuse := func(field, live, declared, remedy string) {
		refused = append(refused, Refusal{Difference{Field: field, Have: live, Want: declared}, remedy})
	}
	kept := want
	if !Locked(want.Metadata) {
		kept.Metadata = map[string]string{MetadataRetentionLock: lockValue}
		maps.Copy(kept.Metadata, want.Metadata)
		refuse("metadata["+MetadataRetentionLock+"]", lockValue, absent, "set spec.retentionLock to Compliance")
	}
	if shorter(int64(want.MaxAge), int64(have.MaxAge)) {
		kept.MaxAge, kept.Duplicates = have.MaxAge, duplicateWindow(have.MaxAge)
		refuse("max_age", age(have.MaxAge), age(want.MaxAge), ageRemedy(have.MaxAge))
	}
	if shorter(want.MaxBytes, have.MaxBytes) {
		kept.MaxBytes = have.MaxBytes
		refuse("max_bytes", limit(have.MaxBytes), limit(want.MaxBytes), bytesRemedy(have.MaxBytes))
	}
	if want.Discard == jetstream.DiscardOld && have.Discard == jetstream.DiscardNew {
		kept.Discard = have.Discard
		if have.DiscardNewPerSubject {
			kept.DiscardNewPerSubject, kept.MaxMsgsPerSubject = true, have.MaxMsgsPerSubject
		}
		refuse("discard", enum(have.Discard), enum(want.Discard), "set spec.whenFull to RejectNew")
	}
	return kept, refused
}

// shorter compares limits, of which 0 and everything negative is none, and so the largest.
func shorter(want, have int64) bool { return want > 0 && (have <= 0 || want < have) }

func ageRemedy(d time.Duration) string {
	switch {
	case d <= 0:
		return "leave out spec.maxAge"
	case d%day == 0:
		return fmt.Sprintf("set spec.maxAge to %dd or more", d/day)
	default:
		return fmt.Sprintf("set spec.maxAge to %s or more", d)
	}
}

func bytesRemedy(n int64) string {
	if n <= 0 || n > largestBytes {
		return "leave out spec.maxBytes"
	}
	return fmt.Sprintf("set spec.maxBytes to %d or more", n)
}
