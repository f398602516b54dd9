package e2e

import (
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// beUnavailable matches a resource that is not Ready because NATS is down.
func beUnavailable() types.GomegaMatcher {
	return WithTransform(func(s *v1alpha1.AuditStream) string { return told(s, v1alpha1.ConditionReady) },
		MatchRegexp("^Ready=(False|Unknown) "+v1alpha1.ReasonNATSUnavailable+": "))
}

func beStreamNotFound() types.GomegaMatcher { return MatchError(jetstream.ErrStreamNotFound) }

func beNotFound() types.GomegaMatcher {
	return WithTransform(apierrors.IsNotFound, BeTrue())
}
