package chart

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// leaseName is the lease of leader election, in the operator's namespace.
const leaseName = "auditstream-operator.audit.osapi.io"

// TestTheOperatorMayDoNoMoreThanItDoes looks at what is bound to the operator's ServiceAccount. That it is enough, the end-to-end
// suites find out: their operator runs under it.
func TestTheOperatorMayDoNoMoreThanItDoes(t *testing.T) {
	want := []string{
		"create auditstream-operator-leader-election-role coordination.k8s.io/leases",
		"get,update auditstream-operator-leader-election-role coordination.k8s.io/leases " + leaseName,
		"create auditstream-operator-metrics-auth-role authentication.k8s.io/tokenreviews",
		"create auditstream-operator-metrics-auth-role authorization.k8s.io/subjectaccessreviews",
		"get auditstream-operator-manager-role /namespaces kube-system",
		"create,patch auditstream-operator-manager-role /events",
		"create,patch auditstream-operator-manager-role events.k8s.io/events",
		"get,list,patch,watch auditstream-operator-manager-role audit.osapi.io/auditstreams",
		"patch auditstream-operator-manager-role audit.osapi.io/auditstreams/status",
		// Of other namespaces as well: it says when another operator leads, too.
		"list auditstream-operator-manager-role coordination.k8s.io/leases " + leaseName,
	}
	var got []string
	for _, object := range objectsOf(t, kustomize(t, root+"/config/default")) {
		kind := object.GetKind()
		if kind != "ClusterRole" && kind != "Role" || strings.Contains(object.GetName(), "auditstream-operator-auditstream-") {
			continue
		}
		role := &rbacv1.ClusterRole{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, role); err != nil {
			t.Fatal(err)
		}
		got = append(got, permissions(role)...)
	}
	slices.Sort(got)
	slices.Sort(want)
	for _, permission := range got {
		if !slices.Contains(want, permission) {
			t.Errorf("nothing needs %s", permission)
		}
	}
	for _, permission := range want {
		if !slices.Contains(got, permission) {
			t.Errorf("it lacks %s", permission)
		}
	}
}

// permissions of a role, one for each resource of a rule. Those that are for no resource are for people.
func permissions(role *rbacv1.ClusterRole) (all []string) {
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				permission := []string{strings.Join(rule.Verbs, ","), role.Name, group + "/" + resource}
				all = append(all, strings.Join(append(permission, rule.ResourceNames...), " "))
			}
		}
	}
	return all
}
