package jsbuilder

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

const testOwner = "uid-1/payments/api-audit"

func mustBuild(tb testing.TB, spec *v1alpha1.AuditStreamSpec) jetstream.StreamConfig {
	tb.Helper()
	cfg, err := Build(spec, "payments", "api-audit", testOwner)
	if err != nil {
		tb.Fatalf("Build: %v", err)
	}
	return cfg
}

func quantity(s string) *resource.Quantity {
	q := resource.MustParse(s)
	return &q
}

// hardened is what a spec of nothing but stream and subject declares.
func hardened() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               "AUDIT",
		Description:        "Audit trail of AuditStream payments/api-audit",
		Subjects:           []string{"audit.>"},
		Retention:          jetstream.LimitsPolicy,
		MaxConsumers:       -1,
		MaxMsgs:            -1,
		MaxBytes:           -1,
		Discard:            jetstream.DiscardOld,
		MaxMsgsPerSubject:  -1,
		MaxMsgSize:         -1,
		Storage:            jetstream.FileStorage,
		Replicas:           1,
		Duplicates:         2 * time.Minute,
		DenyDelete:         true,
		DenyPurge:          true,
		Compression:        jetstream.NoCompression,
		AllowDirect:        true,
		AllowMsgTTL:        true,
		AllowAtomicPublish: true,
		Metadata:           map[string]string{MetadataOwner: testOwner},
	}
}

