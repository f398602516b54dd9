package jsbuilder

import (
	"cmp"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// absent is how a metadata key that is not there reads in a Difference.
const absent = "absent"

// Difference is one field in which a live stream is not as declared.
type Difference struct {
	// Field is NATS's JSON name of the field, such as max_age or metadata[audit.osapi.io/owner].
	Field string
	// Have is what the live stream has, Want what it should have, both as a person reads them.
	Have, Want string
	// Fixable is whether an update can put it right. Where it is false, NATS refuses every update that tries, and so
	// heals nothing else that is sent with it either.
	Fixable bool
}

// Compare lists in which fields the live configuration have differs from want, sorted by field. It is empty where the
// server would see no difference: limits of 0 and -1, absent and empty objects, and lists in another order are the
// same. Of the metadata only the keys in want are looked at.
func Compare(want, have jetstream.StreamConfig) []Difference {
	var differences []Difference
	for _, f := range fields {
		wanted, live := f.text(&want), f.text(&have)
		if wanted == live {
			continue
		}
		fixable := f.fixable == nil || f.fixable(&want, &have)
		differences = append(differences, Difference{Field: f.name, Have: live, Want: wanted, Fixable: fixable})
	}
	differences = append(differences, compareMetadata(want.Metadata, have.Metadata)...)
	slices.SortFunc(differences, func(a, b Difference) int { return cmp.Compare(a.Field, b.Field) })
	return differences
}

func compareMetadata(want, have map[string]string) []Difference {
	var differences []Difference
	for key, wanted := range want {
		live, found := have[key]
		if found && live == wanted || strings.HasPrefix(key, metadataServerPrefix) {
			continue
		}
		if !found {
			live = absent
		}
		differences = append(differences, Difference{Field: "metadata[" + key + "]", Have: live, Want: wanted, Fixable: true})
	}
	return differences
}
