package controller

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

func TestOwnWritesAreSeenBeforeTheCacheHasThem(t *testing.T) {
	at := func(version string) *v1alpha1.AuditStream {
		return &v1alpha1.AuditStream{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "1", ResourceVersion: version}}
	}
	again := at("8")
	again.UID = "2"
	for name, test := range map[string]struct {
		cached *v1alpha1.AuditStream
		want   string
	}{
		"a cache that lags":           {at("9"), "10"},
		"a cache that has the write":  {at("10"), "10"},
		"a cache that has more":       {at("11"), "11"},
		"a resource created again":    {again, "8"},
		"a version that has no order": {at("abc"), "abc"},
		"a version of many digits":    {at("1000000000000000000001"), "1000000000000000000001"},
	} {
		t.Run(name, func(t *testing.T) {
			var writes ownWrites
			writes.note(at("10"))
			if got := writes.newest(test.cached); got.ResourceVersion != test.want {
				t.Errorf("newest is version %s, want %s", got.ResourceVersion, test.want)
			}
		})
	}
}

func TestOverwrittenStatus(t *testing.T) {
	called := func(stream string) *v1alpha1.AuditStream {
		return &v1alpha1.AuditStream{Status: v1alpha1.AuditStreamStatus{StreamName: stream}}
	}
	told := &ownWrites{}
	told.noteStatus(called("B"))
	forgotten := &ownWrites{}
	forgotten.noteStatus(called("B"))
	forgotten.forget(types.NamespacedName{})
	for name, test := range map[string]struct {
		writes  *ownWrites
		was, is string
		want    bool
	}{
		"before the first reconcile": {&ownWrites{}, "A", "B", false},
		"by this operator":           {told, "A", "B", false},
		"by nobody":                  {told, "C", "C", false},
		"by somebody else":           {told, "B", "C", true},
		"of a resource that is gone": {forgotten, "B", "C", false},
	} {
		if got := test.writes.overwritten(called(test.was), called(test.is)); got != test.want {
			t.Errorf("Overwritten %s: %t, want %t", name, got, test.want)
		}
	}
}
