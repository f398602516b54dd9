package controller

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
)

// leftKeys counts the lines of a log that name a key as one of a value that is not an entry.
func leftKeys(log *gbytes.Buffer, bucket string) map[string]int {
	pattern := regexp.MustCompile(`Left a value in the bucket that is not an entry.*"bucket": "` + regexp.QuoteMeta(bucket) + `".*"key": "([^"]+)"`)
	counts := map[string]int{}
	for _, match := range pattern.FindAllSubmatch(log.Contents(), -1) {
		counts[string(match[1])]++
	}
	return counts
}

var _ = Describe("Values that are not entries", func() {
	const invalid, every = 10_000, 5 // one valid entry after every few of them

	// put fills the bucket with invalid values of all kinds, and valid entries among them, and returns the invalid ones in
	// their order.
	put := func(bucket string) (keys []string, values map[string][]byte, valid int) {
		GinkgoHelper()
		_, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket, TTL: 720 * time.Hour})
		Expect(err).NotTo(HaveOccurred())
		publisher, err := jetstream.New(js.Conn(), jetstream.WithPublishAsyncMaxPending(256))
		Expect(err).NotTo(HaveOccurred())
		store := func(key string, value []byte) {
			_, err := publisher.PublishAsync("$KV."+bucket+"."+key, value, jetstream.WithStallWait(eventually))
			Expect(err).NotTo(HaveOccurred())
		}
		values = map[string][]byte{}
		for i := range invalid {
			key := fmt.Sprintf("bad-%d", i)
			var value []byte
			switch i % 6 {
			case 0:
				value = []byte("hello")
			case 1:
				value = []byte(`["not", "an", "entry"]`)
			case 2:
				value = []byte(`{"id":"another"}`)
			case 3:
				value = nil
			case 4:
				key += ".of.several.tokens"
				value = fmt.Appendf(nil, `{"id":%q}`, key)
			case 5:
				value = fmt.Appendf(nil, `{"id":%q,"timestamp":7}`, key)
			}
			if i%2000 == 0 {
				value = fmt.Appendf(nil, `{"id":%q,"path":%q}`, key, strings.Repeat("x", 1<<20-200)) // no room for the headers
			}
			store(key, value)
			keys, values[key] = append(keys, key), value
			if i%every == 0 {
				id := fmt.Sprintf("good-%d", i)
				store(id, fmt.Appendf(nil, `{"id":%q}`, id))
				valid++
			}
		}
		Eventually(publisher.PublishAsyncComplete()).Should(BeClosed())
		Expect(liveStream(migrate.StreamName(bucket)).State.Msgs).To(BeEquivalentTo(invalid + valid))
		return keys, values, valid
	}

	It("stay in the bucket by the thousands, are counted, and logged once in a process", func() {
		f := newFixture()
		log := gbytes.NewBuffer()
		GinkgoWriter.TeeTo(log)
		DeferCleanup(GinkgoWriter.ClearTeeWriters)
		keys, values, valid := put(f.bucket)
		total := int64(invalid + valid)
		counted := func(obj *v1alpha1.AuditStream, migrated int64) {
			GinkgoHelper()
			m := obj.Status.Migration[0]
			Expect([]int64{m.Total, m.Migrated, m.AlreadyPresent, m.Invalid, m.Mismatched, m.Remaining}).To(Equal(
				[]int64{total, migrated, 0, invalid, 0, 0}))
			Expect(m.InvalidKeys).To(Equal(keys[:10]))
		}

		By("a dry run")
		obj := f.auditStream("a", f.migrating, func(o *v1alpha1.AuditStream) { o.Spec.MigrateFrom[0].DryRun = true })
		Eventually(func(g Gomega) {
			g.Expect(k8s.Get(ctx, clientKey(obj), obj)).To(Succeed())
			g.Expect(obj.Status.Migration).To(HaveLen(1))
			g.Expect(obj.Status.Migration[0].Invalid).To(BeEquivalentTo(invalid))
		}).Should(Succeed())
		counted(obj, int64(valid))
		Eventually(func() int { return len(leftKeys(log, f.bucket)) }).Should(Equal(invalid), "all of them are in the log")

		By("the copy")
		update(obj, func(o *v1alpha1.AuditStream) { o.Spec.MigrateFrom[0].DryRun = false })
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonReady)
		awaitCondition(obj, v1alpha1.ConditionMigrated, metav1.ConditionTrue, v1alpha1.ReasonInvalidEntries)
		counted(obj, int64(valid))
		Expect(liveStream(f.stream).State.Msgs).To(BeEquivalentTo(valid))

		By("a late writer, for whom everything is counted again")
		kv, err := js.KeyValue(ctx, f.bucket)
		Expect(err).NotTo(HaveOccurred())
		_, err = kv.Put(ctx, "late", []byte(`{"id":"late"}`))
		Expect(err).NotTo(HaveOccurred())
		valid, total = valid+1, total+1
		Eventually(func() uint64 { return liveStream(f.stream).State.Msgs }).Should(BeEquivalentTo(valid))

		By("another copy, from the beginning")
		Expect(js.DeleteStream(ctx, f.stream)).To(Succeed())
		awaitReady(obj, metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated)
		Eventually(func(g Gomega) {
			g.Expect(k8s.Get(ctx, clientKey(obj), obj)).To(Succeed())
			g.Expect(liveStream(f.stream).State.Msgs).To(BeEquivalentTo(valid))
			g.Expect(obj.Status.Stream.Entries).To(BeEquivalentTo(valid))
		}).Should(Succeed())
		counted(obj, int64(valid))

		for key, times := range leftKeys(log, f.bucket) {
			Expect(times).To(Equal(1), key)
		}
		for key, value := range values {
			entry, err := kv.Get(ctx, key)
			Expect(err).NotTo(HaveOccurred(), key)
			Expect(bytes.Equal(entry.Value(), value)).To(BeTrue(), key)
		}
	})
})
