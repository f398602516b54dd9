package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AuditStreamStatus is the observed state of an audit stream.
type AuditStreamStatus struct {
	// observedGeneration is the generation of the resource that this status speaks of, -1 before the operator has seen
	// it.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// streamName is the name of the JetStream stream.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	StreamName string `json:"streamName,omitempty"`

	// subject is the base subject.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Subject string `json:"subject,omitempty"`

	// conditions are Ready (always), Reconciling or Stalled (only while true, never both), StreamReady, and Migrated
	// where a migration is declared.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// stream is what the stream held when the operator last looked: at every change of the resource or of the stream's
	// configuration, and at the resync interval.
	// +optional
	Stream *StreamState `json:"stream,omitempty"`

	// lastLoss is when the stream was last found deleted, or replaced, out of band. Ready and StreamReady speak of it until the
	// resource's spec is changed. Absent where that has never happened.
	// +optional
	LastLoss *StreamLoss `json:"lastLoss,omitempty"`

	// migrationProgress is the Migrated condition as kubectl get prints it: True, False or, while entries are being copied,
	// the part of all entries that has been dealt with, from 0% to 99%. Absent without a migration.
	// +optional
	// +kubebuilder:validation:MaxLength=16
	MigrationProgress string `json:"migrationProgress,omitempty"`

	// migration is how far each bucket of spec.migrateFrom has been moved.
	// +optional
	// +listType=map
	// +listMapKey=bucket
	// +kubebuilder:validation:MaxItems=8
	Migration []BucketMigration `json:"migration,omitempty"`
}

// StreamState is what a stream held when the operator last looked.
type StreamState struct {
	// creationTime is when the stream was created. A later one than before means that it was deleted and made again.
	// +optional
	CreationTime *metav1.MicroTime `json:"creationTime,omitempty"`

	// entries is the number of messages.
	// +optional
	Entries int64 `json:"entries"`

	// bytes is the size of the messages in bytes.
	// +optional
	Bytes int64 `json:"bytes"`

	// firstSequence is the sequence of the oldest message.
	// +optional
	FirstSequence int64 `json:"firstSequence"`

	// lastSequence is the sequence of the newest message.
	// +optional
	LastSequence int64 `json:"lastSequence"`

	// firstTime is when the oldest message was stored. Absent while the stream is empty.
	// +optional
	FirstTime *metav1.Time `json:"firstTime,omitempty"`

	// lastTime is when the newest message was stored. Absent while the stream is empty.
	// +optional
	LastTime *metav1.Time `json:"lastTime,omitempty"`
}

// StreamLoss is what was lost when a stream was deleted, or replaced, out of band.
type StreamLoss struct {
	// time is when the operator noticed.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`

	// entries is the number of messages that the stream held when the operator last looked before.
	// +optional
	Entries int64 `json:"entries"`

	// firstSequence is the sequence of the oldest of them.
	// +optional
	FirstSequence int64 `json:"firstSequence"`

	// lastSequence is the sequence of the newest of them.
	// +optional
	LastSequence int64 `json:"lastSequence"`

	// observedGeneration is the generation of the resource then.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration"`
}

// MigrationPhase is where the migration of a bucket stands.
// +kubebuilder:validation:Enum=Waiting;Copying;Complete;Mismatched;DryRun;Redirected;Deleted
type MigrationPhase string

const (
	// MigrationWaiting: the bucket does not exist yet, or the copy has not begun.
	MigrationWaiting MigrationPhase = "Waiting"
	// MigrationCopying: entries are being copied.
	MigrationCopying MigrationPhase = "Copying"
	// MigrationComplete: every live entry of the bucket is in the stream; later ones are followed.
	MigrationComplete MigrationPhase = "Complete"
	// MigrationMismatched: the copy is through, but the stream holds other bytes than the bucket under some ids.
	MigrationMismatched MigrationPhase = "Mismatched"
	// MigrationDryRun: the bucket was read and nothing was copied.
	MigrationDryRun MigrationPhase = "DryRun"
	// MigrationRedirected: every live entry of the bucket is in the stream, which has the bucket's subjects now.
	MigrationRedirected MigrationPhase = "Redirected"
	// MigrationDeleted: every live entry of the bucket is in the stream, and the bucket is gone.
	MigrationDeleted MigrationPhase = "Deleted"
)

