package controller

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsclient"
)

// newDenied is a reconciler whose NATS user may do all that it needs, except for what is denied.
func newDenied(t *testing.T, denied ...string) *lone {
	t.Helper()
	permit := func(subjects ...string) *server.SubjectPermission {
		return &server.SubjectPermission{Allow: slices.DeleteFunc(subjects, func(s string) bool { return slices.Contains(denied, s) })}
	}
	l := newLone(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "admin", Password: "x"}, {Username: "operator", Password: "x", Permissions: &server.Permissions{
			Publish:   permit("$JS.API.STREAM.LIST", "$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.UPDATE.*"),
			Subscribe: permit("_INBOX.>", "$JS.EVENT.ADVISORY.STREAM.>"),
		}}}
		o.NoAuthUser = "admin"
	})
	l.Connection.URL = strings.Replace(l.Connection.URL, "//", "//operator:x@", 1)
	return l
}

func TestWithoutAdvisoriesNothingIsCalledReady(t *testing.T) {
	g := gomega.NewWithT(t)
	l := newDenied(t, "$JS.EVENT.ADVISORY.STREAM.>")
	obj := l.apply()
	g.Expect(readyText(obj)).To(gomega.And(gomega.HavePrefix("False PermissionDenied: "),
		gomega.ContainSubstring(`subscribe to "$JS.EVENT.ADVISORY.STREAM.DELETED.*"`)))
	g.Expect(meta.IsStatusConditionTrue(obj.Status.Conditions, v1alpha1.ConditionStreamReady)).To(gomega.BeTrue())
	g.Expect(l.told()).To(gomega.ConsistOf(gomega.HavePrefix("Warning PermissionDenied ")))
	l.pass()
	g.Expect(l.told()).To(gomega.BeEmpty())
}

// A loss must not be hidden by what is not permitted.
func TestALossWithoutAdvisoriesIsTold(t *testing.T) {
	g := gomega.NewWithT(t)
	l := newDenied(t, "$JS.EVENT.ADVISORY.STREAM.>")
	l.apply()
	g.Expect(l.js.DeleteStream(t.Context(), "AUDIT")).To(gomega.Succeed())
	l.told()
	var told []string
	g.Eventually(func() bool { l.pass(); told = append(told, l.told()...); return l.streamExists() }, eventually).Should(gomega.BeTrue())
	g.Expect(told).To(gomega.ContainElement(gomega.HavePrefix("Warning StreamRecreated ")))
	g.Expect(readyText(l.pass())).To(gomega.HavePrefix("False PermissionDenied: "))
}

func TestWithoutTheListEachStreamIsLookedAt(t *testing.T) {
	g := gomega.NewWithT(t)
	l := newDenied(t, "$JS.API.STREAM.LIST")
	events := make(chan jsclient.EventKind, 10)
	l.Pool.Close()
	l.Pool = jsclient.NewPool(jsclient.PoolOptions{OnEvent: func(cfg jsclient.Config, e jsclient.Event) {
		l.HandleEvent(cfg, e)
		events <- e.Kind
	}})
	t.Cleanup(l.Pool.Close)
	_, err := l.Pool.Get(l.Connection)
	g.Expect(err).NotTo(gomega.HaveOccurred())
	g.Eventually(events, eventually).Should(gomega.Receive(gomega.Equal(jsclient.Connected)))
	g.Expect(readyText(l.apply())).To(gomega.HavePrefix("True Ready: "))
	g.Eventually(events, eventually).Should(gomega.Receive(gomega.Equal(jsclient.StreamCreated)), "which has woken the resource")
	request, _ := l.queue.q.Get()
	l.queue.q.Done(request)
	g.Expect(l.queue.q.Len()).To(gomega.BeZero())

	g.Expect(l.resync(t.Context())).To(gomega.Succeed())
	g.Expect(l.queue.q.Len()).To(gomega.Equal(1))
}
