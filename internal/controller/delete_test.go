package controller

import (
	"testing"

	"github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/resource"
)

// A rule that a new CRD adds does not judge what is there already.
func TestAResourceOfWhichNoStreamCanBeMadeGoesWithItsStream(t *testing.T) {
	g := gomega.NewWithT(t)
	l := newLone(t)
	obj := l.apply(deleting)
	g.Expect(readyText(obj)).To(gomega.HavePrefix("True Ready"))
	half := resource.MustParse("9007199254740993.5")
	obj.Spec.MaxBytes = &half
	g.Expect(l.api.Update(t.Context(), obj)).To(gomega.Succeed())
	l.remove(obj)
	g.Expect(l.pass()).To(gomega.BeNil())
	g.Expect(l.streamExists()).To(gomega.BeFalse())
}
