package v1alpha1

// Condition types of an AuditStream.
const (
	// ConditionReady is always present. It is True when the stream is as declared and every declared migration has
	// made its first complete copy.
	ConditionReady = "Ready"

	// ConditionReconciling is present, and True, only while the operator is still working towards the declared state
	// or tries again after a passing fault. It is never present together with Stalled (kstatus).
	ConditionReconciling = "Reconciling"

	// ConditionStalled is present, and True, only while the operator cannot get on before somebody changes the
	// resource or what it collides with (kstatus).
	ConditionStalled = "Stalled"

	// ConditionStreamReady says whether the JetStream stream exists, is owned by this resource and has the declared
	// configuration.
	ConditionStreamReady = "StreamReady"

	// ConditionMigrated says whether every live entry of the buckets in spec.migrateFrom is in the stream. It is
	// absent when the resource declares no migration.
	ConditionMigrated = "Migrated"
)

// Reasons of conditions and events. Each answers the question what the reader should do.
const (
	// ReasonReady: nothing to do.
	ReasonReady = "Ready"

	// ReasonSuspended: set spec.suspend to false to have the stream looked after again.
	ReasonSuspended = "Suspended"

	// ReasonMigrating: wait; status.migration shows how far the copy is.
	ReasonMigrating = "Migrating"

	// ReasonMigrationComplete: nothing to do; every live entry of the buckets is in the stream.
	ReasonMigrationComplete = "MigrationComplete"

	// ReasonDryRun: read the counts in status.migration, then take out dryRun to have the entries copied.
	ReasonDryRun = "DryRun"

	// ReasonBucketNotFound: create the bucket, or take it out of spec.migrateFrom. The operator goes on by itself
	// once it exists.
	ReasonBucketNotFound = "BucketNotFound"

	// ReasonInvalidEntries: the bucket holds values that are not entries; they stay there. Mend or remove the keys
	// that status.migration names.
	ReasonInvalidEntries = "InvalidEntries"

	// ReasonEntryMismatch: the stream holds an entry under the same id with other bytes than the bucket; nothing was
	// overwritten. Decide which one is right; status.migration names the keys.
	ReasonEntryMismatch = "EntryMismatch"

	// ReasonBucketConflict: another AuditStream moves the bucket, or its subjects were handed to another stream. Take the
	// bucket out of one of the two; the message names the other.
	ReasonBucketConflict = "BucketConflict"

	// ReasonHandingOver: wait; the entries are in the stream, and what spec.migrateFrom.afterMigration asks for is being
	// done.
	ReasonHandingOver = "HandingOver"

	// ReasonHandOverRefused: what spec.migrateFrom.afterMigration asks for cannot be done with this bucket; the message says
	// why. Mend that, or set afterMigration to Retain.
	ReasonHandOverRefused = "HandOverRefused"

	// ReasonBucketRedirected: nothing to do; what legacy writers put into the bucket lands in the stream now.
	ReasonBucketRedirected = "BucketRedirected"

	// ReasonBucketReturned: nothing to do; the bucket has its subjects back, and what is put lands there again.
	ReasonBucketReturned = "BucketReturned"

	// ReasonBucketDeleted: nothing to do; the bucket was deleted after its entries were verified in the stream.
	ReasonBucketDeleted = "BucketDeleted"

	// ReasonClockSkew: the clocks of the operator and of the NATS server differ, so that entries would count as expired that
	// are not, or the other way round. Correct them; the operator goes on by itself.
	ReasonClockSkew = "ClockSkew"

	// ReasonVerificationFailed: the stream took every entry of a bucket and does not hold them as they were; the message
	// names one. Find out who changes the stream. The bucket is untouched; the operator looks again at the next resync.
	ReasonVerificationFailed = "VerificationFailed"

	// ReasonStreamAdopted: nothing to do; the operator has taken over a stream that existed.
	ReasonStreamAdopted = "StreamAdopted"

	// ReasonStreamInSync: nothing to do; the stream is as declared.
	ReasonStreamInSync = "StreamInSync"

	// ReasonStreamDeleted: wait; a stream of this name was deleted a moment ago, and is made again within seconds.
	ReasonStreamDeleted = "StreamDeleted"

	// ReasonStreamRecreated: the stream was deleted out of band and made again. Find out who deleted it, and restore
	// the lost entries from a backup.
	ReasonStreamRecreated = "StreamRecreated"

	// ReasonDriftHealed: somebody changed the stream out of band and the operator put it right. Find out who.
	ReasonDriftHealed = "DriftHealed"

	// ReasonStreamNotOwned: a stream of this name exists that no AuditStream owns, or whose owner is gone. Set
	// spec.adoptionPolicy to Adopt to take it over, or choose another name.
	ReasonStreamNotOwned = "StreamNotOwned"

	// ReasonOwnershipConflict: another AuditStream owns the stream. Remove one of the two.
	ReasonOwnershipConflict = "OwnershipConflict"

	// ReasonSubjectOverlap: another stream captures the same subjects. Choose another subject, or change that stream.
	ReasonSubjectOverlap = "SubjectOverlap"

	// ReasonImmutableField: the live stream differs in something that cannot be changed in place. Declare what the
	// stream has, or use another stream.
	ReasonImmutableField = "ImmutableField"

	// ReasonRetentionLocked: the stream is under a retention lock, and the resource declares less than the stream has, or asks
	// for its deletion. Declare at least what the message names; the stream was left with what it has.
	ReasonRetentionLocked = "RetentionLocked"

	// ReasonReplicasUnsupported: spec.replicas asks for more than one replica of a server that is not clustered. Set
	// it to 1, or use a cluster.
	ReasonReplicasUnsupported = "ReplicasUnsupported"

	// ReasonPlacementFailed: the cluster has too few suitable peers for spec.replicas and spec.placement. The operator
	// tries again slowly.
	ReasonPlacementFailed = "PlacementFailed"

	// ReasonInvalidConfiguration: NATS refused the configuration. Change the field that the message names.
	ReasonInvalidConfiguration = "InvalidConfiguration"

	// ReasonServerTooOld: the NATS server lacks a feature that the stream needs. Upgrade it to 2.12 or newer.
	ReasonServerTooOld = "ServerTooOld"

	// ReasonResourcesExhausted: the NATS account has no room left for the stream. Raise its limits; the operator tries
	// again slowly.
	ReasonResourcesExhausted = "ResourcesExhausted"

	// ReasonStreamFull: the stream is full and set to reject new entries, or would drop its oldest entries for those of a
	// bucket. Raise spec.maxBytes; the message says how far.
	ReasonStreamFull = "StreamFull"

	// ReasonJetStreamUnavailable: the NATS account or server has no JetStream. Enable it; the operator tries again slowly.
	ReasonJetStreamUnavailable = "JetStreamUnavailable"

	// ReasonNATSUnavailable: NATS cannot be reached or does not answer; the operator goes on trying.
	ReasonNATSUnavailable = "NATSUnavailable"

	// ReasonAuthenticationFailed: NATS refuses the operator's credentials. Renew them; the operator takes up a changed
	// file without a restart.
	ReasonAuthenticationFailed = "AuthenticationFailed"

	// ReasonPermissionDenied: NATS forbids the operator's user a subject. Permit the subject that the message names.
	ReasonPermissionDenied = "PermissionDenied"

	// ReasonDeleting: wait; the stream is being deleted, as spec.deletionPolicy asks.
	ReasonDeleting = "Deleting"

	// ReasonReconcileError: a fault that should pass; the operator tries again.
	ReasonReconcileError = "ReconcileError"
)
