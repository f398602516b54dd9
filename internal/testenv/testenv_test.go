package testenv

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

const (
	// soon is for what happens without waiting for anything, on a machine that does much else.
	soon = time.Minute
	poll = 50 * time.Millisecond
)

// childDir makes this test binary a program that starts parts and then waits to be killed.
const childDir = "TESTENV_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(runChild(dir))
	}
	ctrllog.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	os.Exit(m.Run())
}

func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatalf("connecting to %s: %v", url, err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatalf("opening JetStream: %v", err)
	}
	return js
}

func TestControlPlane(t *testing.T) {
	g := NewWithT(t)
	ctx := t.Context()
	began := time.Now()
	cp, err := StartControlPlane(ctx, ControlPlaneOptions{InstallCRDs: true, ControllerManager: true})
	if err != nil {
		t.Fatalf("%v\n(the binaries come from `make control-plane nats-server`)", err)
	}
	t.Cleanup(func() { g.Expect(cp.Stop()).To(Succeed()) })
	t.Logf("The control plane was ready after %s", time.Since(began).Round(time.Millisecond))
	client := kubernetes.NewForConfigOrDie(cp.Config())

	t.Run("the CRD is served", func(t *testing.T) {
		g := NewWithT(t)
		out, err := cp.Kubectl(ctx, "get", "auditstreams", "-A")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(out).To(BeEmpty())
	})
	t.Run("kubectl remembers nothing under the user's home", func(t *testing.T) {
		testKubectlCache(t, cp)
	})
	t.Run("a service account has its own permissions only", func(t *testing.T) {
		testServiceAccount(t, cp, client)
	})
	t.Run("a deleted namespace goes with what is in it", func(t *testing.T) {
		testNamespaceDeletion(t, client)
	})
	t.Run("garbage is collected", func(t *testing.T) {
		testGarbageCollection(t, client)
	})
	t.Run("the API server comes back with the same state", func(t *testing.T) {
		g := NewWithT(t)
		before := cp.lease.pid(apiServer)
		began := time.Now()
		g.Expect(cp.RestartAPIServer(ctx)).To(Succeed())
		t.Logf("The API server was back after %s", time.Since(began).Round(time.Millisecond))
		g.Expect(cp.lease.pid(apiServer)).NotTo(Equal(before))
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "reader", metav1.GetOptions{})
		g.Expect(err).NotTo(HaveOccurred())
	})
	t.Run("stopping leaves nothing", func(t *testing.T) {
		g := NewWithT(t)
		dir := cp.Dir()
		pids := []int{cp.lease.pid(apiServer), cp.lease.pid(etcd), cp.kcm.pid()}
		g.Expect(cp.Stop()).To(Succeed())
		g.Expect(dir).NotTo(BeADirectory())
		for _, pid := range pids {
			g.Expect(alive(pid)).To(BeFalse())
		}
	})
}

func testKubectlCache(t *testing.T, cp *ControlPlane) {
	g := NewWithT(t)
	kubectl, err := Kubectl()
	g.Expect(err).NotTo(HaveOccurred())
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), kubectl, "get", "namespace", "default") // #nosec G204 -- kubectl
	cmd.Env = append(append(os.Environ(), "HOME="+home, "KUBECACHEDIR="), cp.KubectlEnv()...)
	out, err := cmd.CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred(), string(out))
	left, err := os.ReadDir(home)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(left).To(BeEmpty())
}

func testServiceAccount(t *testing.T, cp *ControlPlane, admin kubernetes.Interface) {
	g := NewWithT(t)
	ctx := t.Context()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "reader"}}
	_, err := admin.CoreV1().ServiceAccounts("default").Create(ctx, account, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	path, err := cp.ServiceAccountKubeconfig(ctx, "default", "reader")
	g.Expect(err).NotTo(HaveOccurred())
	config, err := clientcmd.BuildConfigFromFlags("", path)
	g.Expect(err).NotTo(HaveOccurred())
	reader := kubernetes.NewForConfigOrDie(config)

	_, err = reader.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
	g.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "without a role, got %v", err)

	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list"}}},
	}
	_, err = admin.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: "reader"}},
	}
	_, err = admin.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(func() error {
		_, err := reader.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
		return err
	}, soon, poll).Should(Succeed())
	_, err = reader.CoreV1().Secrets("default").List(ctx, metav1.ListOptions{})
	g.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "with a role for something else, got %v", err)
}

func testNamespaceDeletion(t *testing.T, client kubernetes.Interface) {
	g := NewWithT(t)
	ctx := t.Context()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "passing"}}
	_, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	_, err = client.CoreV1().ConfigMaps("passing").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(client.CoreV1().Namespaces().Delete(ctx, "passing", metav1.DeleteOptions{})).To(Succeed())
	g.Eventually(func() bool {
		_, err := client.CoreV1().Namespaces().Get(ctx, "passing", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	}, soon, poll).Should(BeTrue())
}

func testGarbageCollection(t *testing.T, client kubernetes.Interface) {
	g := NewWithT(t)
	ctx := t.Context()
	maps := client.CoreV1().ConfigMaps("default")
	owner, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	owned := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owned", OwnerReferences: []metav1.OwnerReference{{
		APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID,
	}}}}
	_, err = maps.Create(ctx, owned, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(maps.Delete(ctx, "owner", metav1.DeleteOptions{})).To(Succeed())
	g.Eventually(func() bool {
		_, err := maps.Get(ctx, "owned", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	}, soon, poll).Should(BeTrue())
}

func TestControlPlaneStartCanBeInterrupted(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan time.Time, 1)
	go func() {
		// etcd makes it when it starts, and kube-apiserver comes after that.
		for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(filepath.Join(dir, etcd, "member")); err == nil {
				cancelled <- time.Now()
				cancel()
			}
		}
	}()
	_, err := StartControlPlane(ctx, ControlPlaneOptions{Dir: dir})
	g.Expect(err).To(MatchError(context.Canceled))
	g.Expect(time.Since(<-cancelled)).To(BeNumerically("<", startTimeout/2), "no part of the start was waited for")
	g.Expect(processesNaming(t, dir)).To(BeEmpty())
}

func TestMissingBinariesAreNamed(t *testing.T) {
	g := NewWithT(t)
	t.Setenv("NATS_SERVER", filepath.Join(t.TempDir(), "absent"))
	_, err := StartNATS(t.Context(), NATSOptions{})
	g.Expect(err).To(MatchError(ContainSubstring("correct the variable NATS_SERVER")))

	t.Setenv("NATS_SERVER", "")
	t.Chdir(emptyRepo(t))
	_, err = StartNATS(t.Context(), NATSOptions{})
	g.Expect(err).To(MatchError(ContainSubstring("make nats-server")))
	t.Setenv("KUBEBUILDER_ASSETS", "")
	_, err = StartControlPlane(t.Context(), ControlPlaneOptions{})
	g.Expect(err).To(MatchError(ContainSubstring("make control-plane")))
	_, err = StartManager(t.Context(), ManagerOptions{})
	g.Expect(err).To(MatchError(ContainSubstring("make build")))
}

func emptyRepo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+modulePath+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// processesNaming lists the processes with text in their command line.
func processesNaming(t *testing.T, text string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-eo", "pid,args").Output()
	if err != nil {
		t.Fatalf("listing processes: %v", err)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, text) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
