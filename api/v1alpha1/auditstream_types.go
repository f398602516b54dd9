package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WhenFull says what maxBytes means once the stream has reached it.
// +kubebuilder:validation:Enum=DropOldest;RejectNew
type WhenFull string

const (
	// WhenFullDropOldest removes the oldest entries to make room for new ones.
	WhenFullDropOldest WhenFull = "DropOldest"
	// WhenFullRejectNew refuses new entries, and makes the server refuse a second message under an id.
	WhenFullRejectNew WhenFull = "RejectNew"
)

// Storage says where JetStream keeps the stream.
// +kubebuilder:validation:Enum=File;Memory
type Storage string

const (
	// StorageFile keeps the stream on disk.
	StorageFile Storage = "File"
	// StorageMemory keeps the stream in memory: a restart of all its servers loses it.
	StorageMemory Storage = "Memory"
)

// Compression says how JetStream stores the messages of a file stream.
// +kubebuilder:validation:Enum=None;S2
type Compression string

const (
	// CompressionNone stores messages as they are.
	CompressionNone Compression = "None"
	// CompressionS2 compresses messages with S2.
	CompressionS2 Compression = "S2"
)

// Protection says what the server forbids everybody to do to stored entries.
// +kubebuilder:validation:Enum=AppendOnly;None
type Protection string

const (
	// ProtectionAppendOnly has the server refuse to delete or purge messages.
	ProtectionAppendOnly Protection = "AppendOnly"
	// ProtectionNone lets users with the permission delete and purge messages.
	ProtectionNone Protection = "None"
)

// RetentionLock says whether the declared retention may be shortened.
// +kubebuilder:validation:Enum=None;Compliance
type RetentionLock string

const (
	// RetentionLockNone lets retention be changed either way.
	RetentionLockNone RetentionLock = "None"
	// RetentionLockCompliance lets retention only grow.
	RetentionLockCompliance RetentionLock = "Compliance"
)

// DeletionPolicy says what becomes of the stream when the AuditStream goes.
// +kubebuilder:validation:Enum=Retain;Delete
type DeletionPolicy string

const (
	// DeletionPolicyRetain keeps the stream and its entries.
	DeletionPolicyRetain DeletionPolicy = "Retain"
	// DeletionPolicyDelete deletes the stream with all its entries.
	DeletionPolicyDelete DeletionPolicy = "Delete"
)

// AdoptionPolicy says whether an existing stream may be taken over.
// +kubebuilder:validation:Enum=Never;Adopt
type AdoptionPolicy string

const (
	// AdoptionPolicyNever leaves an existing stream alone.
	AdoptionPolicyNever AdoptionPolicy = "Never"
	// AdoptionPolicyAdopt takes over an existing stream that no AuditStream owns.
	AdoptionPolicyAdopt AdoptionPolicy = "Adopt"
)

// AfterMigration says what becomes of a legacy bucket once its entries are in the stream.
// +kubebuilder:validation:Enum=Retain;Redirect;Delete
type AfterMigration string

const (
	// AfterMigrationRetain leaves the bucket as it is and goes on following it.
	AfterMigrationRetain AfterMigration = "Retain"
	// AfterMigrationRedirect hands the bucket's subjects to the stream.
	AfterMigrationRedirect AfterMigration = "Redirect"
	// AfterMigrationDelete deletes the bucket.
	AfterMigrationDelete AfterMigration = "Delete"
)

// The last rule on the spec compares two maxAges, each in any notation, as points in time after the epoch: CEL cannot
// multiply a duration, and a duration put together as text exceeds the cost that the API server allows a rule.

