package jsbuilder

import (
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// Hazard is a reason why an update must not be sent although NATS would accept it.
type Hazard struct {
	// Field is NATS's JSON name of the field whose change does the harm.
	Field string
	// Reason is one of the condition reasons in api/v1alpha1.
	Reason string
	// Message says what would happen and what to do.
	Message string
}

// Hazards lists why the live stream have, which holds state, must not be updated to want. clustered says whether the
// server runs JetStream in a cluster. None means that the update may be sent.
func Hazards(want, have jetstream.StreamConfig, state jetstream.StreamState, clustered bool) []Hazard {
	var hazards []Hazard
	if want.Replicas > 1 && !clustered {
		hazards = append(hazards, loneReplicas(want.Replicas))
	}
	limited := have.MaxMsgsPerSubject > 0 && have.MaxMsgsPerSubject <= want.MaxMsgsPerSubject
	if want.MaxMsgsPerSubject > 0 && !limited && state.Msgs > state.NumSubjects {
		hazards = append(hazards, doubledEntries(state))
	}
	return hazards
}

// loneReplicas: servers up to 2.14 refuse to create such a stream but accept the update, and then cannot load the
// stream at their next start. 2.15.2 refuses the update too (10074).
func loneReplicas(replicas int) Hazard {
	return Hazard{
		Field:  "num_replicas",
		Reason: v1alpha1.ReasonReplicasUnsupported,
		Message: fmt.Sprintf("spec.replicas is %d, but the NATS server is not part of a cluster: "+
			"set spec.replicas to 1, or use a NATS cluster", replicas),
	}
}

// doubledEntries: a server that is told to keep one message under a subject deletes all but the last one at once, and
// the first one is the entry.
func doubledEntries(state jetstream.StreamState) Hazard {
	return Hazard{
		Field:  "max_msgs_per_subject",
		Reason: v1alpha1.ReasonInvalidConfiguration,
		Message: fmt.Sprintf("spec.whenFull: RejectNew allows one message under an id, but the stream holds %d messages "+
			"under %d subjects, and NATS would delete the first message of each double: set spec.whenFull to DropOldest, "+
			"or declare another stream", state.Msgs, state.NumSubjects),
	}
}
