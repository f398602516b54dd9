package jsbuilder

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestEveryFieldIsDecided fails when nats.go adds a field to the stream configuration: it then has to be decided
// whether the operator enforces it.
func TestEveryFieldIsDecided(t *testing.T) {
	decided := map[string]int{"metadata": 1}
	for _, f := range fields {
		decided[f.name]++
	}
	for name, reason := range notEnforced {
		decided[name]++
		if reason == "" {
			t.Errorf("%s is not enforced without a reason", name)
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[jetstream.StreamConfig]()) {
		name := jsonName(f)
		if decided[name] != 1 {
			t.Errorf("field %s (%s) is decided %d times: add it to fields, or with a reason to notEnforced", f.Name, name, decided[name])
		}
		delete(decided, name)
	}
	for name := range decided {
		t.Errorf("%s is decided, but the stream configuration has no such field", name)
	}
}

// TestCompareSeesEveryField changes one field after the other, in the live and in the desired configuration.
func TestCompareSeesEveryField(t *testing.T) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[jetstream.StreamConfig]()) {
		name := jsonName(f)
		if _, skipped := notEnforced[name]; skipped || name == "metadata" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			base, changed := hardened(), hardened()
			field := reflect.ValueOf(&changed).Elem().FieldByIndex(f.Index)
			change(t, field)
			for _, d := range [][]Difference{Compare(base, changed), Compare(changed, base)} {
				if names := fieldNames(d); !slices.Equal(names, []string{name}) {
					t.Fatalf("Compare names %v", names)
				}
				if d[0].Have == d[0].Want || d[0].Have == "" || d[0].Want == "" {
					t.Errorf("the difference %+v says nothing", d[0])
				}
			}
			if d := Compare(changed, changed); len(d) != 0 {
				t.Errorf("a configuration differs from itself: %+v", d)
			}
		})
	}
}

func TestCompareSeesEveryPartOfAnObject(t *testing.T) {
	configs := map[string]func(c *jetstream.StreamConfig) reflect.Value{
		"placement": func(c *jetstream.StreamConfig) reflect.Value {
			c.Placement = &jetstream.Placement{Cluster: "c"}
			return reflect.ValueOf(c.Placement).Elem()
		},
		"consumer_limits": func(c *jetstream.StreamConfig) reflect.Value { return reflect.ValueOf(&c.ConsumerLimits).Elem() },
		"republish": func(c *jetstream.StreamConfig) reflect.Value {
			c.RePublish = &jetstream.RePublish{}
			return reflect.ValueOf(c.RePublish).Elem()
		},
		"subject_transform": func(c *jetstream.StreamConfig) reflect.Value {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{}
			return reflect.ValueOf(c.SubjectTransform).Elem()
		},
		"mirror": func(c *jetstream.StreamConfig) reflect.Value {
			c.Mirror = &jetstream.StreamSource{}
			return reflect.ValueOf(c.Mirror).Elem()
		},
		"sources": func(c *jetstream.StreamConfig) reflect.Value {
			c.Sources = []*jetstream.StreamSource{{}}
			return reflect.ValueOf(c.Sources[0]).Elem()
		},
	}
	for name, object := range configs {
		for _, part := range reflect.VisibleFields(object(&jetstream.StreamConfig{}).Type()) {
			if part.Tag.Get("json") == "-" {
				continue // Never leaves the client.
			}
			t.Run(name+"/"+jsonName(part), func(t *testing.T) {
				base, changed := hardened(), hardened()
				object(&base)
				change(t, object(&changed).FieldByIndex(part.Index))
				if names := fieldNames(Compare(base, changed)); !slices.Equal(names, []string{name}) {
					t.Errorf("Compare names %v", names)
				}
			})
		}
	}
}

// TestCompareSeesNoPhantoms holds what a person or another tool may write against what the server makes of it.
func TestCompareSeesNoPhantoms(t *testing.T) {
	tests := map[string]func(want, have *jetstream.StreamConfig){
		"limits of 0": func(_, have *jetstream.StreamConfig) {
			have.MaxConsumers, have.MaxMsgs, have.MaxBytes, have.MaxMsgsPerSubject, have.MaxMsgSize = 0, 0, 0, 0, 0
		},
		"limits below -1":         func(_, have *jetstream.StreamConfig) { have.MaxMsgs, have.MaxBytes = -7, -7 },
		"replicas of 0":           func(_, have *jetstream.StreamConfig) { have.Replicas = 0 },
		"default duplicates":      func(_, have *jetstream.StreamConfig) { have.Duplicates = 0 },
		"default duplicates here": func(want, _ *jetstream.StreamConfig) { want.Duplicates = 0 },
		"short default duplicates": func(want, have *jetstream.StreamConfig) {
			want.MaxAge, want.Duplicates, have.MaxAge, have.Duplicates = time.Second, time.Second, time.Second, 0
		},
		"empty placement": func(_, have *jetstream.StreamConfig) { have.Placement = &jetstream.Placement{Tags: []string{}} },
		"empty lists":     func(_, have *jetstream.StreamConfig) { have.Sources = []*jetstream.StreamSource{} },
		"subjects in disorder": func(want, have *jetstream.StreamConfig) {
			want.Subjects, have.Subjects = []string{"a", "b"}, []string{"b", "a"}
		},
		"tags in disorder": func(want, have *jetstream.StreamConfig) {
			want.Placement = &jetstream.Placement{Tags: []string{"a", "b"}}
			have.Placement = &jetstream.Placement{Tags: []string{"b", "a"}}
		},
		"the server's metadata": func(_, have *jetstream.StreamConfig) { have.Metadata["_nats.req.level"] = "1" },
		"others' metadata":      func(_, have *jetstream.StreamConfig) { have.Metadata["team"] = "payments" },
		"a checkpoint":          func(_, have *jetstream.StreamConfig) { have.Metadata[MetadataMigrationPrefix+"audit-log"] = "{}" },
		"the server's metadata in what is wanted": func(want, _ *jetstream.StreamConfig) {
			want.Metadata["_nats.ver"] = "2.0.0"
		},
		"no metadata at all": func(want, have *jetstream.StreamConfig) { want.Metadata, have.Metadata = nil, nil },
	}
	for name, alter := range tests {
		t.Run(name, func(t *testing.T) {
			want, have := hardened(), hardened()
			alter(&want, &have)
			if d := Compare(want, have); len(d) != 0 {
				t.Errorf("Compare = %+v, want none", d)
			}
		})
	}
}