// BucketMigration is how far one bucket has been moved. Once the copy is through, total is the sum of migrated,
// alreadyPresent, expired, invalid and mismatched.
type BucketMigration struct {
	// bucket is the name of the key-value bucket.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=252
	Bucket string `json:"bucket,omitempty"`

	// phase is Waiting, Copying, Complete, Mismatched, DryRun, Redirected or Deleted.
	// +optional
	Phase MigrationPhase `json:"phase,omitempty"`

	// total is the number of live entries of the bucket: last revisions of keys that are not deleted. While the copy
	// is under way it is an estimate.
	// +optional
	Total int64 `json:"total"`

	// remaining is the number of entries that are still to be dealt with: total less all the others.
	// +optional
	Remaining int64 `json:"remaining"`

	// migrated is the number of entries that the operator has copied, or in a dry run would copy.
	// +optional
	Migrated int64 `json:"migrated"`

	// alreadyPresent is the number of entries that were in the stream, with the same bytes, without the operator
	// having copied them.
	// +optional
	AlreadyPresent int64 `json:"alreadyPresent"`

	// expired is the number of entries that had outlived maxAge and were not copied.
	// +optional
	Expired int64 `json:"expired"`

	// invalid is the number of values that are not entries. They stay in the bucket.
	// +optional
	Invalid int64 `json:"invalid"`

	// invalidKeys are the first ten keys whose values are not entries.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	// +kubebuilder:validation:items:MaxLength=1024
	InvalidKeys []string `json:"invalidKeys,omitempty"`

	// mismatched is the number of entries of which the stream holds other bytes under the same id.
	// +optional
	Mismatched int64 `json:"mismatched,omitempty"`

	// mismatchedKeys are the first ten keys of which the stream holds other bytes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	// +kubebuilder:validation:items:MaxLength=1024
	MismatchedKeys []string `json:"mismatchedKeys,omitempty"`

	// lastSequence is the sequence of the bucket's backing stream up to which everything has been dealt with.
	// +optional
	LastSequence int64 `json:"lastSequence"`

	// startTime is when the copy began.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when the first complete copy was through.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// entriesPerSecond is how many entries a second the copy has dealt with since it was begun or resumed. Present only
	// while the first copy runs.
	// +optional
	EntriesPerSecond int64 `json:"entriesPerSecond,omitempty"`

	// estimatedCompletionTime is when the first copy will be through if it goes on at this rate. Present only while it
	// runs.
	// +optional
	EstimatedCompletionTime *metav1.Time `json:"estimatedCompletionTime,omitempty"`

	// digest is the order-independent SHA-256 digest of the bucket's entries that were copied or already present, in hex:
	// the sum modulo 2^256 of the SHA-256 of each entry's key, after its length in eight bytes, and its value.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Digest string `json:"digest,omitempty"`

	// verification is what the comparison of bucket and stream found when it was last made: before Migrated becomes True,
	// and before the bucket is redirected or deleted.
	// +optional
	Verification *Verification `json:"verification,omitempty"`
}

// Verification compares the entries of a bucket with what was read back from the stream. Entries that have outlived maxAge are
// on neither side.
type Verification struct {
	// time is when the comparison was made.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`

	// lastSequence is the sequence of the bucket's backing stream up to which entries were compared.
	// +optional
	LastSequence int64 `json:"lastSequence"`

	// bucketEntries is the number of entries of the bucket.
	// +optional
	BucketEntries int64 `json:"bucketEntries"`

	// bucketDigest is the digest of the entries of the bucket, as in digest.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	BucketDigest string `json:"bucketDigest,omitempty"`

	// streamEntries is the number of these entries that the stream holds.
	// +optional
	StreamEntries int64 `json:"streamEntries"`

	// removed is the number of these entries that the stream does not hold any more: maxBytes, a maxAge that was shorter when
	// they were copied, or somebody has removed them. Absent for none.
	// +optional
	Removed int64 `json:"removed,omitempty"`

	// streamDigest is the digest of these entries as the stream holds them.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	StreamDigest string `json:"streamDigest,omitempty"`
}
