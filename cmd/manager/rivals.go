package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,resourceNames=auditstream-operator.audit.osapi.io,verbs=list

const (
	// rivalInterval is the time between two looks for other operators.
	rivalInterval = 30 * time.Second
	// rivalGrace is how old a renewal may be that is taken for a sign of life: clocks differ, and a lease is for 15 seconds.
	rivalGrace = time.Minute
)

// rivals says in the log when operators of other namespaces lead too: each namespace has a lease of its own, so that an
// operator which was installed twice would work twice without anybody noticing. That loses and doubles nothing, but two
// releases may each put right what the other declares. It only speaks: many may write leases in their own namespaces, and none
// of them shall be able to stop the operator.
type rivals struct {
	reader client.Reader
	// own is the namespace of this operator's lease, empty without leader election.
	own string
	now func() time.Time
	// said is what was said last.
	said string
}

// newRivals takes the namespace from the lock, which describes itself as namespace/name.
func newRivals(mgr ctrl.Manager, lock resourcelock.Interface) *rivals {
	r := &rivals{reader: mgr.GetAPIReader(), now: time.Now}
	if lock != nil {
		r.own, _, _ = strings.Cut(lock.Describe(), "/")
	}
	return r
}

// Start implements manager.Runnable. The manager runs it only where this operator leads.
func (r *rivals) Start(ctx context.Context) error {
	ticks := time.NewTicker(rivalInterval)
	defer ticks.Stop()
	for {
		r.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

func (r *rivals) look(ctx context.Context) {
	log := ctrl.Log.WithName("rivals")
	leases := &coordinationv1.LeaseList{}
	if err := r.reader.List(ctx, leases, client.MatchingFields{"metadata.name": leaseName}); err != nil {
		// An operator for some namespaces may have no permission to look at others.
		log.V(1).Info("Left out looking for other operators", "cause", err.Error())
		return
	}
	var found []string
	for i := range leases.Items {
		if lease := &leases.Items[i]; r.rival(lease) {
			found = append(found, fmt.Sprintf("%s in namespace %s", *lease.Spec.HolderIdentity, lease.Namespace))
		}
	}
	slices.Sort(found)
	text := strings.Join(found, ", ")
	switch text {
	case r.said:
		return
	case "":
		log.Info("No other operator leads any more")
	default:
		log.Info("Another operator leads in this cluster, too: uninstall one of them", "others", text)
	}
	r.said = text
}

// rival says whether the lease is another namespace's, and held by somebody who lives.
func (r *rivals) rival(lease *coordinationv1.Lease) bool {
	spec := &lease.Spec
	return lease.Namespace != r.own && spec.HolderIdentity != nil && *spec.HolderIdentity != "" &&
		spec.RenewTime != nil && r.now().Sub(spec.RenewTime.Time) < rivalGrace
}
