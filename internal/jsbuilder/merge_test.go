package jsbuilder

import (
	"maps"
	"reflect"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func TestMergeMetadata(t *testing.T) {
	have := hardened()
	have.Metadata = map[string]string{
		MetadataOwner:                         "uid-2/other/one",
		MetadataMigrationPrefix + "audit-log": `{"sequence":7}`,
		"team":                                "payments",
		"_nats.ver":                           "2.15.2",
		"_nats.level":                         "5",
		"_nats.req.level":                     "1",
	}
	want := map[string]string{
		MetadataOwner:                         testOwner,
		MetadataMigrationPrefix + "audit-log": `{"sequence":7}`,
		"team":                                "payments",
	}
	if got := Merge(hardened(), have).Metadata; !maps.Equal(got, want) {
		t.Errorf("Merge: metadata\n got %v\nwant %v", got, want)
	}
}

func TestMergeSendsWhatIsWanted(t *testing.T) {
	have := jetstream.StreamConfig{
		Name: "AUDIT", Subjects: []string{"other.>"}, MaxMsgs: 7, FirstSeq: 100, NoAck: true, AllowRollup: true,
		Sources: []*jetstream.StreamSource{{Name: "X"}}, RePublish: &jetstream.RePublish{Destination: "x"},
	}
	if got := Merge(hardened(), have); !reflect.DeepEqual(got, hardened()) {
		t.Errorf("Merge:\n got %+v\nwant %+v", got, hardened())
	}
}

func TestMergePlacement(t *testing.T) {
	east := func(tags ...string) *jetstream.Placement { return &jetstream.Placement{Cluster: "east", Tags: tags} }
	tests := map[string]struct {
		want, have, expect *jetstream.Placement
		replicas           int
		retention          jetstream.RetentionPolicy
	}{
		"moved":   {want: east("a"), have: nil, expect: east("a"), replicas: 1},
		"cleared": {want: nil, have: east("a"), expect: nil, replicas: 1},
		"tags in another order stay, it is no move":  {want: east("a", "b"), have: east("b", "a"), expect: east("b", "a"), replicas: 1},
		"not moved together with replicas":           {want: east("a"), have: east("b"), expect: east("b"), replicas: 3},
		"not moved from anywhere while scaling":      {want: east("a"), have: nil, expect: nil, replicas: 3},
		"not moved together with retention":          {want: east("a"), have: east("b"), expect: east("b"), replicas: 1, retention: jetstream.InterestPolicy},
		"cleared together with replicas, no move":    {want: nil, have: east("a"), expect: nil, replicas: 3},
		"the same, together with a change elsewhere": {want: east("a"), have: east("a"), expect: east("a"), replicas: 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want, have := hardened(), hardened()
			want.Placement, have.Placement = tt.want, tt.have
			have.Replicas, have.Retention = tt.replicas, tt.retention
			if got := Merge(want, have).Placement; !reflect.DeepEqual(got, tt.expect) {
				t.Errorf("Merge: placement %+v, want %+v", got, tt.expect)
			}
		})
	}
}

func TestMergeSharesNoMemory(t *testing.T) {
	want, have := hardened(), hardened()
	want.Placement = &jetstream.Placement{Tags: []string{"a"}}
	merged := Merge(want, have)
	merged.Subjects[0], merged.Placement.Tags[0], merged.Metadata[MetadataOwner] = "x", "x", "x"
	if want.Subjects[0] == "x" || want.Placement.Tags[0] == "x" || want.Metadata[MetadataOwner] == "x" || have.Metadata[MetadataOwner] == "x" {
		t.Error("changing what Merge returned changed what it was given")
	}
}
