package jsbuilder

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

func TestHazards(t *testing.T) {
	replicated := func(c *jetstream.StreamConfig) { c.Replicas = 3 }
	limited := func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 }
	doubles := jetstream.StreamState{Msgs: 3, NumSubjects: 2}
	singles := jetstream.StreamState{Msgs: 2, NumSubjects: 2}
	tests := map[string]struct {
		want, have func(c *jetstream.StreamConfig)
		state      jetstream.StreamState
		clustered  bool
		fields     []string
	}{
		"nothing":                      {state: doubles},
		"replicas on a lone server":    {want: replicated, fields: []string{"num_replicas"}},
		"replicas that are there":      {want: replicated, have: replicated, fields: []string{"num_replicas"}},
		"replicas in a cluster":        {want: replicated, clustered: true},
		"fewer replicas":               {have: replicated},
		"limit on doubles":             {want: limited, state: doubles, fields: []string{"max_msgs_per_subject"}},
		"limit on singles":             {want: limited, state: singles},
		"limit on an empty stream":     {want: limited},
		"limit that is there":          {want: limited, have: limited, state: doubles},
		"limit that is lifted":         {have: limited, state: doubles},
		"lower limit on doubles":       {want: limited, have: func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }, state: doubles, fields: []string{"max_msgs_per_subject"}},
		"limit of 0 is none":           {want: limited, have: func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 0 }, state: doubles, fields: []string{"max_msgs_per_subject"}},
		"both":                         {want: func(c *jetstream.StreamConfig) { replicated(c); limited(c) }, state: doubles, fields: []string{"num_replicas", "max_msgs_per_subject"}},
		"doubles in a cluster as well": {want: limited, state: doubles, clustered: true, fields: []string{"max_msgs_per_subject"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want, have := hardened(), hardened()
			for cfg, alter := range map[*jetstream.StreamConfig]func(*jetstream.StreamConfig){&want: tt.want, &have: tt.have} {
				if alter != nil {
					alter(cfg)
				}
			}
			var got []string
			for _, h := range Hazards(want, have, tt.state, tt.clustered) {
				got = append(got, h.Field)
				checkHazard(t, h)
			}
			if !slices.Equal(got, tt.fields) {
				t.Errorf("Hazards = %v, want %v", got, tt.fields)
			}
		})
	}
}

func checkHazard(t *testing.T, h Hazard) {
	t.Helper()
	want := map[string][]string{
		"num_replicas":         {v1alpha1.ReasonReplicasUnsupported, "spec.replicas is 3", "set spec.replicas to 1"},
		"max_msgs_per_subject": {v1alpha1.ReasonInvalidConfiguration, "spec.whenFull", "3 messages under 2 subjects", "set spec.whenFull to DropOldest"},
	}[h.Field]
	if want == nil || h.Reason != want[0] {
		t.Fatalf("hazard %+v, want reason and texts %v", h, want)
	}
	for _, part := range want[1:] {
		if !strings.Contains(h.Message, part) {
			t.Errorf("the message %q does not say %q", h.Message, part)
		}
	}
}
