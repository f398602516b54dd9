package jsclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
)

// Classify says what an error of NATS means. It returns a *failure.Terminal or a *failure.Waiting around err, or err
// unchanged: when it is transient, when it is an answer that the caller asked for (not found, name in use, wrong last
// sequence), and when it is classified already. It decides by code or sentinel, never by text, with one exception:
// code 10077 stands for any fault of storing a message and only its description says which.
func Classify(err error) error {
	if err == nil || classified(err) {
		return err
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return classifyCode(err, api)
	}
	return classifySentinel(err)
}

func classified(err error) bool {
	if _, ok := errors.AsType[*failure.Terminal](err); ok {
		return true
	}
	_, ok := errors.AsType[*failure.Waiting](err)
	return ok
}

func classifyCode(err error, api *jetstream.APIError) error {
	if api.ErrorCode == codeStoreFailed {
		return classifyStoreFailed(err, api)
	}
	v, ok := verdicts[api.ErrorCode]
	if !ok {
		return err
	}
	return v.apply(err)
}

// classifyStoreFailed tells apart what the server reports with the same code. A second message under a write-once
// subject is the caller's to compare, like a wrong last sequence.
func classifyStoreFailed(err error, api *jetstream.APIError) error {
	if api.Description == "maximum bytes exceeded" || api.Description == "maximum messages exceeded" {
		return verdict{v1alpha1.ReasonStreamFull, waits, "the stream is full and rejects new entries: raise spec.maxBytes"}.apply(err)
	}
	return err
}

func classifySentinel(err error) error {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
	}
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		if v, ok := parseViolation(err); ok {
			return v.waiting(err)
		}
		return verdict{v1alpha1.ReasonPermissionDenied, waits, "permit the operator's user the subject"}.apply(err)
	case isAuthError(err):
		return verdict{v1alpha1.ReasonAuthenticationFailed, waits, "renew the operator's credentials for NATS"}.apply(err)
	case is(nats.ErrNoResponders):
		return verdict{v1alpha1.ReasonJetStreamUnavailable, soon, "nobody serves the JetStream API there: enable JetStream for the server and the account, and check --nats-domain"}.apply(err)
	case is(jetstream.ErrInvalidStreamName, jetstream.ErrStreamNameRequired):
		return verdict{v1alpha1.ReasonInvalidConfiguration, terminal, "choose another stream name"}.apply(err)
	case is(jetstream.ErrStreamSubjectTransformNotSupported, jetstream.ErrStreamSourceSubjectTransformNotSupported,
		jetstream.ErrStreamSourceNotSupported, jetstream.ErrStreamSourceMultipleFilterSubjectsNotSupported):
		return verdict{v1alpha1.ReasonServerTooOld, waits, hintTooOld}.apply(err)
	case is(unreachable...):
		return verdict{v1alpha1.ReasonNATSUnavailable, soon, ""}.apply(err)
	default:
		return err
	}
}

// unreachable are the errors of a NATS that is down, away or silent.
var unreachable = []error{
	nats.ErrNoServers, nats.ErrTimeout, nats.ErrConnectionClosed, nats.ErrConnectionReconnecting, nats.ErrConnectionDraining,
	nats.ErrDisconnected, nats.ErrReconnectBufExceeded, nats.ErrStaleConnection, nats.ErrInvalidConnection,
	nats.ErrMaxConnectionsExceeded, nats.ErrMaxAccountConnectionsExceeded, nats.ErrTLS,
	jetstream.ErrNoStreamResponse, jetstream.ErrConnectionClosed, jetstream.ErrServerShutdown, jetstream.ErrNoHeartbeat,
	jetstream.ErrAsyncPublishTimeout, jetstream.ErrJetStreamPublisherClosed,
	context.DeadlineExceeded,
}

// joinSorted joins errors in the order of their texts, so that the message does not depend on a map's order.
func joinSorted(errs []error) error {
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	joined := errs[0]
	for _, err := range errs[1:] {
		joined = fmt.Errorf("%w; %w", joined, err)
	}
	return joined
}
