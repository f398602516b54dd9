package e2e

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	otlptrace "go.opentelemetry.io/proto/otlp/trace/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/freeport"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
	"github.com/osapi-io/auditstream-operator/internal/tracing/otlptest"
)

const rootSpan = "reconcile AuditStream"

// operatorWith runs an operator with an environment and a log of its own in place of the one that the journeys share.
func operatorWith(ctx context.Context, variables map[string]string, args ...string) *testenv.Manager {
	GinkgoHelper()
	stopOperator(ctx)
	// None of these comes from the environment of the test.
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "OTEL_") {
			if _, set := variables[name]; !set {
				variables[name] = ""
			}
		}
	}
	opts := testenv.ManagerOptions{
		Kubeconfig: env.kubeconfig, NATSURL: env.nats.URL(), LogFile: filepath.Join(GinkgoT().TempDir(), "manager.log"), Args: args,
	}
	for name, value := range variables {
		opts.Env = append(opts.Env, name+"="+value)
	}
	operator, err := testenv.StartManager(ctx, opts)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func(ctx SpecContext) {
		Expect(operator.Stop(ctx)).To(Succeed())
		if CurrentSpecReport().Failed() {
			GinkgoWriter.Printf("\nlast lines of its log\n%s\n", testenv.LogTail(opts.LogFile, managerLines))
		}
	})
	Eventually(operator.Ready, withinAMinute).WithContext(ctx).Should(Succeed())
	return operator
}

// roots are the traces of a resource's reconciles.
func roots(r *otlptest.Receiver, s *v1alpha1.AuditStream) []otlptest.Span {
	return slices.DeleteFunc(r.Spans(), func(span otlptest.Span) bool {
		a := span.Attributes()
		return span.GetName() != rootSpan || a["k8s.namespace.name"] != s.Namespace || a["auditstream.name"] != s.Name
	})
}

func rootWith(r *otlptest.Receiver, s *v1alpha1.AuditStream, reason string) func() (otlptest.Span, error) {
	return func() (otlptest.Span, error) {
		for _, span := range roots(r, s) {
			if span.Attributes()["auditstream.reason"] == reason {
				return span, nil
			}
		}
		return otlptest.Span{}, fmt.Errorf("none of %d spans is of a reconcile of %s with reason %s", len(r.Spans()), s.Name, reason)
	}
}

// below lists the names of the spans directly below one.
func below(r *otlptest.Receiver, parent otlptest.Span) (names []string) {
	for _, span := range r.Spans() {
		if string(span.GetParentSpanId()) == string(parent.GetSpanId()) {
			Expect(span.GetTraceId()).To(Equal(parent.GetTraceId()))
			names = append(names, span.GetName())
		}
	}
	return names
}

func named(r *otlptest.Receiver, name string) []otlptest.Span {
	return slices.DeleteFunc(r.Spans(), func(span otlptest.Span) bool { return span.GetName() != name })
}

// traces are the ids of the traces that spans have arrived of.
func traces(r *otlptest.Receiver) map[string]bool {
	ids := map[string]bool{}
	for _, span := range r.Spans() {
		ids[hex.EncodeToString(span.GetTraceId())] = true
	}
	return ids
}

// logLines reads a log in which every line is a JSON object, but for one that is being written.
func logLines(file string) (lines []map[string]any) {
	GinkgoHelper()
	text, err := os.ReadFile(file)
	Expect(err).NotTo(HaveOccurred())
	for line := range strings.Lines(string(text[:bytes.LastIndexByte(text, '\n')+1])) {
		values := map[string]any{}
		Expect(json.Unmarshal([]byte(line), &values)).To(Succeed(), line)
		lines = append(lines, values)
	}
	return lines
}

