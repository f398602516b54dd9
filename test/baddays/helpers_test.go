package baddays

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/test/baddays/cluster"
)

// newNamespace makes a namespace for a test; its resources go with the test, and their streams stay.
func newNamespace(ctx context.Context, name string) string {
	GinkgoHelper()
	Expect(env.K8s.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})).To(Succeed())
	DeferCleanup(func(ctx SpecContext) {
		Expect(env.K8s.DeleteAllOf(ctx, &v1alpha1.AuditStream{}, client.InNamespace(name))).To(Succeed())
	})
	return name
}

// declare applies resources of the namespace, as cluster.AuditStream makes them, and returns once they are Ready.
func declare(ctx context.Context, namespace string, names ...string) {
	GinkgoHelper()
	for _, name := range names {
		Expect(env.K8s.Create(ctx, cluster.AuditStream(namespace, name))).To(Succeed())
	}
	for _, name := range names {
		expectReady(ctx, namespace, name)
	}
}

func expectReady(ctx context.Context, namespace, name string) {
	GinkgoHelper()
	Eventually(ready(namespace, name), eventually).WithContext(ctx).Should(HavePrefix("True "), namespace+"/"+name)
}

// ready is the condition Ready of the latest generation.
func ready(namespace, name string) func(context.Context) string {
	return func(ctx context.Context) string {
		obj := &v1alpha1.AuditStream{}
		if err := env.K8s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, obj); err != nil {
			return err.Error()
		}
		c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionReady)
		if c == nil || c.ObservedGeneration != obj.Generation {
			return "not of this generation"
		}
		return string(c.Status) + " " + c.Reason + ": " + c.Message
	}
}

func get(ctx context.Context, namespace, name string) *v1alpha1.AuditStream {
	GinkgoHelper()
	obj := &v1alpha1.AuditStream{}
	Expect(env.K8s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, obj)).To(Succeed())
	return obj
}

// streamName is what cluster.AuditStream names the stream.
func streamName(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

func liveStream(ctx context.Context, name string) *jetstream.StreamInfo {
	GinkgoHelper()
	live, err := env.JS.Stream(ctx, streamName(name))
	Expect(err).NotTo(HaveOccurred())
	return live.CachedInfo()
}

// write stores three entries.
func write(ctx context.Context, name string) {
	GinkgoHelper()
	for i := range 3 {
		_, err := env.JS.Publish(ctx, fmt.Sprintf("%s.native-%d", strings.ReplaceAll(name, "-", "_"), i), fmt.Appendf(nil, `{"id":"native-%d"}`, i))
		Expect(err).NotTo(HaveOccurred())
	}
}

// expectLookedAfter is that somebody undoes a change of the stream that nobody declared.
func expectLookedAfter(ctx context.Context, name string, within time.Duration) {
	GinkgoHelper()
	declared := liveStream(ctx, name).Config
	drifted := declared
	drifted.MaxMsgs = 1_000_000
	_, err := env.JS.UpdateStream(ctx, drifted)
	Expect(err).NotTo(HaveOccurred())
	Eventually(func() int64 { return liveStream(ctx, name).Config.MaxMsgs }, within).WithContext(ctx).Should(Equal(declared.MaxMsgs), name)
}

func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := env.CP.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

// logged is what an operator has logged.
func logged(name string) func() (string, error) {
	return func() (string, error) {
		text, err := os.ReadFile(logOf(name))
		return string(text), err
	}
}
