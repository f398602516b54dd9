package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

func operatorLog() string { return filepath.Join(env.dir, "manager.log") }

// startOperator starts an operator, which goes with the spec.
func startOperator(ctx context.Context, s *servers, args ...string) *testenv.Manager {
	GinkgoHelper()
	operator, err := testenv.StartManager(ctx, testenv.ManagerOptions{
		Kubeconfig: env.kubeconfig, NATSURL: s.gate.URL(), LogFile: operatorLog(), Args: args,
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(operator.Kill)
	return operator
}

// running fails when the operator has ended.
func running(operator *testenv.Manager) error {
	select {
	case <-operator.Done():
		return fmt.Errorf("the operator has ended: %w", operator.Err())
	default:
		return nil
	}
}

// migration is a resource that moves the bucket into a stream of its own.
type migration struct {
	*servers
	declared *v1alpha1.AuditStream
}

// migrate applies the resource. The copy waits for m.at at each of the marks, and at the last entry for m.finish: however slow the
// test is, it is in the middle of the copy until then. The resource and the stream go with the spec, also where no operator runs
// any more.
func migrate(ctx context.Context, s *servers, marks ...int) *migration {
	GinkgoHelper()
	name := fmt.Sprintf("copy-%x", time.Now().UnixNano())
	m := &migration{servers: s, declared: &v1alpha1.AuditStream{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
		Spec: v1alpha1.AuditStreamSpec{
			Stream: strings.ToUpper(name), Subject: name, MaxAge: "30d", Replicas: int32(len(s.all)),
			MigrateFrom: []v1alpha1.MigrationSource{{Bucket: bucketName}},
		},
	}}
	for _, mark := range append(marks, env.entries-1) {
		s.gate.HoldBack("HPUB " + m.declared.Spec.Subject + "." + s.live[mark].key + " ")
	}
	DeferCleanup(func(ctx SpecContext) {
		m.finish()
		m.remove(ctx)
		Eventually(m.takeFinalizers).WithContext(ctx).Should(Succeed())
		Eventually(func(ctx context.Context) error { return s.js.DeleteStream(ctx, m.stream()) }).WithContext(ctx).Should(Succeed())
	})
	m.apply(ctx)
	return m
}

func (m *migration) stream() string { return m.declared.Spec.Stream }

// apply declares the resource, as kubectl apply does of one that does not exist.
func (m *migration) apply(ctx context.Context) {
	GinkgoHelper()
	Expect(env.k8s.Create(ctx, m.declared.DeepCopy())).To(Succeed())
}

func (m *migration) remove(ctx context.Context) {
	GinkgoHelper()
	Expect(client.IgnoreNotFound(env.k8s.Delete(ctx, m.declared.DeepCopy()))).To(Succeed())
}

// takeFinalizers does what an operator would have done, and is nil when the resource is gone.
func (m *migration) takeFinalizers(ctx context.Context) error {
	noFinalizers := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
	if err := client.IgnoreNotFound(env.k8s.Patch(ctx, m.declared.DeepCopy(), noFinalizers)); err != nil {
		return err
	}
	return m.gone(ctx)
}

// gone is nil when the resource does not exist.
func (m *migration) gone(ctx context.Context) error {
	_, err := m.now(ctx)
	if err == nil {
		return errors.New("the resource is still there")
	}
	return client.IgnoreNotFound(err)
}

func (m *migration) now(ctx context.Context) (*v1alpha1.AuditStream, error) {
	live := &v1alpha1.AuditStream{}
	err := env.k8s.Get(ctx, client.ObjectKeyFromObject(m.declared), live)
	return live, err
}

// stored is how many messages the stream holds; none while there is no stream.
func (m *migration) stored(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	live, err := m.js.Stream(ctx, m.stream())
	if err != nil {
		return 0, err
	}
	return int(live.CachedInfo().State.Msgs), nil
}

// at has something happen to the copy when it has come to its next mark, and while it goes on from there.
func (m *migration) at(ctx context.Context, strike func()) {
	GinkgoHelper()
	Eventually(m.gate.Held()).WithContext(ctx).Should(BeClosed(), "the copy does not come to its next mark")
	var n int
	Eventually(func(ctx context.Context) (err error) {
		n, err = m.stored(ctx)
		return err
	}).WithContext(ctx).Should(Succeed())
	By(fmt.Sprintf("at %d of %d entries", n, env.entries))
	Expect(n).To(BeNumerically("<", env.entries))
	m.gate.Open()
	strike()
}

// finish lets the copy end.
func (m *migration) finish() { m.gate.OpenAll() }

// migrated is nil when the resource says that the migration is complete.
func (m *migration) migrated(ctx context.Context) error {
	live, err := m.now(ctx)
	if err != nil {
		return err
	}
	c := meta.FindStatusCondition(live.Status.Conditions, v1alpha1.ConditionMigrated)
	if c == nil || c.Status != metav1.ConditionTrue || c.ObservedGeneration != live.Generation {
		return fmt.Errorf("not migrated: %+v", c)
	}
	return nil
}

// checkpoint is the sequence of the bucket up to which the stream's own metadata says that everything is copied, while the
// copy goes on.
func (m *migration) checkpoint(ctx context.Context) (uint64, error) {
	live, err := m.js.Stream(ctx, m.stream())
	if err != nil {
		return 0, err
	}
	text := live.CachedInfo().Config.Metadata[jsbuilder.MetadataMigrationPrefix+bucketName]
	if text == "" {
		return 0, nil
	}
	var stored struct {
		Last     uint64
		Complete string
	}
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return 0, err
	}
	if stored.Complete != "" {
		return 0, StopTrying("the copy is complete")
	}
	return stored.Last, nil
}

// expectExactlyOnce lets the copy end, waits for the end of the migration, and reads for itself what has become of the bucket and
// the stream.
func (m *migration) expectExactlyOnce(ctx context.Context) {
	GinkgoHelper()
	m.finish()
	By("waiting for the end of the migration")
	Eventually(m.migrated).WithContext(ctx).Should(Succeed())
	By("comparing the bucket with the stream")
	for _, stream := range []string{"KV_" + bucketName, m.stream()} {
		Eventually(m.inStep(stream)).WithContext(ctx).Should(Succeed())
	}
	live, err := liveEntries(ctx, m.js, bucketName)
	Expect(err).NotTo(HaveOccurred())
	Expect(live).To(HaveLen(env.entries), "the bucket is as it was")
	copied, err := copiedEntries(ctx, m.js, m.stream(), m.declared.Spec.Subject, bucketName)
	Expect(err).NotTo(HaveOccurred())
	Expect(difference(live, copied)).To(Succeed())

	declared, err := m.now(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(declared.Status.Migration).To(HaveLen(1))
	told := declared.Status.Migration[0]
	Expect(told.Total).To(BeEquivalentTo(len(live)), "status.migration[0].total")
	Expect(told.Migrated).To(BeEquivalentTo(len(live)), "status.migration[0].migrated")
	Expect(digest(copied)).To(Equal(digest(live)))
	Expect(told.Digest).To(Equal(digest(live)), "status.migration[0].digest")
	Expect(told.Verification).NotTo(BeNil())
	Expect(told.Verification.BucketEntries).To(BeEquivalentTo(len(live)), "status.migration[0].verification.bucketEntries")
	Expect(told.Verification.BucketDigest).To(Equal(digest(live)), "status.migration[0].verification.bucketDigest")
	Expect(told.Verification.StreamEntries).To(BeEquivalentTo(len(copied)), "status.migration[0].verification.streamEntries")
	Expect(told.Verification.StreamDigest).To(Equal(digest(copied)), "status.migration[0].verification.streamDigest")
}

// trim lowers maxBytes so that the stream loses its oldest entries, and returns how many are left.
func (m *migration) trim(ctx context.Context) int {
	GinkgoHelper()
	live, err := m.now(ctx)
	Expect(err).NotTo(HaveOccurred())
	base := live.DeepCopy()
	live.Spec.MaxBytes = resource.NewQuantity(int64(env.entries)*200, resource.BinarySI)
	Expect(env.k8s.Patch(ctx, live, client.MergeFrom(base))).To(Succeed())
	// The server removes them one by one.
	var left int
	Eventually(func(ctx context.Context) (uint64, error) {
		stream, err := m.js.Stream(ctx, m.stream())
		if err != nil {
			return 0, err
		}
		left = int(stream.CachedInfo().State.Msgs)
		return stream.CachedInfo().State.Bytes, nil
	}).WithContext(ctx).Should(BeNumerically("<=", live.Spec.MaxBytes.Value()))
	Expect(left).To(BeNumerically("<", env.entries))
	return left
}

// expectNothingBack waits for the end of the migration, in which no entry comes back that maxBytes has removed.
func (m *migration) expectNothingBack(ctx context.Context, left int) {
	GinkgoHelper()
	Eventually(m.migrated).WithContext(ctx).Should(Succeed())
	Expect(m.stored(ctx)).To(Equal(left))
}
