package controller

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

// owner is the ownership claim of a resource.
func (r *Reconciler) owner(ctx context.Context, obj *v1alpha1.AuditStream) (string, error) {
	cluster, err := r.cluster(ctx)
	if err != nil {
		return "", err
	}
	return jsbuilder.OwnerValue(string(cluster), obj.Namespace, obj.Name), nil
}

// claim decides whether the resource may have the stream that exists. The claim itself is written with the next update,
// as part of the declared metadata.
func (r *Reconciler) claim(ctx context.Context, s *scope, live *jetstream.StreamInfo, own string) error {
	owner := live.Config.Metadata[jsbuilder.MetadataOwner]
	switch {
	case s.owns(live, own):
		return nil
	case owner == "":
		return s.adopt(fmt.Sprintf("stream %s exists and no AuditStream owns it", live.Config.Name))
	}
	uid, namespace, name, ok := jsbuilder.ParseOwner(owner)
	if !ok {
		return conflict("stream %s has the ownership claim %.300q, which no AuditStream has made; remove the metadata key %s from the stream, "+
			"or choose another stream", live.Config.Name, owner, jsbuilder.MetadataOwner)
	}
	if uid != string(r.clusterUID) {
		return conflict("stream %s is owned by AuditStream %s/%s of another cluster (%s); delete that one and remove the metadata key %s "+
			"from the stream, or choose another stream", live.Config.Name, namespace, name, uid, jsbuilder.MetadataOwner)
	}
	gone, err := r.ownerGone(ctx, types.NamespacedName{Namespace: namespace, Name: name}, live.Config.Name)
	if err != nil {
		return err
	}
	if !gone {
		return conflict("stream %s is owned by AuditStream %s/%s; delete one of the two, or choose another stream", live.Config.Name, namespace, name)
	}
	return s.adopt(fmt.Sprintf("stream %s was left behind by AuditStream %s/%s", live.Config.Name, namespace, name))
}

// owns says whether the live stream carries the resource's claim. A claim that was wiped out of band counts: it is drift
// like any other.
func (s *scope) owns(live *jetstream.StreamInfo, own string) bool {
	owner := live.Config.Metadata[jsbuilder.MetadataOwner]
	return owner == own || owner == "" && s.sameStream(live)
}

// adopt takes the stream over where the resource allows it.
func (s *scope) adopt(what string) error {
	if s.obj.Spec.AdoptionPolicy != v1alpha1.AdoptionPolicyAdopt {
		return &failure.Terminal{Reason: v1alpha1.ReasonStreamNotOwned, Err: fmt.Errorf(
			"%s; set spec.adoptionPolicy to Adopt to take it over, or choose another stream", what)}
	}
	s.adopted = true
	return nil
}

// ownerGone says whether the owner no longer exists, or no longer declares the stream. It asks the API server: a cache
// that lags behind could give away a stream that has an owner.
func (r *Reconciler) ownerGone(ctx context.Context, key types.NamespacedName, stream string) (bool, error) {
	owner := &v1alpha1.AuditStream{}
	err := r.APIReader.Get(ctx, key, owner)
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case apierrors.IsForbidden(err): // it is in a namespace that is not this operator's, see --namespaces
		return false, &failure.Waiting{Reason: v1alpha1.ReasonOwnershipConflict, After: slowRetry, Err: fmt.Errorf(
			"stream %s is owned by AuditStream %s, which this operator may not read; choose another stream", stream, key)}
	case err != nil:
		return false, fmt.Errorf("looking for AuditStream %s, which owns stream %s: %w", key, stream, err)
	}
	return owner.Spec.Stream != stream, nil
}

func conflict(format string, args ...any) error {
	return &failure.Terminal{Reason: v1alpha1.ReasonOwnershipConflict, Err: fmt.Errorf(format, args...)}
}
