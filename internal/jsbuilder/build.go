package jsbuilder

import (
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

const (
	unlimited        = -1
	defaultReplicas  = 1
	largestReplicas  = 5
	defaultDuplicate = 2 * time.Minute
	// largestBytes is the CRD's limit. A quantity of 8Ei and more is silently taken for one byte less than 8Ei.
	largestBytes = 7 << 60
)

// Build returns the full configuration that spec declares for the AuditStream namespace/name, owned by owner (see
// OwnerValue). A field that is empty gets the CRD's default, so that a spec that never went through the API server
// builds the same stream. It fails where the spec holds what the CRD refuses; the error names field and value.
//
// The configuration is explicit: nothing in it is left for the server to fill in, so that a live stream can be held
// against it field by field.
func Build(spec *v1alpha1.AuditStreamSpec, namespace, name, owner string) (jetstream.StreamConfig, error) {
	b := builder{cfg: base(namespace, name, owner)}
	if spec == nil {
		return jetstream.StreamConfig{}, fmt.Errorf("AuditStream %s/%s has no spec: give one with stream and subject", namespace, name)
	}
	b.names(spec)
	b.retention(spec)
	b.whenFull(spec)
	b.storage(spec)
	b.protection(spec)
	if b.err != nil {
		return jetstream.StreamConfig{}, fmt.Errorf("AuditStream %s/%s: %w", namespace, name, b.err)
	}
	return b.cfg, nil
}

// base holds what every audit stream has. allow_direct lets readers ask any replica, allow_msg_ttl lets migrated
// entries keep what is left of their time, and allow_atomic lets them come in batches that keep their order (docs/adr/0006).
func base(namespace, name, owner string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Description:        fmt.Sprintf("Audit trail of AuditStream %s/%s", namespace, name),
		Retention:          jetstream.LimitsPolicy,
		MaxConsumers:       unlimited,
		MaxMsgs:            unlimited,
		MaxBytes:           unlimited,
		MaxMsgsPerSubject:  unlimited,
		MaxMsgSize:         unlimited,
		AllowDirect:        true,
		AllowMsgTTL:        true,
		AllowAtomicPublish: true,
		Metadata:           map[string]string{MetadataOwner: owner},
	}
}

// builder fills in one group of fields after the other and keeps the first error.
type builder struct {
	cfg jetstream.StreamConfig
	err error
}

func (b *builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *builder) names(spec *v1alpha1.AuditStreamSpec) {
	if err := checkStreamName(spec.Stream); err != nil {
		b.fail(err)
	}
	if err := checkSubject(spec.Subject); err != nil {
		b.fail(err)
	}
	b.cfg.Name = spec.Stream
	b.cfg.Subjects = []string{spec.Subject + ".>"}
	if len(spec.MigrateFrom) > 0 {
		b.cfg.SubjectTransform = bucketTransform(b.cfg.Subjects[0])
	}
}

// retention sets the limits in time and size. A server refuses a duplicate window that is longer than max_age. (It
// also refuses one that is longer than its own jetstream.limits.duplicate_window, if that is below two minutes.)
func (b *builder) retention(spec *v1alpha1.AuditStreamSpec) {
	age, err := ParseMaxAge(spec.MaxAge)
	if err != nil {
		b.fail(err)
	}
	b.cfg.MaxAge = age
	b.cfg.Duplicates = duplicateWindow(age)
	if spec.MaxBytes != nil {
		if b.cfg.MaxBytes, err = wholeBytes(*spec.MaxBytes); err != nil {
			b.fail(err)
		}
	}
}

// whenFull sets the discard policy. RejectNew allows one message under an id and has the server refuse the second.
// DropOldest must never limit the messages under an id: with that policy the server would drop the first one.
func (b *builder) whenFull(spec *v1alpha1.AuditStreamSpec) {
	switch spec.WhenFull {
	case "", v1alpha1.WhenFullDropOldest:
		b.cfg.Discard = jetstream.DiscardOld
	case v1alpha1.WhenFullRejectNew:
		b.cfg.Discard = jetstream.DiscardNew
		b.cfg.MaxMsgsPerSubject = 1
		b.cfg.DiscardNewPerSubject = true
	default:
		b.fail(unknownValue("whenFull", string(spec.WhenFull), "DropOldest or RejectNew"))
	}
}

func (b *builder) storage(spec *v1alpha1.AuditStreamSpec) {
	switch spec.Storage {
	case "", v1alpha1.StorageFile:
		b.cfg.Storage = jetstream.FileStorage
	case v1alpha1.StorageMemory:
		b.cfg.Storage = jetstream.MemoryStorage
	default:
		b.fail(unknownValue("storage", string(spec.Storage), "File or Memory"))
	}
	switch spec.Compression {
	case "", v1alpha1.CompressionNone:
		b.cfg.Compression = jetstream.NoCompression
	case v1alpha1.CompressionS2:
		b.cfg.Compression = jetstream.S2Compression
	default:
		b.fail(unknownValue("compression", string(spec.Compression), "None or S2"))
	}
	b.cfg.Replicas = defaultReplicas
	if spec.Replicas != 0 {
		b.cfg.Replicas = int(spec.Replicas)
	}
	if b.cfg.Replicas < 1 || b.cfg.Replicas > largestReplicas {
		b.fail(fmt.Errorf("replicas %d is out of range: give 1 to %d", spec.Replicas, largestReplicas))
	}
	if p := spec.Placement; p != nil && (p.Cluster != "" || len(p.Tags) > 0) {
		b.cfg.Placement = &jetstream.Placement{Cluster: p.Cluster, Tags: slices.Clone(p.Tags)}
	}
}

func (b *builder) protection(spec *v1alpha1.AuditStreamSpec) {
	switch spec.Protection {
	case "", v1alpha1.ProtectionAppendOnly:
		b.cfg.DenyDelete, b.cfg.DenyPurge = true, true
	case v1alpha1.ProtectionNone:
	default:
		b.fail(unknownValue("protection", string(spec.Protection), "AppendOnly or None"))
	}
	switch spec.RetentionLock {
	case "", v1alpha1.RetentionLockNone:
	case v1alpha1.RetentionLockCompliance:
		b.cfg.Metadata[MetadataRetentionLock] = lockValue
	default:
		b.fail(unknownValue("retentionLock", string(spec.RetentionLock), "None or Compliance"))
	}
}

// duplicateWindow is what the server takes for itself when it is given none.
func duplicateWindow(maxAge time.Duration) time.Duration {
	if maxAge > 0 && maxAge < defaultDuplicate {
		return maxAge
	}
	return defaultDuplicate
}

func wholeBytes(q resource.Quantity) (int64, error) {
	n := q.Value()
	if n < 1 || n > largestBytes || q.CmpInt64(n) != 0 {
		return 0, fmt.Errorf("maxBytes %s is not a size: give a whole number of bytes, at least 1 and at most 7Ei, "+
			"such as 50Mi or 10G, or leave it out for no limit", q.String())
	}
	return n, nil
}

func unknownValue(field, value, want string) error {
	return fmt.Errorf("%s %.64q is unknown: give %s", field, value, want)
}