// AuditStreamSpec is the declared state of an audit stream.
//
// +kubebuilder:validation:XValidation:rule="!has(self.connection)",message="connection is not available in this release: leave it out, and the operator's default connection is used"
// +kubebuilder:validation:XValidation:rule="!(self.retentionLock == 'Compliance' && self.deletionPolicy == 'Delete')",message="deletionPolicy: Delete is refused while retentionLock is Compliance: use deletionPolicy: Retain"
// +kubebuilder:validation:XValidation:rule="!(self.retentionLock == 'Compliance' && self.protection == 'None')",message="retentionLock: Compliance needs protection: AppendOnly, otherwise entries could be deleted before their time"
// +kubebuilder:validation:XValidation:rule="self.retentionLock != 'Compliance' || !has(self.migrateFrom) || self.migrateFrom.all(m, m.afterMigration != 'Delete')",message="afterMigration: Delete is refused while retentionLock is Compliance: use Retain or Redirect"
// +kubebuilder:validation:XValidation:rule="oldSelf.retentionLock != 'Compliance' || !(oldSelf.whenFull == 'RejectNew' && self.whenFull == 'DropOldest')",message="whenFull cannot go from RejectNew to DropOldest while retentionLock is Compliance: entries could be dropped before their time"
// +kubebuilder:validation:XValidation:rule="oldSelf.retentionLock != 'Compliance' || !has(self.maxBytes) || (has(oldSelf.maxBytes) && quantity(string(self.maxBytes)).compareTo(quantity(string(oldSelf.maxBytes))) >= 0)",message="maxBytes can only grow while retentionLock is Compliance: give the old value or a larger one, or leave the field out for no limit"
// +kubebuilder:validation:XValidation:rule="oldSelf.retentionLock != 'Compliance' || !has(self.maxAge) || (has(oldSelf.maxAge) && (self.maxAge.matches('[dwy]$') ? timestamp(int(self.maxAge.substring(0, self.maxAge.size() - 1)) * (self.maxAge.endsWith('d') ? 86400 : self.maxAge.endsWith('w') ? 604800 : 31536000)) : timestamp(0) + duration(self.maxAge)) >= (oldSelf.maxAge.matches('[dwy]$') ? timestamp(int(oldSelf.maxAge.substring(0, oldSelf.maxAge.size() - 1)) * (oldSelf.maxAge.endsWith('d') ? 86400 : oldSelf.maxAge.endsWith('w') ? 604800 : 31536000)) : timestamp(0) + duration(oldSelf.maxAge)))",message="maxAge can only grow while retentionLock is Compliance: give the old value or a longer one, or leave the field out to keep entries for ever"
type AuditStreamSpec struct {
	// stream is the name of the JetStream stream. It is 1 to 255 printable ASCII characters without space and without
	// any of . * > / \, and does not begin with $, KV_ or OBJ_, which are JetStream's own. It cannot be changed: two
	// names are two streams.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="self.matches('^[!-~]+$') && !self.matches('[.*>/\\\\\\\\]')",message="stream must be a NATS stream name: printable ASCII characters, no spaces, none of . * > / \\"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([$]|KV_|OBJ_)')",message="stream must not begin with $, KV_ or OBJ_: these names belong to JetStream's own streams, key-value buckets and object stores"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="stream cannot be changed: create another AuditStream for another stream"
	Stream string `json:"stream,omitempty"`

	// subject is the base subject. The stream captures <subject>.>, and an entry is stored under <subject>.<id>. It is
	// 1 to 255 characters: one or more literal tokens separated by dots, printable ASCII without space and wildcards
	// (* and >), not beginning with $ or _INBOX. It cannot be changed: entries under the old subject would be lost to
	// readers.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="self.matches('^[!-~]+$') && !self.matches('[*>]') && !self.matches('(^[.])|([.]$)|([.][.])')",message="subject must be literal NATS subject tokens separated by single dots, such as audit or payments.audit: no wildcards (* or >), no spaces, no empty tokens; the operator adds .> by itself"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([$]|_INBOX([.]|$))')",message="subject must not begin with $ or _INBOX: these subjects belong to NATS itself"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="subject cannot be changed: readers would lose the entries under the old one; create another AuditStream for another subject"
	Subject string `json:"subject,omitempty"`

	// maxAge is how long an entry is kept, counted from when it was first recorded, also when it was moved here from a
	// bucket. It is a Go duration with units from h down to ns in that order (720h, 1h30m) or a whole number of days,
	// weeks or years (30d, 4w, 7y; a year is 365 days), at least 100ms and at most 292y. Absent keeps entries for
	// ever. Shortening it deletes entries that are older at once, unless retentionLock forbids it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,9})?h)?([0-9]{1,7}([.][0-9]{1,9})?m)?([0-9]{1,9}([.][0-9]{1,9})?s)?([0-9]{1,9}([.][0-9]{1,9})?ms)?([0-9]{1,9}([.][0-9]{1,9})?us)?([0-9]{1,9}ns)?$') || self.matches('^([0-9]{1,6}d|[0-9]{1,5}w|[0-9]{1,3}y)$')",message="maxAge must be a Go duration such as 720h or 1h30m (up to 999999h), or a whole number of days, weeks or years such as 30d, 4w or 7y"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}d|[0-9]{1,5}w|[0-9]{1,3}y)$') || (int(self.substring(0, self.size() - 1)) >= 1 && int(self.substring(0, self.size() - 1)) <= (self.endsWith('d') ? 106580 : self.endsWith('w') ? 15225 : 292))",message="maxAge must be at least 1d and at most 292y (106580d, 15225w); leave it out to keep entries for ever"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}([.][0-9]{1,9})?h)?([0-9]{1,7}([.][0-9]{1,9})?m)?([0-9]{1,9}([.][0-9]{1,9})?s)?([0-9]{1,9}([.][0-9]{1,9})?ms)?([0-9]{1,9}([.][0-9]{1,9})?us)?([0-9]{1,9}ns)?$') || duration(self) >= duration('100ms')",message="maxAge must be at least 100ms, the shortest that NATS keeps a message; leave it out to keep entries for ever"
	MaxAge string `json:"maxAge,omitempty"`

	// maxBytes is the size the stream may reach, in bytes as a quantity (50Mi, 10G), at least 1 and at most 7Ei. What
	// happens then is whenFull's to say. Absent sets no limit.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isGreaterThan(quantity('0')) && !quantity(string(self)).isGreaterThan(quantity('7Ei')) && (quantity(string(self)).isInteger() || quantity(string(self)).sub(int(quantity(string(self)).asApproximateFloat())).compareTo(quantity('0')) == 0)",message="maxBytes must be a whole number of bytes, at least 1 and at most 7Ei, such as 50Mi or 10G; leave it out for no limit"
	MaxBytes *resource.Quantity `json:"maxBytes,omitempty"`

	// whenFull says what happens once maxBytes is reached: DropOldest (the default) removes the oldest entries,
	// RejectNew refuses new ones. RejectNew also lets the server itself refuse a second message under an id.
	// +optional
	// +kubebuilder:default=DropOldest
	WhenFull WhenFull `json:"whenFull,omitempty"`

	// storage is where JetStream keeps the stream: File (the default) or Memory. It cannot be changed.
	// +optional
	// +kubebuilder:default=File
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="storage cannot be changed: JetStream cannot move a stream between File and Memory; create another AuditStream"
	Storage Storage `json:"storage,omitempty"`

	// replicas is how many servers keep a copy of the stream, 1 to 5; the default is 1. More than 1 needs a NATS
	// cluster.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=5
	Replicas int32 `json:"replicas,omitempty"`

	// compression is how a file stream is stored: None (the default) or S2.
	// +optional
	// +kubebuilder:default=None
	Compression Compression `json:"compression,omitempty"`

	// placement says which servers may keep the stream. Absent leaves it to NATS.
	// +optional
	Placement *Placement `json:"placement,omitempty"`

	// protection is what the server forbids everybody to do to stored entries: AppendOnly (the default) refuses to
	// delete or purge messages, None does not. It cannot go from AppendOnly to None: NATS has no way back.
	// +optional
	// +kubebuilder:default=AppendOnly
	// +kubebuilder:validation:XValidation:rule="!(oldSelf == 'AppendOnly' && self == 'None')",message="protection cannot go from AppendOnly to None: NATS does not lift deny_delete and deny_purge from a stream"
	Protection Protection `json:"protection,omitempty"`

	// retentionLock is None (the default) or Compliance, under which maxAge and maxBytes can only grow, whenFull cannot
	// become DropOldest, and deletionPolicy: Delete and protection: None are refused. It cannot go from Compliance to
	// None. The lock is kept with the stream, in its metadata, and outlives this resource: one that is applied later and
	// declares less than the stream has is not ready, with the reason RetentionLocked, and neither shortens the stream's
	// retention nor deletes it.
	// +optional
	// +kubebuilder:default=None
	// +kubebuilder:validation:XValidation:rule="!(oldSelf == 'Compliance' && self == 'None')",message="retentionLock cannot go from Compliance to None: a lock that can be lifted would prove nothing"
	RetentionLock RetentionLock `json:"retentionLock,omitempty"`

	// deletionPolicy is what becomes of the stream when this resource goes: Retain (the default) keeps it with all its
	// entries, Delete deletes it.
	// +optional
	// +kubebuilder:default=Retain
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// adoptionPolicy is whether an existing stream of this name that no AuditStream owns may be taken over: Never (the
	// default) or Adopt. A stream taken over gets the declared configuration: one with a longer retention than
	// declared loses its oldest entries at once, except under a retention lock: that one is not taken over.
	// +optional
	// +kubebuilder:default=Never
	AdoptionPolicy AdoptionPolicy `json:"adoptionPolicy,omitempty"`

	// suspend stops, when true, the operator from looking after the stream. The Ready condition says so. Deletion still
	// happens as deletionPolicy asks. The default is false.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// connection is how to reach NATS, whole or absent: absent uses the operator's default connection. It is not
	// available in this release and refused.
	// +optional
	Connection *Connection `json:"connection,omitempty"`

	// migrateFrom lists the legacy key-value buckets whose entries are moved into the stream, at most 8. A bucket that
	// does not exist yet is waited for.
	// +optional
	// +listType=map
	// +listMapKey=bucket
	// +kubebuilder:validation:MaxItems=8
	MigrateFrom []MigrationSource `json:"migrateFrom,omitempty"`
}

