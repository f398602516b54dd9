package controller

import (
	"testing"

	"github.com/onsi/gomega"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsclient"
)

// What the operator itself was asked to delete is nobody's fault; and it knows of it without an advisory.
func TestAStreamInTheShadowOfADeletionThatWasDeclared(t *testing.T) {
	g := gomega.NewWithT(t)
	l := newLone(t)
	l.stopClock() // the shadow is short
	l.Pool.Close()
	l.Pool = jsclient.NewPool(jsclient.PoolOptions{}) // without advisories
	t.Cleanup(l.Pool.Close)
	obj := l.apply(deleting)
	l.remove(obj)
	g.Expect(l.pass()).To(gomega.BeNil())
	l.told()

	again := l.apply(func(o *v1alpha1.AuditStream) { o.UID = "another" })
	g.Expect(readyText(again)).To(gomega.And(gomega.HavePrefix("False StreamDeleted: "), gomega.Not(gomega.ContainSubstring("out of band"))))
	g.Expect(l.told()).To(gomega.ConsistOf(gomega.HavePrefix("Normal StreamDeleted ")))
	g.Expect(l.streamExists()).To(gomega.BeFalse())
}

func TestAStreamInTheShadowOfADeletionThatWasNotDeclared(t *testing.T) {
	g := gomega.NewWithT(t)
	l := newLone(t)
	l.stopClock()
	l.apply()
	l.told()
	g.Expect(l.js.DeleteStream(t.Context(), "AUDIT")).To(gomega.Succeed())
	g.Expect(readyText(l.pass())).To(gomega.HavePrefix("False StreamDeleted: stream AUDIT was deleted out of band"))
	g.Expect(l.told()).To(gomega.ConsistOf(gomega.HavePrefix("Warning StreamDeleted ")))
}
