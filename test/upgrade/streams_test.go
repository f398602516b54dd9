package upgrade

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
)

const auditor = "auditor"

// facts are what an upgrade must not change: a stream that was made again has another time, and one into which something was
// copied again another state.
type facts struct {
	UID        types.UID
	Generation int64
	Finalizers string
	Created    time.Time
	Owner      string
	// Copied is when each bucket's copy began and ended.
	Copied    string
	State     jetstream.StreamState
	Consumer  time.Time
	Delivered jetstream.SequenceInfo
	AckFloor  jetstream.SequenceInfo
}

func factsOf(ctx context.Context, name string) facts {
	GinkgoHelper()
	obj := &v1alpha1.AuditStream{}
	Expect(env.K8s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, obj)).To(Succeed())
	live, err := env.JS.Stream(ctx, obj.Spec.Stream)
	Expect(err).NotTo(HaveOccurred())
	consumer, err := live.Consumer(ctx, auditor)
	Expect(err).NotTo(HaveOccurred())
	info, reader := live.CachedInfo(), consumer.CachedInfo()
	f := facts{
		UID: obj.UID, Generation: obj.Generation, Finalizers: strings.Join(obj.Finalizers, ","),
		Created: info.Created, Owner: info.Config.Metadata["audit.osapi.io/owner"], State: info.State,
		Consumer: reader.Created, Delivered: reader.Delivered, AckFloor: reader.AckFloor,
	}
	for _, b := range obj.Status.Migration {
		f.Copied += fmt.Sprintf("%s from %s to %s; ", b.Bucket, b.StartTime, b.CompletionTime)
	}
	f.Delivered.Last, f.AckFloor.Last = nil, nil
	f.State.Consumers = 0 // the operator reads back what it has copied
	if name == live0 {    // which the service goes on filling
		f.State = jetstream.StreamState{FirstSeq: info.State.FirstSeq}
	}
	return f
}

// addAuditor makes a durable consumer that has read two of the entries and acknowledged one.
func addAuditor(ctx context.Context, stream string) {
	GinkgoHelper()
	consumer, err := env.JS.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{Durable: auditor, AckWait: time.Hour})
	Expect(err).NotTo(HaveOccurred())
	batch, err := consumer.Fetch(2, jetstream.FetchMaxWait(soon))
	Expect(err).NotTo(HaveOccurred())
	n := 0
	for msg := range batch.Messages() {
		if n++; n == 1 {
			Expect(msg.DoubleAck(ctx)).To(Succeed())
		}
	}
	Expect(n).To(Equal(2))
}

// advisories collects what the server says that was done to streams.
type advisories struct {
	mu  sync.Mutex
	all []string
}

func watchStreams() *advisories {
	GinkgoHelper()
	a := &advisories{}
	nc, err := env.Dial()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(nc.Close)
	_, err = nc.Subscribe("$JS.EVENT.ADVISORY.STREAM.>", func(m *nats.Msg) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.all = append(a.all, strings.TrimPrefix(m.Subject, "$JS.EVENT.ADVISORY.STREAM."))
	})
	Expect(err).NotTo(HaveOccurred())
	Expect(nc.Flush()).To(Succeed())
	return a
}

// seen are the advisories so far, such as "UPDATED.PLAIN".
func (a *advisories) seen() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.all...)
}

// expectLookedAfter is that the operator undoes a change of the stream that nobody declared: it looks after the stream.
func expectLookedAfter(ctx context.Context, name string) {
	GinkgoHelper()
	stream := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	live, err := env.JS.Stream(ctx, stream)
	Expect(err).NotTo(HaveOccurred())
	declared := live.CachedInfo().Config
	drifted := declared
	drifted.MaxMsgs = 1_000_000
	_, err = env.JS.UpdateStream(ctx, drifted)
	Expect(err).NotTo(HaveOccurred())
	Eventually(func(ctx context.Context) (int64, error) {
		live, err := env.JS.Stream(ctx, stream)
		if err != nil {
			return 0, err
		}
		return live.CachedInfo().Config.MaxMsgs, nil
	}, soon).WithContext(ctx).Should(Equal(declared.MaxMsgs), name)
}

// write stores native entries.
func write(ctx context.Context, subject string, n int) {
	GinkgoHelper()
	for i := range n {
		id := fmt.Sprintf("native-%d", i)
		_, err := env.JS.Publish(ctx, subject+"."+id, fmt.Appendf(nil, `{"id":%q}`, id))
		Expect(err).NotTo(HaveOccurred())
	}
}
