package controller

import (
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

// ownWrites remembers what the operator has written last to each resource, until the cache has seen it. A reconcile that
// JetStream's advisory of the operator's own change wakes comes sooner than the cache, and would write status and event
// a second time. It is safe for concurrent use.
type ownWrites struct {
	mu      sync.Mutex
	written map[types.NamespacedName]*v1alpha1.AuditStream
	// told is the status that the operator has come to last.
	told map[types.NamespacedName]*v1alpha1.AuditStreamStatus
}

// noteStatus records the status that the resource has according to this operator, whether or not that took a write.
func (o *ownWrites) noteStatus(obj *v1alpha1.AuditStream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told == nil {
		o.told = map[types.NamespacedName]*v1alpha1.AuditStreamStatus{}
	}
	o.told[client.ObjectKeyFromObject(obj)] = obj.Status.DeepCopy()
}

// overwritten says whether somebody else has written the status, such as an operator that has lost its lease and does not
// know it yet.
func (o *ownWrites) overwritten(was, is *v1alpha1.AuditStream) bool {
	if equality.Semantic.DeepEqual(was.Status, is.Status) {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	told := o.told[client.ObjectKeyFromObject(is)]
	return told != nil && !equality.Semantic.DeepEqual(*told, is.Status)
}

// note records the resource as the API server returned it from a write.
func (o *ownWrites) note(obj *v1alpha1.AuditStream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.written == nil {
		o.written = map[types.NamespacedName]*v1alpha1.AuditStream{}
	}
	o.written[client.ObjectKeyFromObject(obj)] = obj.DeepCopy()
}

// newest returns the resource as the cache has it, or as it was written if that is newer. Resource versions of one
// resource can be compared as of Kubernetes 1.35; before that, all that is lost is the protection.
func (o *ownWrites) newest(cached *v1alpha1.AuditStream) *v1alpha1.AuditStream {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := client.ObjectKeyFromObject(cached)
	written := o.written[key]
	if written == nil {
		return cached
	}
	order, err := resourceversion.CompareResourceVersion(cached.ResourceVersion, written.ResourceVersion)
	if err == nil && order < 0 && cached.UID == written.UID {
		return written.DeepCopy()
	}
	delete(o.written, key)
	return cached
}

func (o *ownWrites) forget(key types.NamespacedName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.written, key)
	delete(o.told, key)
}