func TestBuild(t *testing.T) {
	tests := map[string]struct {
		spec   v1alpha1.AuditStreamSpec
		expect func(cfg *jetstream.StreamConfig)
	}{
		"nothing but names": {expect: func(*jetstream.StreamConfig) {}},
		"the defaults written out": {
			spec: v1alpha1.AuditStreamSpec{
				WhenFull: v1alpha1.WhenFullDropOldest, Storage: v1alpha1.StorageFile, Replicas: 1,
				Compression: v1alpha1.CompressionNone, Protection: v1alpha1.ProtectionAppendOnly,
			},
			expect: func(*jetstream.StreamConfig) {},
		},
		"maxAge": {
			spec:   v1alpha1.AuditStreamSpec{MaxAge: "30d"},
			expect: func(cfg *jetstream.StreamConfig) { cfg.MaxAge = 720 * time.Hour },
		},
		"the duplicate window is never longer than maxAge": {
			spec: v1alpha1.AuditStreamSpec{MaxAge: "100ms"},
			expect: func(cfg *jetstream.StreamConfig) {
				cfg.MaxAge, cfg.Duplicates = 100*time.Millisecond, 100*time.Millisecond
			},
		},
		"maxBytes": {
			spec:   v1alpha1.AuditStreamSpec{MaxBytes: quantity("50Mi")},
			expect: func(cfg *jetstream.StreamConfig) { cfg.MaxBytes = 50 << 20 },
		},
		"maxBytes in thousandths that are whole": {
			spec:   v1alpha1.AuditStreamSpec{MaxBytes: quantity("2000m")},
			expect: func(cfg *jetstream.StreamConfig) { cfg.MaxBytes = 2 },
		},
		"RejectNew": {
			spec: v1alpha1.AuditStreamSpec{WhenFull: v1alpha1.WhenFullRejectNew},
			expect: func(cfg *jetstream.StreamConfig) {
				cfg.Discard, cfg.DiscardNewPerSubject, cfg.MaxMsgsPerSubject = jetstream.DiscardNew, true, 1
			},
		},
		"storage, replicas and compression": {
			spec: v1alpha1.AuditStreamSpec{Storage: v1alpha1.StorageMemory, Replicas: 5, Compression: v1alpha1.CompressionS2},
			expect: func(cfg *jetstream.StreamConfig) {
				cfg.Storage, cfg.Replicas, cfg.Compression = jetstream.MemoryStorage, 5, jetstream.S2Compression
			},
		},
		"placement": {
			spec: v1alpha1.AuditStreamSpec{Placement: &v1alpha1.Placement{Cluster: "east", Tags: []string{"ssd", "eu"}}},
			expect: func(cfg *jetstream.StreamConfig) {
				cfg.Placement = &jetstream.Placement{Cluster: "east", Tags: []string{"ssd", "eu"}}
			},
		},
		"empty placement": {
			spec:   v1alpha1.AuditStreamSpec{Placement: &v1alpha1.Placement{}},
			expect: func(*jetstream.StreamConfig) {},
		},
		"no protection": {
			spec:   v1alpha1.AuditStreamSpec{Protection: v1alpha1.ProtectionNone},
			expect: func(cfg *jetstream.StreamConfig) { cfg.DenyDelete, cfg.DenyPurge = false, false },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.spec.Stream, tt.spec.Subject = "AUDIT", "audit"
			want := hardened()
			tt.expect(&want)
			if got := mustBuild(t, &tt.spec); !reflect.DeepEqual(got, want) {
				t.Errorf("Build:\n got %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestBuildSharesNoMemoryWithTheSpec(t *testing.T) {
	spec := v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit", Placement: &v1alpha1.Placement{Tags: []string{"ssd"}}}
	cfg := mustBuild(t, &spec)
	cfg.Placement.Tags[0] = "changed"
	if spec.Placement.Tags[0] != "ssd" {
		t.Error("changing the configuration changed the spec")
	}
}

func TestBuildRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(s *v1alpha1.AuditStreamSpec)
		want   []string
	}{
		"empty stream":           {func(s *v1alpha1.AuditStreamSpec) { s.Stream = "" }, []string{"stream", "1 to 255 printable"}},
		"stream with a dot":      {func(s *v1alpha1.AuditStreamSpec) { s.Stream = "a.b" }, []string{`"a.b"`, "none of"}},
		"stream with a space":    {func(s *v1alpha1.AuditStreamSpec) { s.Stream = "a b" }, []string{`"a b"`, "no spaces"}},
		"stream too long":        {func(s *v1alpha1.AuditStreamSpec) { s.Stream = strings.Repeat("a", 256) }, []string{"1 to 255"}},
		"stream of a bucket":     {func(s *v1alpha1.AuditStreamSpec) { s.Stream = "KV_a" }, []string{"KV_a", "belongs to JetStream"}},
		"empty subject":          {func(s *v1alpha1.AuditStreamSpec) { s.Subject = "" }, []string{"subject", "literal tokens"}},
		"subject with wildcard":  {func(s *v1alpha1.AuditStreamSpec) { s.Subject = "audit.>" }, []string{`"audit.>"`, "literal"}},
		"subject with hole":      {func(s *v1alpha1.AuditStreamSpec) { s.Subject = "a..b" }, []string{`"a..b"`, "empty token"}},
		"subject of the API":     {func(s *v1alpha1.AuditStreamSpec) { s.Subject = "$JS.x" }, []string{`"$JS.x"`, "belongs to NATS"}},
		"subject of inboxes":     {func(s *v1alpha1.AuditStreamSpec) { s.Subject = "_INBOX.a" }, []string{`"_INBOX.a"`, "belongs to NATS"}},
		"maxAge":                 {func(s *v1alpha1.AuditStreamSpec) { s.MaxAge = "1fortnight" }, []string{"maxAge", "1fortnight", "30d"}},
		"maxBytes zero":          {func(s *v1alpha1.AuditStreamSpec) { s.MaxBytes = quantity("0") }, []string{"maxBytes 0", "50Mi"}},
		"maxBytes negative":      {func(s *v1alpha1.AuditStreamSpec) { s.MaxBytes = quantity("-1") }, []string{"maxBytes -1", "50Mi"}},
		"maxBytes fraction":      {func(s *v1alpha1.AuditStreamSpec) { s.MaxBytes = quantity("1500m") }, []string{"maxBytes 1500m", "whole number"}},
		"maxBytes too many":      {func(s *v1alpha1.AuditStreamSpec) { s.MaxBytes = quantity("8Ei") }, []string{"maxBytes", "at most 7Ei"}},
		"whenFull":               {func(s *v1alpha1.AuditStreamSpec) { s.WhenFull = "Explode" }, []string{"whenFull", "Explode", "RejectNew"}},
		"storage":                {func(s *v1alpha1.AuditStreamSpec) { s.Storage = "Tape" }, []string{"storage", "Tape", "Memory"}},
		"compression":            {func(s *v1alpha1.AuditStreamSpec) { s.Compression = "Zip" }, []string{"compression", "Zip", "S2"}},
		"protection":             {func(s *v1alpha1.AuditStreamSpec) { s.Protection = "Some" }, []string{"protection", "Some", "AppendOnly"}},
		"retentionLock":          {func(s *v1alpha1.AuditStreamSpec) { s.RetentionLock = "Some" }, []string{"retentionLock", "Some", "Compliance"}},
		"replicas too many":      {func(s *v1alpha1.AuditStreamSpec) { s.Replicas = 6 }, []string{"replicas 6", "1 to 5"}},
		"replicas negative":      {func(s *v1alpha1.AuditStreamSpec) { s.Replicas = -1 }, []string{"replicas -1", "1 to 5"}},
		"the first of two wrong": {func(s *v1alpha1.AuditStreamSpec) { s.Stream, s.MaxAge = "", "x" }, []string{"stream"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit"}
			tt.change(&spec)
			cfg, err := Build(&spec, "payments", "api-audit", testOwner)
			if err == nil {
				t.Fatalf("Build = %+v, want an error", cfg)
			}
			for _, part := range append(tt.want, "payments/api-audit") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error %q does not say %q", err, part)
				}
			}
		})
	}
	if _, err := Build(nil, "payments", "api-audit", testOwner); err == nil {
		t.Error("Build of no spec succeeded")
	}
}