func TestCompareMetadata(t *testing.T) {
	have := hardened()
	have.Metadata = map[string]string{MetadataOwner: "uid-2/other/one"}
	want := []Difference{{Field: "metadata[audit.osapi.io/owner]", Have: "uid-2/other/one", Want: testOwner, Fixable: true}}
	if got := Compare(hardened(), have); !slices.Equal(got, want) {
		t.Errorf("another owner: Compare = %+v, want %+v", got, want)
	}
	have.Metadata = nil
	want[0].Have = "absent"
	if got := Compare(hardened(), have); !slices.Equal(got, want) {
		t.Errorf("no metadata: Compare = %+v, want %+v", got, want)
	}
}

func TestCompareIsSortedAndReadable(t *testing.T) {
	have := hardened()
	have.Storage = jetstream.MemoryStorage
	have.MaxAge = time.Hour
	have.MaxBytes = 1024
	have.Discard = jetstream.DiscardNew
	have.Subjects = []string{"b", "a"}
	have.Metadata = nil
	want := []Difference{
		{Field: "discard", Have: "new", Want: "old", Fixable: true},
		{Field: "max_age", Have: "1h0m0s", Want: "unlimited", Fixable: true},
		{Field: "max_bytes", Have: "1024", Want: "unlimited", Fixable: true},
		{Field: "metadata[audit.osapi.io/owner]", Have: "absent", Want: testOwner, Fixable: true},
		{Field: "storage", Have: "memory", Want: "file", Fixable: false},
		{Field: "subjects", Have: `["a","b"]`, Want: `["audit.>"]`, Fixable: true},
	}
	if got := Compare(hardened(), have); !slices.Equal(got, want) {
		t.Errorf("Compare:\n got %+v\nwant %+v", got, want)
	}
}

// TestFixableHasADirection: what can be turned on and never off again.
func TestFixableHasADirection(t *testing.T) {
	oneWay := map[string]func(c *jetstream.StreamConfig) *bool{
		"sealed":              func(c *jetstream.StreamConfig) *bool { return &c.Sealed },
		"deny_delete":         func(c *jetstream.StreamConfig) *bool { return &c.DenyDelete },
		"deny_purge":          func(c *jetstream.StreamConfig) *bool { return &c.DenyPurge },
		"allow_msg_ttl":       func(c *jetstream.StreamConfig) *bool { return &c.AllowMsgTTL },
		"allow_msg_schedules": func(c *jetstream.StreamConfig) *bool { return &c.AllowMsgSchedules },
	}
	for name, field := range oneWay {
		off, on := hardened(), hardened()
		*field(&off), *field(&on) = false, true
		if got := Compare(on, off); len(got) != 1 || got[0].Field != name || !got[0].Fixable {
			t.Errorf("turning %s on: %+v, want it fixable", name, got)
		}
		if got := Compare(off, on); len(got) != 1 || got[0].Field != name || got[0].Fixable {
			t.Errorf("turning %s off: %+v, want it not fixable", name, got)
		}
	}
	for retention, fixable := range map[jetstream.RetentionPolicy]bool{jetstream.InterestPolicy: true, jetstream.WorkQueuePolicy: false} {
		have := hardened()
		have.Retention = retention
		if got := Compare(hardened(), have); len(got) != 1 || got[0].Fixable != fixable {
			t.Errorf("from retention %v: %+v, want fixable %v", retention, got, fixable)
		}
	}
}

func fieldNames(differences []Difference) []string {
	names := make([]string, len(differences))
	for i, d := range differences {
		names[i] = d.Field
	}
	return names
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// change gives a value of any type another one.
func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(changedInt(v))
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		change(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		change(t, v.Index(0))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1, 0)))
			return
		}
		change(t, v.Field(0))
	default:
		t.Fatalf("the test cannot change a %v", v.Kind())
	}
}

// changedInt leaves enumerations within their values: 0 becomes 1. Limits of -1 and sizes become something else.
func changedInt(v reflect.Value) int64 {
	if v.Int() < 0 {
		return 7
	}
	return v.Int() + 1
}
