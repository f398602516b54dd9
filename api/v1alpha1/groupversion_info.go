// Package v1alpha1 holds the AuditStream API of the group audit.osapi.io: its types, and the condition types and
// reasons that the operator reports. It imports apimachinery only, so that any client can use it at little cost.
//
// +kubebuilder:object:generate=true
// +groupName=audit.osapi.io
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the group and version of the objects in this package.
	GroupVersion = schema.GroupVersion{Group: "audit.osapi.io", Version: "v1alpha1"}

	// SchemeBuilder registers the types of this package with a scheme.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme adds the types of this package to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &AuditStream{}, &AuditStreamList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