func FuzzBuildCompare(f *testing.F) {
	f.Add("AUDIT", "audit", "30d", int64(1<<20), int32(1), "RejectNew", "File", "S2", "None", "east", "ssd")
	f.Add("", "", "", int64(0), int32(0), "", "", "", "", "", "")
	f.Add("a", "a.b", "100ms", int64(-1), int32(5), "DropOldest", "Memory", "None", "AppendOnly", "", "x")
	f.Fuzz(func(t *testing.T, stream, subject, maxAge string, maxBytes int64, replicas int32,
		whenFull, storage, compression, protection, cluster, tag string) {
		spec := &v1alpha1.AuditStreamSpec{
			Stream: stream, Subject: subject, MaxAge: maxAge, Replicas: replicas,
			WhenFull: v1alpha1.WhenFull(whenFull), Storage: v1alpha1.Storage(storage),
			Compression: v1alpha1.Compression(compression), Protection: v1alpha1.Protection(protection),
			Placement: &v1alpha1.Placement{Cluster: cluster, Tags: []string{tag}},
		}
		if maxBytes != 0 {
			spec.MaxBytes = resource.NewQuantity(maxBytes, resource.BinarySI)
		}
		first, err := Build(spec, "ns", "name", testOwner)
		second, again := Build(spec, "ns", "name", testOwner)
		if (err == nil) != (again == nil) {
			t.Fatalf("Build answered %v, then %v", err, again)
		}
		if d := Compare(first, second); len(d) != 0 {
			t.Fatalf("Build differs from itself: %+v", d)
		}
		merged := Merge(first, second)
		if d := Compare(first, merged); len(d) != 0 {
			t.Fatalf("Merge with itself differs: %+v", d)
		}
		if err == nil && (first.MaxMsgsPerSubject == 1) != (first.Discard == jetstream.DiscardNew) {
			t.Fatalf("one message under a subject with discard %v", first.Discard)
		}
	})
}
