package jsbuilder

import (
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

func lockedSpec(change ...func(*v1alpha1.AuditStreamSpec)) *v1alpha1.AuditStreamSpec {
	spec := &v1alpha1.AuditStreamSpec{
		Stream: "AUDIT", Subject: "audit", MaxAge: "30d", MaxBytes: quantity("1Gi"), RetentionLock: v1alpha1.RetentionLockCompliance,
	}
	for _, c := range change {
		c(spec)
	}
	return spec
}

func TestBuildWritesTheLockIntoTheMetadata(t *testing.T) {
	if cfg := mustBuild(t, lockedSpec()); cfg.Metadata[MetadataRetentionLock] != "Compliance" || !Locked(cfg.Metadata) {
		t.Errorf("metadata of a locked stream: %v", cfg.Metadata)
	}
	unlocked := mustBuild(t, lockedSpec(func(s *v1alpha1.AuditStreamSpec) { s.RetentionLock = v1alpha1.RetentionLockNone }))
	if Locked(unlocked.Metadata) {
		t.Errorf("metadata of a stream without a lock: %v", unlocked.Metadata)
	}
}

func TestKeepLocked(t *testing.T) {
	spec := func(change func(*v1alpha1.AuditStreamSpec)) func(want, have *jetstream.StreamConfig) {
		return func(want, _ *jetstream.StreamConfig) { *want = mustBuild(t, lockedSpec(change)) }
	}
	live := func(change func(*jetstream.StreamConfig)) func(want, have *jetstream.StreamConfig) {
		return func(_, have *jetstream.StreamConfig) { change(have) }
	}
	tests := map[string]struct {
		change func(want, have *jetstream.StreamConfig)
		// refused are the remedies; none is that everything may be applied.
		refused []string
	}{
		"as it is":            {change: live(func(*jetstream.StreamConfig) {})},
		"a longer maxAge":     {change: spec(func(s *v1alpha1.AuditStreamSpec) { s.MaxAge = "31d" })},
		"no maxAge":           {change: spec(func(s *v1alpha1.AuditStreamSpec) { s.MaxAge = "" })},
		"a larger maxBytes":   {change: spec(func(s *v1alpha1.AuditStreamSpec) { s.MaxBytes = quantity("2Gi") })},
		"no maxBytes":         {change: spec(func(s *v1alpha1.AuditStreamSpec) { s.MaxBytes = nil })},
		"RejectNew":           {change: spec(func(s *v1alpha1.AuditStreamSpec) { s.WhenFull = v1alpha1.WhenFullRejectNew })},
		"shortened by hand":   {change: live(func(c *jetstream.StreamConfig) { c.MaxAge, c.MaxBytes = time.Hour, 1 })},
		"another key's drift": {change: live(func(c *jetstream.StreamConfig) { c.Metadata = nil })},

		"a shorter maxAge": {spec(func(s *v1alpha1.AuditStreamSpec) { s.MaxAge = "1s" }), []string{"set spec.maxAge to 30d or more"}},
		"a smaller maxBytes": {spec(func(s *v1alpha1.AuditStreamSpec) { s.MaxBytes = quantity("1") }),
			[]string{"set spec.maxBytes to 1073741824 or more"}},
		"no lock": {spec(func(s *v1alpha1.AuditStreamSpec) { s.RetentionLock = v1alpha1.RetentionLockNone }),
			[]string{"set spec.retentionLock to Compliance"}},
		"no lock and a shorter maxAge": {
			spec(func(s *v1alpha1.AuditStreamSpec) { s.RetentionLock, s.MaxAge = "", "1d" }),
			[]string{"set spec.retentionLock to Compliance", "set spec.maxAge to 30d or more"}},
		"max_age raised by hand":      {live(func(c *jetstream.StreamConfig) { c.MaxAge = 721 * time.Hour }), []string{"set spec.maxAge to 721h0m0s or more"}},
		"max_age taken off by hand":   {live(func(c *jetstream.StreamConfig) { c.MaxAge = 0 }), []string{"leave out spec.maxAge"}},
		"max_bytes taken off by hand": {live(func(c *jetstream.StreamConfig) { c.MaxBytes = 0 }), []string{"leave out spec.maxBytes"}},
		"max_bytes raised by hand beyond what can be declared": {live(func(c *jetstream.StreamConfig) { c.MaxBytes = 7<<60 + 1 }),
			[]string{"leave out spec.maxBytes"}},
		"DropOldest for RejectNew": {
			live(func(c *jetstream.StreamConfig) {
				c.Discard, c.DiscardNewPerSubject, c.MaxMsgsPerSubject = jetstream.DiscardNew, true, 1
			}),
			[]string{"set spec.whenFull to RejectNew"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want, have := mustBuild(t, lockedSpec()), mustBuild(t, lockedSpec())
			tt.change(&want, &have)
			declared := want
			declared.Metadata = maps.Clone(want.Metadata)
			kept, refused := KeepLocked(want, have)
			var remedies []string
			for _, r := range refused {
				remedies = append(remedies, r.Remedy)
			}
			if !reflect.DeepEqual(remedies, tt.refused) {
				t.Errorf("refused %q, want %q", remedies, tt.refused)
			}
			if len(tt.refused) == 0 && !reflect.DeepEqual(kept, declared) {
				t.Errorf("kept:\n got %+v\nwant %+v", kept, declared)
			}
			if !reflect.DeepEqual(want, declared) {
				t.Errorf("KeepLocked has changed what was declared: %+v", want)
			}
			if again, _ := KeepLocked(kept, have); !reflect.DeepEqual(again, kept) || !Locked(kept.Metadata) {
				t.Errorf("what is kept shortens still: %+v, then %+v", kept, again)
			}
		})
	}
}

// What is taken over from a live stream in which somebody has set discard by hand must not make it drop first messages.
func TestKeepLockedTakesNoLimitPerSubjectThatDrops(t *testing.T) {
	want, have := mustBuild(t, lockedSpec()), mustBuild(t, lockedSpec())
	have.Discard, have.MaxMsgsPerSubject = jetstream.DiscardNew, 1
	kept, _ := KeepLocked(want, have)
	if kept.Discard != jetstream.DiscardNew || kept.MaxMsgsPerSubject != unlimited || kept.DiscardNewPerSubject {
		t.Errorf("kept discard %s, %d messages under a subject, discard_new_per_subject %t", kept.Discard, kept.MaxMsgsPerSubject, kept.DiscardNewPerSubject)
	}
}

func TestKeepLockedSaysWhatDiffers(t *testing.T) {
	want, have := mustBuild(t, lockedSpec()), mustBuild(t, lockedSpec())
	want.MaxAge = time.Second
	_, refused := KeepLocked(want, have)
	if len(refused) != 1 || refused[0].Field != "max_age" || refused[0].Have != "720h0m0s" || !strings.HasPrefix(refused[0].Want, "1s") {
		t.Errorf("refused %+v", refused)
	}
}
