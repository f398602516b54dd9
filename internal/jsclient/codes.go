package jsclient

import (
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
)

// class is what the controller does next.
type class int

const (
	// terminal: only a change of the resource, or of what it collides with, helps.
	terminal class = iota
	// waits: it passes when somebody mends NATS; look again slowly.
	waits
	// soon: it passes by itself; look again soon.
	soon
)

// verdict is what an answer of NATS means.
type verdict struct {
	reason string
	class  class
	// hint says what to do, for a person who reads the condition.
	hint string
}

func (v verdict) apply(err error) error {
	explained := err
	if v.hint != "" {
		explained = fmt.Errorf("%w; %s", err, v.hint)
	}
	switch v.class {
	case waits:
		return &failure.Waiting{Reason: v.reason, After: slowRetry, Err: explained}
	case soon:
		return &failure.Waiting{Reason: v.reason, After: unavailableRetry, Err: explained}
	default:
		return &failure.Terminal{Reason: v.reason, Err: explained}
	}
}

const (
	codeStoreFailed jetstream.ErrorCode = 10077

	hintTooOld  = "upgrade the NATS servers to 2.12 or newer"
	hintAccount = "raise the limits of the NATS account or make room in it"
	hintConfig  = "change the field of the AuditStream that the answer is about"
	hintEnable  = "enable JetStream for the account"
)

// verdicts maps the error codes of the JetStream API. nats.go has names for few of them; the server's list is its
// errors.json. A code that is not here is transient, or an answer that the caller asked for: 10058 name in use, 10059
// and 10037 not found, 10071, 10164 and 10158 conflicts of publishing, 10008, 10009, 10023, 10118, 10167, 10210 and
// 10211 temporarily unavailable, 10124 and 10226 a move of the stream that goes on.
var verdicts = map[jetstream.ErrorCode]verdict{
	10065: {v1alpha1.ReasonSubjectOverlap, terminal, "choose another spec.subject, or change the other stream"},
	10074: {v1alpha1.ReasonReplicasUnsupported, terminal, "set spec.replicas to 1, or use a NATS cluster"},

	10011: {v1alpha1.ReasonInvalidConfiguration, terminal, "remove spec.placement.tags"},
	10025: {v1alpha1.ReasonInvalidConfiguration, terminal, "the NATS server does not know a field of the configuration"},
	10036: {v1alpha1.ReasonInvalidConfiguration, terminal, hintConfig},
	10052: {v1alpha1.ReasonInvalidConfiguration, terminal, hintConfig},
	10055: {v1alpha1.ReasonInvalidConfiguration, terminal, "the stream is a mirror, which can only be removed, not changed"},
	10061: {v1alpha1.ReasonInvalidConfiguration, terminal, "set spec.replicas to what the stream has"},
	10113: {v1alpha1.ReasonInvalidConfiguration, terminal, "set spec.maxBytes"},
	10122: {v1alpha1.ReasonInvalidConfiguration, terminal, "lower spec.maxBytes, or raise the limit of the NATS account"},
	10123: {v1alpha1.ReasonInvalidConfiguration, terminal, "change spec.replicas and spec.placement one after the other"},
	10128: {v1alpha1.ReasonInvalidConfiguration, terminal, "choose another spec.stream"},
	10133: {v1alpha1.ReasonInvalidConfiguration, terminal, "set spec.replicas to 1 or more"},
	10155: {v1alpha1.ReasonInvalidConfiguration, terminal, hintConfig},
	10156: {v1alpha1.ReasonInvalidConfiguration, terminal, hintConfig},
	10157: {v1alpha1.ReasonInvalidConfiguration, terminal, hintConfig},

	10057: {v1alpha1.ReasonImmutableField, terminal, "the stream does not permit to delete messages"},
	10109: {v1alpha1.ReasonImmutableField, terminal, "the stream is sealed, which cannot be undone: use another stream"},
	10110: {v1alpha1.ReasonImmutableField, terminal, "the stream does not permit to be purged"},
	10111: {v1alpha1.ReasonImmutableField, terminal, "the stream does not permit rollups"},

	10054: {v1alpha1.ReasonInvalidConfiguration, terminal, "raise the stream's maximum message size"},
	10060: {v1alpha1.ReasonInvalidConfiguration, terminal, "another stream captures the subject: choose another spec.subject"},
	10097: {v1alpha1.ReasonInvalidConfiguration, terminal, "the headers of the entry are too large"},
	10165: {v1alpha1.ReasonInvalidConfiguration, terminal, "the remaining time of the entry cannot be set"},
	10166: {v1alpha1.ReasonInvalidConfiguration, terminal, "the stream must allow a time to live for each message"},

	10005: {v1alpha1.ReasonPlacementFailed, waits, "add suitable servers, or change spec.replicas or spec.placement"},

	10002: {v1alpha1.ReasonResourcesExhausted, waits, hintAccount},
	10026: {v1alpha1.ReasonResourcesExhausted, waits, hintAccount},
	10027: {v1alpha1.ReasonResourcesExhausted, waits, hintAccount},
	10028: {v1alpha1.ReasonResourcesExhausted, waits, hintAccount},
	10047: {v1alpha1.ReasonResourcesExhausted, waits, hintAccount},
	10053: {v1alpha1.ReasonResourcesExhausted, waits, hintAccount},
	10120: {v1alpha1.ReasonResourcesExhausted, waits, hintAccount},

	10035: {v1alpha1.ReasonJetStreamUnavailable, waits, hintEnable},
	10039: {v1alpha1.ReasonJetStreamUnavailable, waits, hintEnable},
	10076: {v1alpha1.ReasonJetStreamUnavailable, waits, hintEnable},

	10185: {v1alpha1.ReasonServerTooOld, waits, hintTooOld},
}
