package pods

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// kubectl returns what it writes, warnings included.
func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := tryKubectl(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

func tryKubectl(ctx context.Context, args ...string) (string, error) {
	path, err := testenv.Kubectl()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, args...) // #nosec G204 -- arguments of the tests' own
	cmd.Env = append(os.Environ(), env.cluster.KubectlEnv()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// helm runs bin/helm in the namespace audit.
func helm(ctx context.Context, args ...string) {
	GinkgoHelper()
	root, err := testenv.RepoRoot()
	Expect(err).NotTo(HaveOccurred())
	args = append(args, "--namespace=audit")
	cmd := exec.CommandContext(ctx, filepath.Join(root, "bin", "helm"), args...) // #nosec G204 -- arguments of the tests' own
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+env.dir, "HELM_CONFIG_HOME="+env.dir, "HELM_DATA_HOME="+env.dir)
	cmd.Env = append(cmd.Env, env.cluster.KubectlEnv()...)
	out, err := cmd.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "helm %v: %s", args, out)
}

// apply applies a file or, with a directory, what kustomize makes of it, and takes no warning.
func apply(ctx context.Context, path string) {
	GinkgoHelper()
	flag := "--filename"
	if !strings.HasSuffix(path, ".yaml") {
		flag = "--kustomize"
	}
	Expect(kubectl(ctx, "apply", flag, path)).NotTo(ContainSubstring("Warning"))
}

// serveService makes a Service's address work.
func serveService(ctx context.Context, namespace, name string) {
	GinkgoHelper()
	service, err := env.k8s.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	Expect(err).NotTo(HaveOccurred())
	Expect(env.cluster.ServeService(service)).To(Succeed())
}

// request asks for what a Pod or a Service serves, from the node.
func request(ctx context.Context, method, url, token string) (int, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	// The metrics endpoint makes its own certificate.
	transport := &http.Transport{
		DialContext: env.cluster.Node.DialContext, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // #nosec G402
	}
	response, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

// statusOf is the status of a GET without a token; it is for Eventually.
func statusOf(url string) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		status, _, err := request(ctx, http.MethodGet, url, "")
		return status, err
	}
}

// operatorPod is the one Pod that is not being deleted.
func operatorPod(ctx context.Context) (*corev1.Pod, error) {
	pods, err := env.k8s.CoreV1().Pods(operatorNamespace).List(ctx, metav1.ListOptions{LabelSelector: operatorPods})
	if err != nil {
		return nil, err
	}
	pods.Items = slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if len(pods.Items) != 1 {
		return nil, fmt.Errorf("the operator has %d Pods", len(pods.Items))
	}
	return &pods.Items[0], nil
}

func theOperator(ctx context.Context) *corev1.Pod {
	GinkgoHelper()
	pod, err := operatorPod(ctx)
	Expect(err).NotTo(HaveOccurred())
	return pod
}

// ready is the Pod's readiness; it is for Eventually.
func ready(ctx context.Context) (bool, error) {
	pod, err := operatorPod(ctx)
	if err != nil {
		return false, err
	}
	if len(pod.Status.ContainerStatuses) != 1 {
		return false, errors.New("its container has no status")
	}
	return pod.Status.ContainerStatuses[0].Ready, nil
}

// follow collects the log of a Pod until it ends.
func follow(ctx context.Context, pod *corev1.Pod) *gbytes.Buffer {
	GinkgoHelper()
	log, err := env.k8s.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Follow: true}).Stream(ctx)
	Expect(err).NotTo(HaveOccurred())
	return gbytes.BufferReader(log)
}

// logLine is a line of the operator's log.
type logLine struct {
	Level      string `json:"level"`
	Time       string `json:"ts"`
	Message    string `json:"msg"`
	Error      string `json:"error"`
	Stacktrace string `json:"stacktrace"`
}

// linesOf reads a log, of which every line has to be JSON without a stack trace.
func linesOf(log []byte) []logLine {
	GinkgoHelper()
	var lines []logLine
	for text := range strings.Lines(string(log)) {
		var line logLine
		Expect(json.Unmarshal([]byte(text), &line)).To(Succeed(), "not JSON: %s", text)
		Expect(line.Stacktrace).To(BeEmpty(), "a stack trace: %s", text)
		Expect(line.Message).NotTo(BeEmpty(), text)
		lines = append(lines, line)
	}
	return lines
}

func errorsIn(lines []logLine) []logLine {
	return slices.DeleteFunc(slices.Clone(lines), func(line logLine) bool { return line.Level != "error" })
}

// messages counts lines by their message.
func messages(lines []logLine) map[string]int {
	count := map[string]int{}
	for _, line := range lines {
		count[line.Message]++
	}
	return count
}