var _ = Describe("Tracing", Label("tracing"), func() {
	for protocol, url := range map[string]func(*otlptest.Receiver) string{
		"grpc":          func(r *otlptest.Receiver) string { return r.GRPC },
		"http/protobuf": func(r *otlptest.Receiver) string { return r.HTTP },
	} {
		It("shows a reconcile, its steps, its requests and the copy of a bucket by "+protocol, func(ctx SpecContext) {
			r := otlptest.Start(GinkgoTB())
			operator := operatorWith(ctx, map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT": url(r), "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
				"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_SERVICE_NAME": "audit-east",
			})
			ns := newNamespace(ctx)
			bucket := bucketOf(ns)
			fill(ctx, testenv.LegacyBucket{Name: bucket, Entries: 10})
			s := stream(ctx, ns, "traced", migrateFrom(bucket))
			Eventually(now(s), withinAMinute).WithContext(ctx).Should(beMigrated())

			var root otlptest.Span
			Eventually(func() (err error) {
				root, err = rootWith(r, s, v1alpha1.ReasonReady)()
				return err
			}, soon).WithContext(ctx).Should(Succeed())
			Expect(root.GetParentSpanId()).To(BeEmpty())
			Expect(root.Resource).To(HaveKeyWithValue("service.name", "audit-east"))
			Eventually(func() []string { return below(r, root) }, soon).WithContext(ctx).Should(
				ConsistOf("ensureFinalizer", "connect", "ensureStream", "ensureMigration", "report"))
			Expect(root.GetStatus().GetCode()).To(Equal(otlptrace.Status_STATUS_CODE_UNSET))
			for _, step := range named(r, "ensureStream") {
				Expect(below(r, step)).To(ContainElement("stream_info $JS.API.STREAM.INFO.{stream}"))
			}

			By("linking the copy to a reconcile")
			Eventually(func() []otlptest.Span { return named(r, "copy bucket") }, soon).WithContext(ctx).ShouldNot(BeEmpty())
			run := named(r, "copy bucket")[0]
			Expect(run.Attributes()).To(HaveKeyWithValue("auditstream.bucket", bucket))
			Expect(run.GetLinks()).To(HaveLen(1))
			Expect(named(r, "ensureMigration")).To(ContainElement(HaveField("SpanId", run.GetLinks()[0].GetSpanId())))

			By("naming the trace in the log")
			told := slices.DeleteFunc(logLines(operator.LogFile), func(line map[string]any) bool {
				return line["namespace"] != ns || line["msg"] == nil
			})
			Expect(told).NotTo(BeEmpty())
			for _, line := range told { // whose span may still be under way
				Eventually(func() map[string]bool { return traces(r) }, soon).WithContext(ctx).Should(HaveKey(line["trace_id"]), "%v", line)
			}
		}, SpecTimeout(journeyTimeout))
	}

	It("sends what is left when the operator ends", func(ctx SpecContext) {
		r := otlptest.Start(GinkgoTB())
		operator := operatorWith(ctx, map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": r.HTTP + "/v1/traces", "OTEL_BSP_SCHEDULE_DELAY": "3600000"})
		s := stream(ctx, newNamespace(ctx), "flushed")
		Eventually(now(s), soon).WithContext(ctx).Should(beReady())
		Expect(roots(r, s)).To(BeEmpty())
		Expect(operator.Stop(ctx)).To(Succeed())
		Expect(roots(r, s)).NotTo(BeEmpty())
	}, SpecTimeout(journeyTimeout))

	It("holds up nothing when nobody receives", func(ctx SpecContext) {
		port, err := freeport.Next()
		Expect(err).NotTo(HaveOccurred())
		operator := operatorWith(ctx, map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": fmt.Sprintf("http://127.0.0.1:%d", port), "OTEL_BSP_SCHEDULE_DELAY": "10",
			"OTEL_EXPORTER_OTLP_TIMEOUT": "1000",
		})
		s := stream(ctx, newNamespace(ctx), "unseen")
		Eventually(now(s), soon).WithContext(ctx).Should(beReady())
		setMaxAge(ctx, s, time.Hour)
		Eventually(maxAge(s), soon).WithContext(ctx).Should(Equal(declaredMaxAge))
		failures := func() (n int) {
			for _, line := range logLines(operator.LogFile) {
				if line["msg"] == "Could not send spans, dropping them until the receiver takes them" {
					n++
				}
			}
			return n
		}
		Eventually(failures, withinAMinute).WithContext(ctx).Should(Equal(1))
		edit(ctx, s, func(s *v1alpha1.AuditStream) { s.Spec.MaxAge = "60d" })
		Eventually(now(s), soon).WithContext(ctx).Should(beReady())
		Expect(operator.Stop(ctx)).To(Succeed(), "within the grace time")
		Expect(failures()).To(Equal(1))
	}, SpecTimeout(journeyTimeout))

	It("makes no connection unless it is asked to", func(ctx SpecContext) {
		var connections atomic.Int32
		// What an exporter without an endpoint would try.
		for _, port := range []string{"4317", "4318"} {
			listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:"+port)
			if err != nil {
				GinkgoWriter.Printf("not listening on %s: %v\n", port, err)
				continue
			}
			DeferCleanup(listener.Close)
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					connections.Add(1)
					_ = conn.Close()
				}
			}()
		}
		operator := operatorWith(ctx, map[string]string{"OTEL_BSP_SCHEDULE_DELAY": "10"})
		s := stream(ctx, newNamespace(ctx), "untraced")
		Eventually(now(s), soon).WithContext(ctx).Should(beReady())
		Expect(operator.Stop(ctx)).To(Succeed())
		Expect(connections.Load()).To(BeZero())
		for _, line := range logLines(operator.LogFile) {
			Expect(line).NotTo(HaveKey("trace_id"))
			Expect(line["logger"]).NotTo(Equal("tracing"))
		}
	}, SpecTimeout(journeyTimeout))

	It("shows no credential, whatever goes wrong with it", func(ctx SpecContext) {
		const password, wrong = "s3cr3t-marker-right", "s3cr3t-marker-wrong"
		dir := GinkgoT().TempDir()
		server, err := testenv.StartNATS(ctx, testenv.NATSOptions{
			Dir: dir, Name: "guarded", ConfigExtra: fmt.Sprintf("authorization { user: operator, password: %q }\n", password),
			Connect: []nats.Option{nats.UserInfo("operator", password)},
		})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(server.Stop)
		file := filepath.Join(dir, "password")
		Expect(os.WriteFile(file, []byte(password), 0o600)).To(Succeed())
		r := otlptest.Start(GinkgoTB())
		operator := operatorWith(ctx, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": r.HTTP, "OTEL_BSP_SCHEDULE_DELAY": "10"},
			"--nats-url="+server.URL(), "--nats-user=operator", "--nats-password-file="+file)
		s := stream(ctx, newNamespace(ctx), "guarded")
		Eventually(now(s), soon).WithContext(ctx).Should(beReady())

		Expect(os.WriteFile(file, []byte(wrong), 0o600)).To(Succeed())
		Eventually(now(s), withinAMinute).WithContext(ctx).Should(
			haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonAuthenticationFailed))
		var failed otlptest.Span
		Eventually(func() (err error) {
			failed, err = rootWith(r, s, v1alpha1.ReasonAuthenticationFailed)()
			return err
		}, soon).WithContext(ctx).Should(Succeed())
		Expect(failed.GetStatus().GetCode()).To(Equal(otlptrace.Status_STATUS_CODE_ERROR))
		Expect(failed.GetStatus().GetMessage()).To(ContainSubstring("refuses the operator's credentials"))

		Expect(operator.Stop(ctx)).To(Succeed())
		for _, span := range r.Spans() {
			Expect(span.String()).NotTo(ContainSubstring("s3cr3t"))
		}
		log, err := os.ReadFile(operator.LogFile)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(log)).NotTo(ContainSubstring("s3cr3t"))
		Expect(string(log)).NotTo(ContainSubstring("stacktrace"))
	}, SpecTimeout(journeyTimeout))
})
