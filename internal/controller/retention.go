package controller

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

// keepLocked leaves out of the declared configuration what would shorten the retention of a stream under a retention lock, and
// notes in the scope that it did. A resource whose declaration is refused does not take a stream over.
func (s *scope) keepLocked(want jetstream.StreamConfig, live *jetstream.StreamInfo) (jetstream.StreamConfig, error) {
	if !s.locked(live) {
		return want, nil
	}
	kept, refused := jsbuilder.KeepLocked(want, live.Config)
	if len(refused) == 0 {
		return kept, nil
	}
	err := retentionLocked(want.Name, refused)
	if s.adopted {
		return want, err
	}
	s.refused = err
	return kept, nil
}

// locked says whether the live stream is under a retention lock. One that was wiped out of band counts, as a claim does: the
// stream had it when it was as the resource declares it now.
func (s *scope) locked(live *jetstream.StreamInfo) bool {
	if jsbuilder.Locked(live.Config.Metadata) {
		return true
	}
	ready := meta.FindStatusCondition(s.obj.Status.Conditions, v1alpha1.ConditionStreamReady)
	return s.obj.Spec.RetentionLock == v1alpha1.RetentionLockCompliance && s.sameStream(live) &&
		ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == s.obj.Generation
}

func retentionLocked(stream string, refused []jsbuilder.Refusal) error {
	differences, remedies := make([]jsbuilder.Difference, len(refused)), make([]string, len(refused))
	for i, r := range refused {
		differences[i], remedies[i] = r.Difference, r.Remedy
	}
	return &failure.Terminal{Reason: v1alpha1.ReasonRetentionLocked, Err: fmt.Errorf(
		"stream %s is under a retention lock, under which its retention can only grow, and keeps what the resource would shorten: %s; "+
			"declare at least what the stream has: %s", stream, describe(differences), strings.Join(remedies, ", "))}
}

func lockedDeletion(stream string) error {
	return &failure.Terminal{Reason: v1alpha1.ReasonRetentionLocked, Err: fmt.Errorf(
		"stream %s is under a retention lock and is not deleted with the resource; set spec.deletionPolicy to Retain", stream)}
}
