package jsbuilder

import (
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Merge is what to send in an update of the live stream have, so that it becomes want: want, with the metadata keys of
// have that want does not set (checkpoints of migrations, what other parties have put there). It shares no memory with
// either. An update with it succeeds only where Compare reports nothing that is not fixable.
//
// One case needs two updates: a server refuses to change placement together with replicas or retention. Merge leaves
// the placement as it is then; Compare goes on reporting it, and the next Merge moves the stream.
func Merge(want, have jetstream.StreamConfig) jetstream.StreamConfig {
	merged := want
	merged.Subjects = slices.Clone(want.Subjects)
	merged.Metadata = mergeMetadata(want.Metadata, have.Metadata)
	merged.Placement = mergePlacement(&want, &have)
	return merged
}

func mergeMetadata(want, have map[string]string) map[string]string {
	merged := make(map[string]string, len(want)+len(have))
	for _, from := range []map[string]string{have, want} {
		for key, value := range from {
			// The server sets its own keys anew in every answer.
			if !strings.HasPrefix(key, metadataServerPrefix) {
				merged[key] = value
			}
		}
	}
	return merged
}

func mergePlacement(want, have *jetstream.StreamConfig) *jetstream.Placement {
	from := want.Placement
	// Tags in another order mean the same, but a server would take them for a move.
	same := placement(want.Placement) == placement(have.Placement)
	scaled := max(want.Replicas, 1) != max(have.Replicas, 1) || want.Retention != have.Retention
	if same || want.Placement != nil && scaled {
		from = have.Placement
	}
	if from == nil {
		return nil
	}
	return &jetstream.Placement{Cluster: from.Cluster, Tags: slices.Clone(from.Tags)}
}
