package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// ensureSoleMover refuses a bucket that another AuditStream moves, and then ends what this one does with it. A dry run
// disturbs nobody.
func (r *Reconciler) ensureSoleMover(ctx context.Context, s *scope, source v1alpha1.MigrationSource) error {
	if source.DryRun {
		return nil
	}
	list := &v1alpha1.AuditStreamList{}
	if err := r.Client.List(ctx, list, client.MatchingFields{indexStream: migrate.StreamName(source.Bucket)}); err != nil {
		return fmt.Errorf("listing the AuditStreams that declare bucket %s: %w", source.Bucket, err)
	}
	// The cache may not have seen yet what the operator has written last.
	self := client.ObjectKeyFromObject(s.obj)
	others := slices.DeleteFunc(list.Items, func(o v1alpha1.AuditStream) bool { return client.ObjectKeyFromObject(&o) == self })
	mover := moverOf(append(others, *s.obj), source.Bucket)
	if mover == self {
		return nil
	}
	r.copies.stop(copyID{resource: self, bucket: source.Bucket})
	return &failure.Terminal{Reason: v1alpha1.ReasonBucketConflict, Err: fmt.Errorf(
		"bucket %s is being moved by AuditStream %s; take it out of spec.migrateFrom of one of the two", source.Bucket, mover)}
}

// moverOf is the one AuditStream of those that declare a bucket which may move it: the one that began first; among those
// that have not begun, the oldest. One that only makes a dry run, or is being deleted, has no claim.
func moverOf(list []v1alpha1.AuditStream, bucket string) types.NamespacedName {
	type claim struct {
		key     types.NamespacedName
		began   time.Time
		created time.Time
	}
	var claims []claim
	for i := range list {
		obj := &list[i]
		declares := slices.ContainsFunc(obj.Spec.MigrateFrom, func(m v1alpha1.MigrationSource) bool { return m.Bucket == bucket && !m.DryRun })
		if declares && obj.DeletionTimestamp.IsZero() {
			claims = append(claims, claim{client.ObjectKeyFromObject(obj), beganAt(obj, bucket), obj.CreationTimestamp.Time})
		}
	}
	if len(claims) == 0 {
		return types.NamespacedName{}
	}
	first := slices.MinFunc(claims, func(a, b claim) int {
		if a.began.IsZero() != b.began.IsZero() {
			if a.began.IsZero() {
				return 1
			}
			return -1
		}
		return cmp.Or(a.began.Compare(b.began), a.created.Compare(b.created), cmp.Compare(a.key.String(), b.key.String()))
	})
	return first.key
}

// beganAt is when a resource began to move a bucket, as its status says; zero when it has not.
func beganAt(obj *v1alpha1.AuditStream, bucket string) time.Time {
	for i := range obj.Status.Migration {
		if m := &obj.Status.Migration[i]; m.Bucket == bucket && m.StartTime != nil {
			return m.StartTime.Time
		}
	}
	return time.Time{}
}

// bucketClaim is what decides who moves a bucket.
type bucketClaim struct {
	bucket   string
	dryRun   bool
	deleting bool
	began    int64
}

// claimsOf is all of a resource that others' claims depend on.
func claimsOf(obj *v1alpha1.AuditStream) []bucketClaim {
	claims := make([]bucketClaim, len(obj.Spec.MigrateFrom))
	for i, m := range obj.Spec.MigrateFrom {
		claims[i] = bucketClaim{m.Bucket, m.DryRun, !obj.DeletionTimestamp.IsZero(), beganAt(obj, m.Bucket).Unix()}
	}
	return claims
}
