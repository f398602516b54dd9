package e2e

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// newNamespace makes a namespace for a journey, which goes with all that is in it when the journey is over.
func newNamespace(ctx context.Context) string {
	GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}
	Expect(env.k8s.Create(ctx, namespace)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) {
		Expect(env.k8s.DeleteAllOf(ctx, &v1alpha1.AuditStream{}, client.InNamespace(namespace.Name))).To(Succeed())
		Expect(client.IgnoreNotFound(env.k8s.Delete(ctx, namespace))).To(Succeed())
	})
	return namespace.Name
}

// change alters a resource before it is applied.
type change func(*v1alpha1.AuditStream)

func migrateFrom(bucket string) change {
	return func(s *v1alpha1.AuditStream) {
		s.Spec.MigrateFrom = append(s.Spec.MigrateFrom, v1alpha1.MigrationSource{Bucket: bucket})
	}
}

func deletionPolicy(policy v1alpha1.DeletionPolicy) change {
	return func(s *v1alpha1.AuditStream) { s.Spec.DeletionPolicy = policy }
}

// stream applies a resource whose JetStream stream and subject are its namespace's and name's own.
func stream(ctx context.Context, namespace, name string, changes ...change) *v1alpha1.AuditStream {
	GinkgoHelper()
	unique := strings.ReplaceAll(namespace+"-"+name, "-", "_")
	s := &v1alpha1.AuditStream{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.AuditStreamSpec{Stream: strings.ToUpper(unique), Subject: unique, MaxAge: "30d"},
	}
	for _, c := range changes {
		c(s)
	}
	Expect(env.k8s.Create(ctx, s)).To(Succeed())
	return s
}

// edit changes a resource as kubectl patch does.
func edit(ctx context.Context, s *v1alpha1.AuditStream, c change) {
	GinkgoHelper()
	base := s.DeepCopy()
	c(s)
	Expect(env.k8s.Patch(ctx, s, client.MergeFrom(base))).To(Succeed())
}

// now fetches the resource; it is for Eventually and Consistently.
func now(s *v1alpha1.AuditStream) func(context.Context) (*v1alpha1.AuditStream, error) {
	return func(ctx context.Context) (*v1alpha1.AuditStream, error) {
		fresh := &v1alpha1.AuditStream{}
		err := env.k8s.Get(ctx, client.ObjectKeyFromObject(s), fresh)
		return fresh, err
	}
}

func gone(s *v1alpha1.AuditStream) func(context.Context) bool {
	return func(ctx context.Context) bool {
		return apierrors.IsNotFound(env.k8s.Get(ctx, client.ObjectKeyFromObject(s), &v1alpha1.AuditStream{}))
	}
}

// haveCondition matches a resource whose condition speaks of its latest generation and has the status and the reason.
func haveCondition(kind string, status metav1.ConditionStatus, reason string) types.GomegaMatcher {
	want := fmt.Sprintf("%s=%s %s", kind, status, reason)
	return WithTransform(func(s *v1alpha1.AuditStream) string { return told(s, kind) }, HavePrefix(want+": "))
}

// say matches a resource whose condition's message contains text.
func say(kind, text string) types.GomegaMatcher {
	return WithTransform(func(s *v1alpha1.AuditStream) string { return told(s, kind) }, ContainSubstring(text))
}

func told(s *v1alpha1.AuditStream, kind string) string {
	c := meta.FindStatusCondition(s.Status.Conditions, kind)
	if c == nil {
		return "no condition " + kind
	}
	if s.Status.ObservedGeneration != s.Generation || c.ObservedGeneration != s.Generation {
		return fmt.Sprintf("condition %s of an older generation", kind)
	}
	return fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
}

func beReady() types.GomegaMatcher {
	return haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}

func beMigrated() types.GomegaMatcher {
	return SatisfyAll(beReady(), haveCondition(v1alpha1.ConditionMigrated, metav1.ConditionTrue, v1alpha1.ReasonMigrationComplete))
}

// bucketOf is the name of a bucket of the journey's own.
func bucketOf(namespace string) string { return namespace + "-audit-log" }

func fill(ctx context.Context, bucket testenv.LegacyBucket) {
	GinkgoHelper()
	Expect(testenv.FillLegacyBucket(ctx, env.js, bucket)).To(Succeed())
}

// holdsBucket is nil when every live key of the bucket is in the stream exactly once, with the same bytes, and nothing
// else is.
func holdsBucket(s *v1alpha1.AuditStream, bucket string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := testenv.Compare(ctx, env.js, bucket, s.Spec.Stream, s.Spec.Subject)
		if err != nil {
			return err
		}
		if c.BucketEntries != c.StreamEntries {
			return fmt.Errorf("the bucket has %d entries and the stream %d (%w)", c.BucketEntries, c.StreamEntries, c.Err())
		}
		return c.Err()
	}
}

// onServer fetches the JetStream stream; it is for Eventually and Consistently.
func onServer(s *v1alpha1.AuditStream) func(context.Context) (*jetstream.StreamInfo, error) {
	return func(ctx context.Context) (*jetstream.StreamInfo, error) {
		live, err := env.js.Stream(ctx, s.Spec.Stream)
		if err != nil {
			return nil, err
		}
		return live.CachedInfo(), nil
	}
}

func noStream(s *v1alpha1.AuditStream) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := env.js.Stream(ctx, s.Spec.Stream)
		return err
	}
}

// write publishes native entries.
func write(ctx context.Context, s *v1alpha1.AuditStream, n int) {
	GinkgoHelper()
	for i := range n {
		id := fmt.Sprintf("native-%d", i)
		_, err := env.js.Publish(ctx, s.Spec.Subject+"."+id, fmt.Appendf(nil, `{"id":%q}`, id))
		Expect(err).NotTo(HaveOccurred())
	}
}

// startGate stands between an operator and NATS until the journey is over.
func startGate() *testenv.Gate {
	GinkgoHelper()
	gate, err := testenv.StartGate(env.nats)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(gate.Close)
	return gate
}

// eventsOf are the events of the resource as "type reason: note".
func eventsOf(s *v1alpha1.AuditStream) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		list := &corev1.EventList{}
		err := env.k8s.List(ctx, list, client.InNamespace(s.Namespace), client.MatchingFields{"involvedObject.name": s.Name})
		var lines []string
		for _, e := range list.Items {
			lines = append(lines, fmt.Sprintf("%s %s: %s", e.Type, e.Reason, e.Message))
		}
		return lines, err
	}
}

func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := env.cp.Kubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}