// Placement says which servers may keep the stream.
// +kubebuilder:validation:MinProperties=1
type Placement struct {
	// cluster is the name of the NATS cluster to keep the stream in. Absent is the cluster the operator is connected to.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Cluster string `json:"cluster,omitempty"`

	// tags are server tags that each server must have, at most 16.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=255
	Tags []string `json:"tags,omitempty"`
}

// Connection is how to reach NATS.
type Connection struct {
	// servers are the URLs of the NATS servers, 1 to 16.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=1024
	Servers []string `json:"servers,omitempty"`

	// credentialsSecret names a Secret in the same namespace with the user's credentials.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	CredentialsSecret string `json:"credentialsSecret,omitempty"`

	// tlsSecret names a Secret in the same namespace with ca.crt, and tls.crt and tls.key where the servers ask for a
	// client certificate.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	TLSSecret string `json:"tlsSecret,omitempty"`

	// domain is the JetStream domain. Absent is the domain of the servers.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Domain string `json:"domain,omitempty"`
}

// MigrationSource is a legacy key-value bucket whose entries are moved into the stream.
type MigrationSource struct {
	// bucket is the name of the NATS key-value bucket: 1 to 252 of A-Z, a-z, 0-9, _ and -.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=252
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_-]+$')",message="bucket must be a NATS key-value bucket name: letters, digits, _ and - only"
	Bucket string `json:"bucket,omitempty"`

	// afterMigration is what becomes of the bucket once its entries are in the stream and verified. Retain (the default)
	// leaves it as it is and goes on following it. Redirect hands its subjects to the stream, so that what legacy writers
	// put lands there, and keeps the bucket for legacy readers; Retain gives the subjects back. Delete deletes the bucket,
	// which is refused while retentionLock is Compliance. Neither happens while the bucket holds a value that is not an
	// entry, or one that differs from the stream's.
	// +optional
	// +kubebuilder:default=Retain
	AfterMigration AfterMigration `json:"afterMigration,omitempty"`

	// dryRun counts, when true, in status what would be copied, what has expired and what is invalid, and copies
	// nothing. The default is false.
	// +optional
	DryRun bool `json:"dryRun,omitempty"`
}

