package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/handover"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// strays remembers buckets that are fenced in favour of a resource's stream, which is not open for them, while the resource does
// not declare them: nobody takes what is put into them. That is what is left of a redirected bucket that was taken out of
// spec.migrateFrom when its stream is lost, or restored from an older backup. The zero value is ready for use, and it is
// safe for concurrent use.
type strays struct {
	mu      sync.Mutex
	buckets map[types.NamespacedName][]string
	// unknown are the resources whose streams were created, so that their strays have to be looked for.
	unknown map[types.NamespacedName]bool
}

func (s *strays) note(key types.NamespacedName, buckets []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buckets == nil {
		s.buckets = map[types.NamespacedName][]string{}
	}
	s.buckets[key] = buckets
}

func (s *strays) lookFor(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unknown == nil {
		s.unknown = map[types.NamespacedName]bool{}
	}
	s.unknown[key] = true
}

func (s *strays) of(key types.NamespacedName) (buckets []string, unknown bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buckets[key], s.unknown[key]
}

func (s *strays) forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.buckets, key)
	delete(s.unknown, key)
}

// fencedFor says in favour of which stream the bucket is fenced whose backing stream is live.
func fencedFor(live *jetstream.StreamInfo) (bucket, stream string, fenced bool) {
	bucket, fenced = strings.CutPrefix(live.Config.Name, migrate.StreamName(""))
	stream = live.Config.Metadata[jsbuilder.MetadataRedirectedTo]
	return bucket, stream, fenced && stream != "" && handover.Observe(live, bucket, stream).State == handover.Fenced
}

// straysOf are those of the fenced buckets that only the resource's stream could give back, and that it does not have.
func straysOf(obj *v1alpha1.AuditStream, live *jetstream.StreamInfo, fenced []string) (buckets []string) {
	if live == nil || obj.Spec.Suspend || !obj.DeletionTimestamp.IsZero() {
		return nil
	}
	for _, bucket := range fenced {
		declared := slices.ContainsFunc(obj.Spec.MigrateFrom, func(m v1alpha1.MigrationSource) bool { return m.Bucket == bucket })
		if !declared && !handover.Opened(live, bucket) {
			buckets = append(buckets, bucket)
		}
	}
	return buckets
}

// returnStrays gives strays their subjects back.
func (r *Reconciler) returnStrays(ctx context.Context, s *scope) error {
	key := client.ObjectKeyFromObject(s.obj)
	if s.created {
		r.strays.lookFor(key)
	}
	buckets, unknown := r.strays.of(key)
	if unknown {
		fenced, err := s.fencedBuckets(ctx)
		if err != nil {
			return ignorePermissionDenied(err)
		}
		buckets = append(buckets, fenced...)
	}
	for _, bucket := range straysOf(s.obj, s.live, buckets) {
		if r.copies.handingOver(copyID{resource: key, bucket: bucket}) {
			continue
		}
		if err := ignorePermissionDenied(r.returnBucket(ctx, s, bucket)); err != nil {
			return err
		}
	}
	r.strays.forget(key)
	return nil
}

// fencedBuckets are the buckets that are fenced in favour of the resource's stream. It asks for those that are fenced only.
func (s *scope) fencedBuckets(ctx context.Context) (buckets []string, err error) {
	list := s.nats.JetStream().ListStreams(ctx, jetstream.WithStreamListSubject(migrate.HandOverSubject("*")))
	for info := range list.Info() {
		if bucket, stream, fenced := fencedFor(info); fenced && stream == s.want.Name {
			buckets = append(buckets, bucket)
		}
	}
	if err := list.Err(); err != nil {
		return nil, s.nats.Explain(fmt.Errorf("looking for buckets that are fenced in favour of stream %s: %w", s.want.Name, err))
	}
	return buckets, nil
}

// ignorePermissionDenied is for what is no longer declared, which need not be permitted any more.
func ignorePermissionDenied(err error) error {
	if err != nil && errorVerdict(err).reason == v1alpha1.ReasonPermissionDenied {
		return nil
	}
	return err
}
