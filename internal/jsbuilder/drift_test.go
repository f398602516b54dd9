package jsbuilder

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

type streamConfig = jetstream.StreamConfig

// drift is a way in which a live stream comes to differ from the declared one.
type drift struct {
	// field is the one that alter changes, along are those that the server changes with it.
	field string
	along []string
	alter func(c *streamConfig)
	// spec changes the declared stream first. The default is DropOldest and AppendOnly.
	spec func(s *v1alpha1.AuditStreamSpec)
	// atCreation is for what a server does not take in an update: the stream was made that way.
	atCreation bool
	// stuck: the server refuses to put it right.
	stuck bool
	// fileOnly is for what a memory stream cannot have.
	fileOnly bool
}

func rejectNew(s *v1alpha1.AuditStreamSpec)   { s.WhenFull = v1alpha1.WhenFullRejectNew }
func unprotected(s *v1alpha1.AuditStreamSpec) { s.Protection = v1alpha1.ProtectionNone }
func placed(s *v1alpha1.AuditStreamSpec)      { s.Placement = &v1alpha1.Placement{Tags: []string{"ssd"}} }
func bounded(s *v1alpha1.AuditStreamSpec)     { s.MaxAge, s.MaxBytes = "30d", quantity("1Mi") }

var drifts = []drift{
	{field: "description", alter: func(c *streamConfig) { c.Description = "mine" }},
	{field: "subjects", alter: func(c *streamConfig) { c.Subjects = append(c.Subjects, "more.>") }},
	{field: "subjects", alter: func(c *streamConfig) { c.Subjects = []string{"other"} }},
	{field: "retention", alter: func(c *streamConfig) { c.Retention = jetstream.InterestPolicy }},
	{field: "retention", alter: func(c *streamConfig) { c.Retention = jetstream.WorkQueuePolicy }, atCreation: true, stuck: true},
	{field: "max_consumers", alter: func(c *streamConfig) { c.MaxConsumers = 5 }},
	{field: "max_msgs", alter: func(c *streamConfig) { c.MaxMsgs = 5 }},
	{field: "max_bytes", alter: func(c *streamConfig) { c.MaxBytes = 4096 }},
	{field: "max_bytes", alter: func(c *streamConfig) { c.MaxBytes = 0 }, spec: bounded},
	{field: "discard", alter: func(c *streamConfig) { c.Discard = jetstream.DiscardNew }},
	{field: "discard_new_per_subject", alter: func(c *streamConfig) { c.DiscardNewPerSubject = false }, spec: rejectNew},
	{field: "max_age", alter: func(c *streamConfig) { c.MaxAge = time.Hour }},
	{field: "max_age", alter: func(c *streamConfig) { c.MaxAge = 0 }, spec: bounded},
	{field: "max_msgs_per_subject", alter: func(c *streamConfig) { c.MaxMsgsPerSubject = 1 }},
	{field: "max_msgs_per_subject", alter: func(c *streamConfig) { c.MaxMsgsPerSubject = 2 }, spec: rejectNew},
	{field: "max_msg_size", alter: func(c *streamConfig) { c.MaxMsgSize = 512 }},
	{field: "storage", alter: otherStorage, atCreation: true, stuck: true},
	{field: "no_ack", alter: func(c *streamConfig) { c.NoAck = true }},
	{field: "duplicate_window", alter: func(c *streamConfig) { c.Duplicates = time.Minute }},
	{field: "placement", alter: func(c *streamConfig) { c.Placement = &jetstream.Placement{Tags: []string{"hdd"}} }},
	{field: "placement", alter: func(c *streamConfig) { c.Placement = nil }, spec: placed},
	{field: "sources", alter: func(c *streamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "ORIGIN"}} }},
	{field: "sealed", along: []string{"discard"}, alter: func(c *streamConfig) { c.Sealed = true }, stuck: true},
	{field: "deny_delete", alter: func(c *streamConfig) { c.DenyDelete = false }, atCreation: true},
	{field: "deny_delete", alter: func(c *streamConfig) { c.DenyDelete = true }, spec: unprotected, stuck: true},
	{field: "deny_purge", alter: func(c *streamConfig) { c.DenyPurge = false }, atCreation: true},
	{field: "deny_purge", alter: func(c *streamConfig) { c.DenyPurge = true }, spec: unprotected, stuck: true},
	{field: "allow_rollup_hdrs", alter: func(c *streamConfig) { c.AllowRollup = true }, spec: unprotected},
	{field: "compression", alter: func(c *streamConfig) { c.Compression = jetstream.S2Compression }},
	{field: "first_seq", alter: func(c *streamConfig) { c.FirstSeq = 30 }},
	{field: "first_seq", alter: func(c *streamConfig) { c.FirstSeq = 30 }, atCreation: true},
	{field: "subject_transform", alter: func(c *streamConfig) {
		c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "audit.>", Destination: "moved.>"}
	}},
	{field: "republish", alter: func(c *streamConfig) { c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"} }},
	{field: "allow_direct", alter: func(c *streamConfig) { c.AllowDirect = false }},
	{field: "mirror_direct", alter: func(c *streamConfig) { c.MirrorDirect = true }},
	{field: "consumer_limits", alter: func(c *streamConfig) { c.ConsumerLimits.MaxAckPending = 5 }},
	{field: "allow_msg_ttl", alter: func(c *streamConfig) { c.AllowMsgTTL = false }, atCreation: true},
	{field: "subject_delete_marker_ttl", along: []string{"allow_rollup_hdrs"},
		alter: func(c *streamConfig) { c.SubjectDeleteMarkerTTL = time.Minute }, spec: unprotected},
	{field: "subject_delete_marker_ttl", along: []string{"allow_rollup_hdrs", "deny_purge"},
		alter: func(c *streamConfig) { c.SubjectDeleteMarkerTTL = time.Minute }, atCreation: true},
	{field: "allow_msg_counter", along: []string{"allow_msg_ttl"},
		alter: func(c *streamConfig) { c.AllowMsgCounter, c.AllowMsgTTL = true, false }, atCreation: true, stuck: true},
	{field: "allow_atomic", alter: func(c *streamConfig) { c.AllowAtomicPublish = false }},
	{field: "allow_msg_schedules", along: []string{"allow_rollup_hdrs"},
		alter: func(c *streamConfig) { c.AllowMsgSchedules = true }, spec: unprotected, stuck: true},
	{field: "persist_mode", along: []string{"allow_atomic"},
		alter:      func(c *streamConfig) { c.PersistMode, c.AllowAtomicPublish = jetstream.AsyncPersistMode, false },
		atCreation: true, stuck: true, fileOnly: true},
	{field: "allow_batched", alter: func(c *streamConfig) { c.AllowBatchPublish = true }},
	{field: "metadata[audit.osapi.io/owner]", alter: func(c *streamConfig) { c.Metadata[MetadataOwner] = "someone/else/here" }},
	{field: "metadata[audit.osapi.io/owner]", alter: func(c *streamConfig) { delete(c.Metadata, MetadataOwner) }},
}

// driftsElsewhere are the fields that need a test of their own.
var driftsElsewhere = []string{
	"name",         // Another name is another stream.
	"mirror",       // TestServerWouldPromoteAMirror
	"num_replicas", // TestCluster
}

func otherStorage(c *streamConfig) {
	if c.Storage == jetstream.MemoryStorage {
		c.Storage = jetstream.FileStorage
	} else {
		c.Storage = jetstream.MemoryStorage
	}
}

func TestEveryFieldHasADrift(t *testing.T) {
	tried := slices.Clone(driftsElsewhere)
	for _, d := range drifts {
		tried = append(tried, d.field)
	}
	for _, f := range fields {
		if !slices.Contains(tried, f.name) {
			t.Errorf("no test lets %s drift", f.name)
		}
	}
}

// TestDriftIsNamedAndHealed: what is altered behind the operator's back is named, exactly, and an update heals it and
// leaves others' metadata alone; what is called not fixable is refused by the server indeed.
func TestDriftIsNamedAndHealed(t *testing.T) {
	js := loneServer(t)
	for _, storage := range []v1alpha1.Storage{v1alpha1.StorageFile, v1alpha1.StorageMemory} {
		for _, d := range drifts {
			if d.fileOnly && storage == v1alpha1.StorageMemory {
				continue
			}
			t.Run(string(storage)+"/"+d.field, func(t *testing.T) {
				spec := &v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit", Storage: storage}
				if d.spec != nil {
					d.spec(spec)
				}
				checkDrift(t, js, mustBuild(t, spec), d)
			})
		}
	}
}

func checkDrift(t *testing.T, js jetstream.JetStream, want streamConfig, d drift) {
	const checkpoint = MetadataMigrationPrefix + "audit-log"
	altered := Merge(want, streamConfig{Metadata: map[string]string{"team": "payments", checkpoint: "7"}})
	d.alter(&altered)
	if !d.atCreation {
		create(t, js, want)
		update(t, js, altered)
	} else {
		create(t, js, altered)
	}
	defer remove(t, js, want.Name)

	have := info(t, js, want.Name).Config
	differences := Compare(want, have)
	expected := append([]string{d.field}, d.along...)
	slices.Sort(expected)
	if names := fieldNames(differences); !slices.Equal(names, expected) {
		t.Fatalf("Compare names %v, want %v: %+v", names, expected, differences)
	}
	isStuck := slices.ContainsFunc(differences, func(d Difference) bool { return !d.Fixable })
	if isStuck != d.stuck {
		t.Errorf("not fixable is %v, want %v: %+v", isStuck, d.stuck, differences)
	}
	merged := Merge(want, have)
	if d.stuck {
		if _, err := js.UpdateStream(t.Context(), merged); err == nil {
			t.Error("the server takes an update that is called not fixable")
		}
		return
	}
	healed := update(t, js, merged)
	if differences := Compare(want, healed); len(differences) != 0 {
		t.Errorf("after healing: %+v", differences)
	}
	if healed.Metadata["team"] != "payments" || healed.Metadata[checkpoint] != "7" {
		t.Errorf("healing lost what others keep in the metadata: %v", healed.Metadata)
	}
}

// TestServerWouldPromoteAMirror: here Compare is stricter than the server, on purpose.
func TestServerWouldPromoteAMirror(t *testing.T) {
	js := loneServer(t)
	want := mustBuild(t, &v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit"})
	mirror := Merge(want, streamConfig{})
	mirror.Subjects, mirror.Duplicates, mirror.Mirror = nil, 0, &jetstream.StreamSource{Name: "ORIGIN"}
	mirror.AllowAtomicPublish = false
	have := create(t, js, mirror)

	differences := Compare(want, have)
	if names := fieldNames(differences); !slices.Equal(names, []string{"allow_atomic", "duplicate_window", "mirror", "subjects"}) {
		t.Fatalf("Compare names %v", names)
	}
	if differences[2].Fixable {
		t.Error("a mirror is called fixable")
	}
	if d := Compare(want, update(t, js, Merge(want, have))); len(d) != 0 {
		t.Errorf("after the promotion: %+v", d)
	}
}

// TestFirstSeqIsATrap shows why first_seq is enforced: on a stream that denies deletes and purges, an update with it
// changes nothing to see, and at its next start the server purges the stream.
func TestFirstSeqIsATrap(t *testing.T) {
	for name, heal := range map[string]bool{"healed": true, "left alone": false} {
		t.Run(name, func(t *testing.T) {
			srv := natstest.Run(t)
			js := srv.JetStream()
			want := mustBuild(t, &v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit"})
			create(t, js, want)
			for _, id := range []string{"1", "2", "3"} {
				publish(t, js, "audit."+id, id)
			}
			altered := Merge(want, want)
			altered.FirstSeq = 3
			have := update(t, js, altered)
			if state := info(t, js, "AUDIT").State; state.Msgs != 3 || state.FirstSeq != 1 {
				t.Fatalf("the update is to be seen in the state at once: %+v", state)
			}
			left := uint64(0)
			if heal {
				update(t, js, Merge(want, have))
				left = 3
			}
			srv.Restart()
			if state := info(t, srv.JetStream(), "AUDIT").State; state.Msgs != left {
				t.Errorf("after the restart the stream holds %d messages, want %d", state.Msgs, left)
			}
		})
	}
}
