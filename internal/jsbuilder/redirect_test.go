package jsbuilder

import (
	"maps"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

const redirectedAt = "2026-01-02T03:04:05Z"

func redirectKeys(buckets ...string) map[string]string {
	metadata := map[string]string{MetadataOwner: testOwner, "team": "payments"}
	for _, bucket := range buckets {
		metadata[MetadataRedirectPrefix+bucket] = redirectedAt
	}
	return metadata
}

func TestRedirects(t *testing.T) {
	tests := map[string]struct {
		metadata map[string]string
		want     []string
	}{
		"no metadata":        {nil, nil},
		"no redirect":        {redirectKeys(), nil},
		"sorted":             {redirectKeys("b", "a-2", "A_1"), []string{"A_1", "a-2", "b"}},
		"no bucket":          {redirectKeys(""), nil},
		"every bucket":       {redirectKeys("*"), nil},
		"several tokens":     {redirectKeys("a.b", "c.>"), nil},
		"a space":            {redirectKeys("a b"), nil},
		"a line's end":       {redirectKeys("a\n"), nil},
		"the other prefixes": {map[string]string{MetadataMigrationPrefix + "a": "{}", MetadataRedirectedTo: "b", "redirect.c": "d"}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Redirects(tt.metadata); !slices.Equal(got, tt.want) {
				t.Errorf("Redirects = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestWithRedirects(t *testing.T) {
	cfg := hardened()
	cfg.Subjects = append(make([]string, 0, 8), "audit.>")
	cfg.Placement = &jetstream.Placement{Tags: []string{"ssd"}}
	got := WithRedirects(cfg, []string{"audit-log", "b", "audit-log"})
	if want := []string{"audit.>", "$KV.audit-log.>", "$KV.b.>"}; !slices.Equal(got.Subjects, want) {
		t.Errorf("subjects %q, want %q", got.Subjects, want)
	}
	if tr := got.SubjectTransform; tr == nil || *tr != (jetstream.SubjectTransformConfig{Source: "$KV.*.>", Destination: "audit.>"}) {
		t.Errorf("transform %+v", tr)
	}
	if plain := WithRedirects(cfg, nil); plain.SubjectTransform != nil || len(Compare(cfg, plain)) != 0 {
		t.Errorf("without buckets: %+v", Compare(cfg, plain))
	}
	if len(WithRedirects(jetstream.StreamConfig{}, []string{"b"}).Subjects) != 0 {
		t.Error("a configuration without the stream's own subjects captures a bucket's")
	}

	got.Metadata["mine"], got.Placement.Tags[0], got.Subjects[0] = "yes", "hdd", "other"
	if cfg.Metadata["mine"] != "" || cfg.Placement.Tags[0] != "ssd" || cfg.Subjects[0] != "audit.>" || cfg.Subjects[:2][1] != "" {
		t.Errorf("changing the result changed the argument: %+v", cfg)
	}
}

// TestServerKeepsRedirects: as TestServerKeepsWhatIsBuilt, for streams that have the subjects of buckets, on the way there,
// after drift, and on the way back.
func TestServerKeepsRedirects(t *testing.T) {
	js := loneServer(t)
	plain := mustBuild(t, &v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "payments.audit"})
	live := create(t, js, plain)
	for _, buckets := range [][]string{{"a"}, {"a", "b"}, {"b"}, {"b"}, {}} {
		have := live
		have.Metadata = maps.Clone(live.Metadata)
		for _, bucket := range Redirects(have.Metadata) {
			delete(have.Metadata, MetadataRedirectPrefix+bucket)
		}
		for _, bucket := range buckets {
			have.Metadata[MetadataRedirectPrefix+bucket] = redirectedAt
		}
		want := WithRedirects(KeepTransform(plain, have), Redirects(have.Metadata))
		live = update(t, js, Merge(want, have))
		if d := Compare(want, live); len(d) != 0 {
			t.Errorf("redirects %v: %+v", buckets, d)
		}
		if got := Redirects(live.Metadata); !slices.Equal(got, buckets) {
			t.Errorf("the metadata has redirects %v, want %v", got, buckets)
		}
		// The transform stays to the end, for what the server has taken for a bucket and not stored yet.
		if live.SubjectTransform == nil || len(live.Subjects) != 1+len(buckets) {
			t.Errorf("redirects %v: subjects %q, transform %+v", buckets, live.Subjects, live.SubjectTransform)
		}
	}
}

// TestTransformComesFirstAndStays: it is there before any of the buckets is redirected, and is nobody else's.
func TestTransformComesFirstAndStays(t *testing.T) {
	spec := v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit"}
	without := mustBuild(t, &spec)
	spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: "a"}}
	with := mustBuild(t, &spec)
	if with.SubjectTransform == nil || without.SubjectTransform != nil || len(with.Subjects) != 1 {
		t.Errorf("transform with a bucket %+v (subjects %q), without %+v", with.SubjectTransform, with.Subjects, without.SubjectTransform)
	}
	foreign := with
	foreign.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "$KV.*.>", Destination: "other.>"}
	for name, tt := range map[string]struct {
		live streamConfig
		want bool
	}{"none": {without, false}, "its own": {with, true}, "a foreign one": {foreign, false}} {
		if got := KeepTransform(without, tt.live); (got.SubjectTransform != nil) != tt.want {
			t.Errorf("live has %s: %+v", name, got.SubjectTransform)
		}
	}
	if got := KeepTransform(streamConfig{}, with); got.SubjectTransform != nil {
		t.Errorf("a configuration without the stream's own subjects has the transform %+v", got.SubjectTransform)
	}
}

func TestRedirectDriftIsNamedAndHealed(t *testing.T) {
	js := loneServer(t)
	want := WithRedirects(mustBuild(t, &v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit"}), []string{"a", "b"})
	alterations := map[string]struct {
		alter  func(c *streamConfig)
		fields []string
	}{
		"a bucket's subjects are gone":   {func(c *streamConfig) { c.Subjects = slices.Clone(c.Subjects[:2]) }, []string{"subjects"}},
		"the stream's subjects are gone": {func(c *streamConfig) { c.Subjects = slices.Clone(c.Subjects[1:]) }, []string{"subjects"}},
		"another bucket":                 {func(c *streamConfig) { c.Subjects = append(slices.Clone(c.Subjects), "$KV.c.>") }, []string{"subjects"}},
		"no transform":                   {func(c *streamConfig) { c.SubjectTransform = nil }, []string{"subject_transform"}},
		"another transform": {func(c *streamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "$KV.a.>", Destination: "audit.>"}
		}, []string{"subject_transform"}},
		"as it was before": {func(c *streamConfig) { c.SubjectTransform, c.Subjects = nil, c.Subjects[:1] }, []string{"subject_transform", "subjects"}},
	}
	for name, tt := range alterations {
		t.Run(name, func(t *testing.T) {
			create(t, js, Merge(want, streamConfig{Metadata: redirectKeys("a", "b")}))
			defer remove(t, js, want.Name)
			altered := info(t, js, want.Name).Config
			tt.alter(&altered)
			have := update(t, js, altered)
			if got := fieldNames(Compare(want, have)); !slices.Equal(got, tt.fields) {
				t.Errorf("Compare names %v, want %v", got, tt.fields)
			}
			if d := Compare(want, update(t, js, Merge(want, have))); len(d) != 0 {
				t.Errorf("after healing: %+v", d)
			}
			if got := Redirects(info(t, js, want.Name).Config.Metadata); len(got) != 2 {
				t.Errorf("healing lost what decides: %v", got)
			}
		})
	}
}

// TestServerMovesWhatIsRedirected: entries of several buckets come under the stream's subject, and the stream's own stay.
func TestServerMovesWhatIsRedirected(t *testing.T) {
	js := loneServer(t)
	create(t, js, WithRedirects(mustBuild(t, &v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "payments.audit"}), []string{"a", "b"}))
	publish(t, js, "$KV.a.1", "")
	publish(t, js, "$KV.b.2", "")
	publish(t, js, "payments.audit.3", "")
	stream, err := js.Stream(t.Context(), "AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	for sequence, want := range []string{"payments.audit.1", "payments.audit.2", "payments.audit.3"} {
		msg, err := stream.GetMsg(t.Context(), uint64(sequence+1))
		if err != nil {
			t.Fatal(err)
		}
		if msg.Subject != want {
			t.Errorf("message %d is stored under %s, want %s", sequence+1, msg.Subject, want)
		}
	}
	if _, err := js.Publish(t.Context(), "$KV.c.4", nil); err == nil {
		t.Error("the stream took what was put into a third bucket")
	}
}
