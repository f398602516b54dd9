package main

import (
	"context"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// leasesOf answers with the leases of a cluster.
type leasesOf struct {
	client.Reader
	items []coordinationv1.Lease
}

func (l leasesOf) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	list.(*coordinationv1.LeaseList).Items = l.items
	return nil
}

func TestARivalLeadsInAnotherNamespaceAndLives(t *testing.T) {
	now := time.Date(2026, time.May, 4, 3, 2, 1, 0, time.UTC)
	lease := func(namespace, holder string, age time.Duration) coordinationv1.Lease {
		renewed := metav1.NewMicroTime(now.Add(-age))
		return coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: leaseName},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &renewed},
		}
	}
	rival := lease("other", "a", time.Second)
	for _, c := range []struct {
		what   string
		leases []coordinationv1.Lease
		said   string
	}{
		{"its own lease", []coordinationv1.Lease{lease("own", "me", 0)}, ""},
		{"one that was given up", []coordinationv1.Lease{lease("other", "", time.Second)}, ""},
		{"one that nobody renews", []coordinationv1.Lease{lease("other", "a", time.Hour)}, ""},
		{"one that nobody has taken", []coordinationv1.Lease{{ObjectMeta: metav1.ObjectMeta{Namespace: "other"}}}, ""},
		{"two that are held", []coordinationv1.Lease{lease("third", "b", 0), lease("own", "me", 0), rival}, "a in namespace other, b in namespace third"},
	} {
		r := &rivals{reader: leasesOf{items: c.leases}, own: "own", now: func() time.Time { return now }}
		r.look(t.Context())
		if r.said != c.said {
			t.Errorf("of %s it said %q, want %q", c.what, r.said, c.said)
		}
	}
	r := &rivals{reader: leasesOf{items: []coordinationv1.Lease{rival}}, now: func() time.Time { return now }}
	r.look(t.Context())
	r.reader = leasesOf{}
	r.look(t.Context())
	if r.said != "" {
		t.Errorf("it still says %q when the other one has ended", r.said)
	}
}
