package pods

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	leaseName      = "auditstream-operator.audit.osapi.io"
	declaredMaxAge = 30 * 24 * time.Hour
)

// roll is what happened to the lease and to the operator's containers.
type roll struct {
	mu         sync.Mutex
	heldBy     []string
	terminated map[string]*corev1.ContainerStateTerminated
}

// watchRoll begins to watch. The lease's holder at that time is the first one.
func watchRoll(ctx context.Context) *roll {
	GinkgoHelper()
	r := &roll{terminated: map[string]*corev1.ContainerStateTerminated{}}
	leases, err := env.k8s.CoordinationV1().Leases(operatorNamespace).Watch(ctx,
		metav1.ListOptions{FieldSelector: "metadata.name=" + leaseName})
	Expect(err).NotTo(HaveOccurred())
	pods, err := env.k8s.CoreV1().Pods(operatorNamespace).Watch(ctx, metav1.ListOptions{LabelSelector: operatorPods})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(leases.Stop)
	DeferCleanup(pods.Stop)
	go r.note(leases)
	go r.note(pods)
	return r
}

func (r *roll) note(events watch.Interface) {
	for event := range events.ResultChan() {
		r.mu.Lock()
		switch object := event.Object.(type) {
		case *coordinationv1.Lease:
			if holder := *object.Spec.HolderIdentity; len(r.heldBy) == 0 || r.heldBy[len(r.heldBy)-1] != holder {
				r.heldBy = append(r.heldBy, holder)
			}
		case *corev1.Pod:
			for _, status := range object.Status.ContainerStatuses {
				if status.State.Terminated != nil {
					r.terminated[object.Name] = status.State.Terminated
				}
			}
		}
		r.mu.Unlock()
	}
}

// holders are the lease's holders, one after the other; "" is nobody.
func (r *roll) holders() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.heldBy)
}

// ended is how the container of a Pod ended, nil while it has not.
func (r *roll) ended(pod string) *corev1.ContainerStateTerminated {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.terminated[pod]
}

// drift changes the stream by hand.
func drift(ctx context.Context, maxAge time.Duration) {
	GinkgoHelper()
	stream, err := env.js.Stream(ctx, "AUDIT")
	Expect(err).NotTo(HaveOccurred())
	config := stream.CachedInfo().Config
	Expect(config.MaxAge).To(Equal(declaredMaxAge))
	config.MaxAge = maxAge
	_, err = env.js.UpdateStream(ctx, config)
	Expect(err).NotTo(HaveOccurred())
}

func maxAge(ctx context.Context) (time.Duration, error) {
	stream, err := env.js.Stream(ctx, "AUDIT")
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().Config.MaxAge, nil
}

// logged counts the messages that a Pod has logged; it is for Eventually, because a log goes its own way to the API server.
func logged(pod *corev1.Pod) func(context.Context) (map[string]int, error) {
	return func(ctx context.Context) (map[string]int, error) {
		log, err := env.k8s.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
		if err != nil {
			return nil, err
		}
		return messages(linesOf(log[:bytes.LastIndexByte(log, '\n')+1])), nil
	}
}

// manyStreams is a file with AuditStreams in a namespace of their own.
func manyStreams(n int) string {
	GinkgoHelper()
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: Namespace\nmetadata: {name: many}\n")
	for i := range n {
		fmt.Fprintf(&b, "---\napiVersion: audit.osapi.io/v1alpha1\nkind: AuditStream\nmetadata: {name: s%d, namespace: many}\n"+
			"spec: {stream: MANY_%[1]d, subject: many.%[1]d}\n", i)
	}
	file := filepath.Join(env.dir, "many.yaml")
	Expect(os.WriteFile(file, []byte(b.String()), 0o600)).To(Succeed())
	return file
}

// memory is what the Pod's only container uses, as kubelet tells kubectl top, and what it may use.
func memory(ctx context.Context, pod *corev1.Pod) (used, limit int64) {
	GinkgoHelper()
	sample := regexp.MustCompile(`(?m)^container_memory_working_set_bytes\{[^}]*pod="` + pod.Name + `"\} (\S+)`)
	Eventually(func(g Gomega) {
		out := kubectl(ctx, "get", "--raw", "/api/v1/nodes/"+testenv.NodeName+"/proxy/metrics/resource")
		match := sample.FindStringSubmatch(out)
		g.Expect(match).To(HaveLen(2))
		bytes, err := strconv.ParseFloat(match[1], 64)
		g.Expect(err).NotTo(HaveOccurred())
		used = int64(bytes)
	}, soon).Should(Succeed())
	return used, pod.Spec.Containers[0].Resources.Limits.Memory().Value()
}
