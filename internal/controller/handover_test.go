package controller

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

var _ = Describe("What becomes of a bucket after its migration", func() {
	var f fixture
	var kv jetstream.KeyValue
	BeforeEach(func() {
		f = newFixture()
		var err error
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: f.bucket, TTL: 720 * time.Hour})
		Expect(err).NotTo(HaveOccurred())
	})

	after := func(what v1alpha1.AfterMigration) func(*v1alpha1.AuditStream) {
		return func(obj *v1alpha1.AuditStream) {
			obj.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: f.bucket, AfterMigration: what}}
		}
	}
	put := func(from, to int) {
		GinkgoHelper()
		for i := from; i < to; i++ {
			id := fmt.Sprintf("id-%d", i)
			_, err := kv.Put(ctx, id, fmt.Appendf(nil, `{"id":%q}`, id))
			Expect(err).NotTo(HaveOccurred())
		}
	}
	phase := func(obj *v1alpha1.AuditStream, want v1alpha1.MigrationPhase) v1alpha1.BucketMigration {
		GinkgoHelper()
		Eventually(func(g Gomega) {
			g.Expect(k8s.Get(ctx, clientKey(obj), obj)).To(Succeed())
			expectRules(g, obj)
			g.Expect(obj.Status.Migration).To(HaveLen(1))
			g.Expect(obj.Status.Migration[0].Phase).To(Equal(want))
			g.Expect(isReady(obj)).To(BeTrue(), "%+v", obj.Status.Conditions)
		}).Should(Succeed())
		return obj.Status.Migration[0]
	}
	bucketSubjects := func() []string {
		GinkgoHelper()
		return liveStream(migrate.StreamName(f.bucket)).Config.Subjects
	}
	own := func() []string { return []string{jsbuilder.BucketSubjects(f.bucket)} }
	fence := func() {
		GinkgoHelper()
		tamper(migrate.StreamName(f.bucket), func(cfg *jetstream.StreamConfig) {
			cfg.Subjects = []string{migrate.HandOverSubject(f.bucket)}
			cfg.Metadata[jsbuilder.MetadataRedirectedTo] = f.stream
		})
	}
	// lands waits until what a legacy writer puts is in the stream, and says whether the bucket has it too.
	lands := func(id string) (inBucket bool) {
		GinkgoHelper()
		_, err := kv.Put(ctx, id, fmt.Appendf(nil, `{"id":%q}`, id))
		Expect(err).NotTo(HaveOccurred())
		stream, err := js.Stream(ctx, f.stream)
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() error {
			_, err := stream.GetLastMsgForSubject(ctx, f.subject+"."+id)
			return err
		}).Should(Succeed())
		_, err = kv.Get(ctx, id)
		return err == nil
	}

	It("redirects the bucket, keeps it readable, and gives it back", func() {
		put(0, 20)
		obj := f.auditStream("a", after(v1alpha1.AfterMigrationRedirect))
		m := phase(obj, v1alpha1.MigrationRedirected)
		Expect(m.Verification.BucketEntries).To(BeEquivalentTo(20))
		Expect(m.Verification.StreamDigest).To(Equal(m.Digest))
		Eventually(func() []string { return eventsOf(obj) }).Should(ContainElement(HavePrefix("Normal " + v1alpha1.ReasonBucketRedirected)))

		Expect(lands("id-20")).To(BeFalse())
		old, err := kv.Get(ctx, "id-7")
		Expect(err).NotTo(HaveOccurred())
		Expect(old.Value()).To(MatchJSON(`{"id":"id-7"}`))

		By("healing what is done to the stream out of band")
		tamper(f.stream, func(cfg *jetstream.StreamConfig) {
			cfg.Subjects, cfg.SubjectTransform = []string{f.subject + ".>"}, nil
		})
		Eventually(func() []string { return liveStream(f.stream).Config.Subjects }).Should(ContainElements(own()))

		By("staying redirected when the bucket is no longer named")
		update(obj, func(obj *v1alpha1.AuditStream) { obj.Spec.MigrateFrom = nil })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(lands("id-21")).To(BeFalse())

		By("giving the subjects back with Retain")
		update(obj, after(v1alpha1.AfterMigrationRetain))
		phase(obj, v1alpha1.MigrationComplete)
		Expect(bucketSubjects()).To(Equal(own()))
		Expect(liveStream(f.stream).Config.SubjectTransform).NotTo(BeNil(), "what is still on its way needs it")
		Expect(lands("id-22")).To(BeTrue())
		Expect(liveStream(f.stream).State.Msgs).To(BeEquivalentTo(23))
	})

	It("looks again for what the bucket took after the fence", func() {
		put(0, 5)
		obj := f.auditStream("a", after(v1alpha1.AfterMigrationRedirect))
		m := phase(obj, v1alpha1.MigrationRedirected)
		redirectedAt, err := time.Parse(time.RFC3339Nano, liveStream(f.stream).Config.Metadata[jsbuilder.MetadataRedirectPrefix+f.bucket])
		Expect(err).NotTo(HaveOccurred())
		time.Sleep(time.Until(redirectedAt.Add(lateLooks[0] + 500*time.Millisecond))) // between the first look and the second
		// What a server stores late is not to be had at will. This one is no entry, but moves the bucket's sequence on.
		late, err := js.Publish(ctx, migrate.HandOverSubject(f.bucket), nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(late.Sequence).To(BeNumerically(">", m.LastSequence))
		Eventually(func() int64 { return phase(obj, v1alpha1.MigrationRedirected).LastSequence }).
			WithTimeout(lateLooks[2] + 10*time.Second).Should(BeEquivalentTo(late.Sequence))
	})

	spoilCheckpoint := func() {
		GinkgoHelper()
		tamper(f.stream, func(cfg *jetstream.StreamConfig) { cfg.Metadata[jsbuilder.MetadataMigrationPrefix+f.bucket] = "spoilt" })
	}

	It("gives the bucket back first of all, whatever else is in the way", func() {
		put(0, 5)
		obj := f.auditStream("a", after(v1alpha1.AfterMigrationRedirect))
		phase(obj, v1alpha1.MigrationRedirected)
		suspend(obj)
		spoilCheckpoint()
		update(obj, func(obj *v1alpha1.AuditStream) {
			obj.Spec.Suspend = false
			after(v1alpha1.AfterMigrationRetain)(obj)
		})
		awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonInvalidConfiguration)
		Expect(bucketSubjects()).To(Equal(own()))
		Expect(liveStream(f.stream).Config.Subjects).To(Equal([]string{f.subject + ".>"}))
	})

	It("gives back a bucket that was left fenced and cannot be redirected now", func() {
		put(0, 5)
		obj := f.auditStream("a", f.migrating)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		suspend(obj)
		spoilCheckpoint()
		fence()
		update(obj, func(obj *v1alpha1.AuditStream) {
			obj.Spec.Suspend = false
			after(v1alpha1.AfterMigrationRedirect)(obj)
		})
		awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonInvalidConfiguration)
		Expect(bucketSubjects()).To(Equal(own()))
	})

	It("gives back a redirected bucket that is not declared any more when its stream is made again", func() {
		put(0, 5)
		obj := f.auditStream("a", after(v1alpha1.AfterMigrationRedirect))
		phase(obj, v1alpha1.MigrationRedirected)
		update(obj, func(obj *v1alpha1.AuditStream) { obj.Spec.MigrateFrom = nil })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(js.DeleteStream(ctx, f.stream)).To(Succeed())
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated)
		Expect(bucketSubjects()).To(Equal(own()))
		_, err := kv.Put(ctx, "id-5", []byte(`{"id":"id-5"}`))
		Expect(err).NotTo(HaveOccurred())
		Eventually(func() []string { return eventsOf(obj) }).Should(ContainElement(HavePrefix("Normal " + v1alpha1.ReasonBucketReturned)))
	})

	It("gives back a bucket at the resync that is fenced for a stream which does not know of it", func() {
		put(0, 5)
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		fence()
		Expect(reconciler.resync(ctx)).To(Succeed())
		Eventually(bucketSubjects).Should(Equal(own()))

		By("leaving one alone that the stream is open for")
		update(obj, after(v1alpha1.AfterMigrationRedirect))
		phase(obj, v1alpha1.MigrationRedirected)
		update(obj, func(obj *v1alpha1.AuditStream) { obj.Spec.MigrateFrom = nil })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(reconciler.resync(ctx)).To(Succeed())
		Consistently(bucketSubjects, 500*time.Millisecond).ShouldNot(Equal(own()))
	})

	It("tells nobody of a redirect that found everything done", func() {
		put(0, 5)
		obj := f.auditStream("a", after(v1alpha1.AfterMigrationRedirect))
		phase(obj, v1alpha1.MigrationRedirected)
		redirects := func(g Gomega) (times int32) {
			list := &eventsv1.EventList{}
			g.Expect(k8s.List(ctx, list, client.InNamespace(obj.Namespace))).To(Succeed())
			for _, e := range list.Items {
				if e.Reason == v1alpha1.ReasonBucketRedirected {
					if times++; e.Series != nil {
						times += e.Series.Count
					}
				}
			}
			return times
		}
		Eventually(redirects).Should(BeEquivalentTo(1))
		nats, err := reconciler.Pool.Get(reconciler.Connection)
		Expect(err).NotTo(HaveOccurred())
		s := &scope{obj: obj, nats: nats, live: liveStream(f.stream)}
		s.want = s.live.Config
		stored, err := s.checkpoint(f.bucket)
		Expect(err).NotTo(HaveOccurred())
		source := obj.Spec.MigrateFrom[0]
		_, err = reconciler.handOver(ctx, s, source, reconciler.job(s, source).Job, v1alpha1.AfterMigrationRedirect)(ctx, stored)
		Expect(err).NotTo(HaveOccurred())
		Consistently(redirects, time.Second).Should(BeEquivalentTo(1))
	})

	It("goes along with somebody who has given the bucket back by hand", func() {
		put(0, 5)
		obj := f.auditStream("a", after(v1alpha1.AfterMigrationRedirect))
		phase(obj, v1alpha1.MigrationRedirected)
		suspend(obj)
		tamper(f.stream, func(cfg *jetstream.StreamConfig) {
			cfg.Subjects, cfg.SubjectTransform = []string{f.subject + ".>"}, nil
		})
		tamper(migrate.StreamName(f.bucket), func(cfg *jetstream.StreamConfig) { cfg.Subjects = own() })
		update(obj, func(obj *v1alpha1.AuditStream) {
			obj.Spec.Suspend = false
			after(v1alpha1.AfterMigrationRetain)(obj)
		})
		phase(obj, v1alpha1.MigrationComplete)
		Expect(lands("id-5")).To(BeTrue())
		Expect(jsbuilder.Redirects(liveStream(f.stream).Config.Metadata)).To(BeEmpty())
	})

	It("finishes a redirect that was killed after the fence", func() {
		put(0, 20)
		obj := f.auditStream("a", f.migrating)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		suspend(obj)
		put(20, 25) // has not been copied when the fence goes up
		fence()
		update(obj, func(obj *v1alpha1.AuditStream) {
			obj.Spec.Suspend = false
			after(v1alpha1.AfterMigrationRedirect)(obj)
		})
		m := phase(obj, v1alpha1.MigrationRedirected)
		Expect(m.Migrated).To(BeEquivalentTo(25))
		Expect(lands("id-25")).To(BeFalse())
	})

	It("gives back a bucket that was left fenced and is to be retained", func() {
		put(0, 20)
		obj := f.auditStream("a", f.migrating)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		fence()
		Eventually(bucketSubjects).Should(Equal(own()))
		Expect(lands("id-20")).To(BeTrue())
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})

	It("gives the bucket back while a stream that was deleted is filled again, and redirects it then", func() {
		put(0, 20)
		obj := f.auditStream("a", after(v1alpha1.AfterMigrationRedirect))
		phase(obj, v1alpha1.MigrationRedirected)
		Expect(js.DeleteStream(ctx, f.stream)).To(Succeed())
		awaitCondition(obj, v1alpha1.ConditionStreamReady, metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated)
		Eventually(func() uint64 { return liveStream(f.stream).State.Msgs }).Should(BeEquivalentTo(20))
		Eventually(func() []string { return liveStream(f.stream).Config.Subjects }).Should(ContainElements(own()))
		Expect(lands("id-20")).To(BeFalse())
	})

	It("gives the bucket back before the stream is deleted with its resource", func() {
		put(0, 20)
		obj := f.auditStream("a", after(v1alpha1.AfterMigrationRedirect), deleting)
		phase(obj, v1alpha1.MigrationRedirected)
		Expect(k8s.Delete(ctx, obj)).To(Succeed())
		Eventually(func() error { return k8s.Get(ctx, clientKey(obj), obj) }).Should(HaveOccurred())
		Expect(bucketSubjects()).To(Equal(own()))
	})

	DescribeTable("leaves a bucket alone that holds what is not an entry, and goes on once that is mended",
		func(what v1alpha1.AfterMigration, done v1alpha1.MigrationPhase) {
			put(0, 20)
			_, err := kv.Put(ctx, "broken", []byte("no JSON"))
			Expect(err).NotTo(HaveOccurred())
			obj := f.auditStream("a", after(what))
			ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonInvalidEntries)
			Expect(ready.Message).To(ContainSubstring("broken"))
			awaitCondition(obj, v1alpha1.ConditionMigrated, metav1.ConditionTrue, v1alpha1.ReasonInvalidEntries)
			Expect(bucketSubjects()).To(Equal(own()))
			Expect(kv.Delete(ctx, "broken")).To(Succeed())
			phase(obj, done)
		},
		Entry("Redirect", v1alpha1.AfterMigrationRedirect, v1alpha1.MigrationRedirected),
		Entry("Delete", v1alpha1.AfterMigrationDelete, v1alpha1.MigrationDeleted),
	)

	It("leaves a bucket alone whose entries differ", func() {
		put(0, 5)
		obj := f.auditStream("a")
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		_, err := js.Publish(ctx, f.subject+".id-3", []byte(`{"id":"id-3","user":"mallory"}`))
		Expect(err).NotTo(HaveOccurred())
		update(obj, after(v1alpha1.AfterMigrationDelete))
		awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonEntryMismatch)
		Expect(bucketSubjects()).To(Equal(own()))
	})

	It("deletes the bucket once it is verified", func() {
		put(0, 20)
		obj := f.auditStream("a", after(v1alpha1.AfterMigrationDelete))
		m := phase(obj, v1alpha1.MigrationDeleted)
		Expect(m.Verification.StreamEntries).To(BeEquivalentTo(20))
		_, err := js.Stream(ctx, migrate.StreamName(f.bucket))
		Expect(err).To(MatchError(jetstream.ErrStreamNotFound))
		Eventually(func() []string { return eventsOf(obj) }).Should(ContainElement(HavePrefix("Normal " + v1alpha1.ReasonBucketDeleted)))
	})

	It("deletes a bucket that was redirected, and goes on taking what is put", func() {
		put(0, 20)
		obj := f.auditStream("a", after(v1alpha1.AfterMigrationRedirect))
		phase(obj, v1alpha1.MigrationRedirected)
		update(obj, after(v1alpha1.AfterMigrationDelete))
		phase(obj, v1alpha1.MigrationDeleted)
		Expect(lands("id-20")).To(BeFalse())
	})

	It("does not redirect a mirror", func() {
		mirror := f.bucket + "-mirror"
		origin := &jetstream.StreamSource{Name: migrate.StreamName(f.bucket)}
		_, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: mirror, Mirror: origin})
		Expect(err).NotTo(HaveOccurred())
		put(0, 5)
		obj := f.auditStream("a", func(obj *v1alpha1.AuditStream) {
			obj.Spec.MigrateFrom = []v1alpha1.MigrationSource{{Bucket: mirror, AfterMigration: v1alpha1.AfterMigrationRedirect}}
		})
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonHandOverRefused)
		Expect(ready.Message).To(ContainSubstring("mirrors stream"))
		awaitCondition(obj, v1alpha1.ConditionMigrated, metav1.ConditionTrue, v1alpha1.ReasonMigrationComplete)
	})

	It("redirects several buckets to one stream", func() {
		second := f.bucket + "-second"
		other, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: second})
		Expect(err).NotTo(HaveOccurred())
		put(0, 5)
		obj := f.auditStream("a", func(obj *v1alpha1.AuditStream) {
			for _, bucket := range []string{f.bucket, second} {
				obj.Spec.MigrateFrom = append(obj.Spec.MigrateFrom, v1alpha1.MigrationSource{
					Bucket: bucket, AfterMigration: v1alpha1.AfterMigrationRedirect,
				})
			}
		})
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(lands("id-5")).To(BeFalse())
		_, err = other.Put(ctx, "id-6", []byte(`{"id":"id-6"}`))
		Expect(err).NotTo(HaveOccurred())
		Expect(liveStream(f.stream).State.Msgs).To(BeEquivalentTo(7))
	})

	DescribeTable("leaves a bucket alone whose entries the stream has lost, and goes on once the bucket has lost them too", func(
		what v1alpha1.AfterMigration, done v1alpha1.MigrationPhase) {
		obj := f.auditStream("a", func(obj *v1alpha1.AuditStream) { obj.Spec.Protection = v1alpha1.ProtectionNone })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		for i := range 10 {
			_, err := js.Publish(ctx, fmt.Sprintf("%s.id-%d", f.subject, i), fmt.Appendf(nil, `{"id":"id-%d"}`, i))
			Expect(err).NotTo(HaveOccurred())
		}
		put(0, 10)
		update(obj, after(v1alpha1.AfterMigrationRetain))
		Expect(phase(obj, v1alpha1.MigrationComplete).AlreadyPresent).To(BeEquivalentTo(10))
		stream, err := js.Stream(ctx, f.stream)
		Expect(err).NotTo(HaveOccurred())
		Expect(stream.Purge(ctx)).To(Succeed())
		update(obj, after(what))
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonHandOverRefused)
		Expect(ready.Message).To(ContainSubstring("10 of its entries are no longer in the stream"))
		Expect(bucketSubjects()).To(Equal(own()))
		migrated := awaitCondition(obj, v1alpha1.ConditionMigrated, metav1.ConditionTrue, v1alpha1.ReasonMigrationComplete)
		Expect(migrated.Message).To(ContainSubstring("10 of the 10 that the bucket holds are no longer in the stream"))
		v := obj.Status.Migration[0].Verification
		Expect([]int64{v.BucketEntries, v.StreamEntries, v.Removed}).To(Equal([]int64{10, 0, 10}))

		for i := range 10 {
			Expect(kv.Delete(ctx, fmt.Sprintf("id-%d", i))).To(Succeed())
		}
		phase(obj, done)
	},
		Entry("Redirect", v1alpha1.AfterMigrationRedirect, v1alpha1.MigrationRedirected),
		Entry("Delete", v1alpha1.AfterMigrationDelete, v1alpha1.MigrationDeleted),
	)

	It("does not delete a bucket whose entries count as expired by a maxAge that was raised since", func() {
		put(0, 10)
		stored, err := kv.Get(ctx, "id-9")
		Expect(err).NotTo(HaveOccurred())
		time.Sleep(time.Until(stored.Created().Add(time.Second))) // they have to be older than that
		obj := f.auditStream("a", f.migrating, func(obj *v1alpha1.AuditStream) { obj.Spec.MaxAge = "1s" })
		Expect(phase(obj, v1alpha1.MigrationComplete).Expired).To(BeEquivalentTo(10))
		update(obj, func(obj *v1alpha1.AuditStream) {
			obj.Spec.MaxAge = "30d"
			after(v1alpha1.AfterMigrationDelete)(obj)
		})
		ready := awaitReady(obj, metav1.ConditionFalse, v1alpha1.ReasonHandOverRefused)
		Expect(ready.Message).To(ContainSubstring("maxAge is longer now"))
		Expect(bucketSubjects()).To(Equal(own()))
	})

	It("gives a bucket back that was left fenced and is not declared any more", func() {
		put(0, 5)
		obj := f.auditStream("a", f.migrating)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		suspend(obj)
		fence()
		update(obj, func(obj *v1alpha1.AuditStream) { obj.Spec.Suspend, obj.Spec.MigrateFrom = false, nil })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(bucketSubjects()).To(Equal(own()))
	})

	It("is not ready for a bucket whose subjects another stream has", func() {
		put(0, 5)
		obj := f.auditStream("a", after(v1alpha1.AfterMigrationRedirect))
		phase(obj, v1alpha1.MigrationRedirected)
		update(obj, func(obj *v1alpha1.AuditStream) { obj.Spec.MigrateFrom = nil })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		other := f.auditStream("b", after(v1alpha1.AfterMigrationRetain), func(obj *v1alpha1.AuditStream) {
			obj.Spec.Stream, obj.Spec.Subject = "T-"+f.namespace, "t."+f.namespace
		})
		ready := awaitReady(other, metav1.ConditionFalse, v1alpha1.ReasonBucketConflict)
		Expect(ready.Message).To(ContainSubstring(f.stream))
	})

	It("copies again into a stream that was adopted under another subject", func() {
		put(0, 10)
		obj := f.auditStream("a", f.migrating)
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		Expect(k8s.Delete(ctx, obj)).To(Succeed())
		adopted := f.auditStream("b", f.migrating, adopting, func(obj *v1alpha1.AuditStream) { obj.Spec.Subject = "other." + f.namespace })
		Expect(phase(adopted, v1alpha1.MigrationComplete).Migrated).To(BeEquivalentTo(10))
		stream, err := js.Stream(ctx, f.stream)
		Expect(err).NotTo(HaveOccurred())
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(adopted.Spec.Subject+".>"))
		Expect(err).NotTo(HaveOccurred())
		Expect(info.State.Subjects).To(HaveLen(10))
	})
})