// AuditStream is an append-only audit trail: a JetStream stream that the operator creates, hardens and keeps as
// declared, with the entries of legacy key-value buckets moved in. An entry is a message under <subject>.<id>.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=auditstreams,shortName=aus,categories={nats,audit}
// +kubebuilder:printcolumn:name="Stream",type=string,JSONPath=`.spec.stream`
// +kubebuilder:printcolumn:name="Subject",type=string,JSONPath=`.spec.subject`
// +kubebuilder:printcolumn:name="Max Age",type=string,JSONPath=`.spec.maxAge`
// +kubebuilder:printcolumn:name="Migrated",type=string,JSONPath=`.status.migrationProgress`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Entries",type=integer,JSONPath=`.status.stream.entries`,priority=1
// +kubebuilder:printcolumn:name="Bytes",type=integer,JSONPath=`.status.stream.bytes`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
type AuditStream struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the declared state.
	// +required
	Spec AuditStreamSpec `json:"spec,omitzero"`

	// status is the observed state. A fresh object has observedGeneration -1, so that nobody takes it for ready.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status AuditStreamStatus `json:"status,omitzero"`
}

// AuditStreamList is a list of AuditStreams.
//
// +kubebuilder:object:root=true
type AuditStreamList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AuditStream `json:"items"`
}
