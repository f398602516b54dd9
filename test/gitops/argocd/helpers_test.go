package argocd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/test/argocd"
)

const namespace = "payments"

func git(ctx context.Context, args ...string) {
	GinkgoHelper()
	cmd := exec.CommandContext(ctx, "git", args...) // #nosec G204
	// Nobody's own configuration, with its hooks and signatures, is asked for.
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=team", "GIT_AUTHOR_EMAIL=team@example.com", "GIT_COMMITTER_NAME=team", "GIT_COMMITTER_EMAIL=team@example.com")
	out, err := cmd.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), "git %v: %s", args, out)
}

func commit(ctx context.Context, message string) {
	GinkgoHelper()
	git(ctx, "-C", env.repo, "add", "--all")
	git(ctx, "-C", env.repo, "commit", "--quiet", "--allow-empty", "--message", message)
}

// write puts a file into the repository, or takes it out where there is no content.
func write(name, content string) {
	GinkgoHelper()
	file := filepath.Join(env.repo, name)
	if content == "" {
		Expect(os.Remove(file)).To(Or(Succeed(), MatchError(fs.ErrNotExist)))
		return
	}
	Expect(os.WriteFile(file, []byte(content), 0o600)).To(Succeed())
}

// push commits what was written and has the engine synchronize the cluster with it.
func push(ctx context.Context, message string) {
	GinkgoHelper()
	commit(ctx, message)
	sync(ctx)
}

func sync(ctx context.Context) {
	GinkgoHelper()
	Expect(env.agent.Sync(ctx)).To(Succeed())
}

// now fetches a resource as Argo CD sees it; it is for Eventually and Consistently.
func now(name string) func(context.Context) (*unstructured.Unstructured, error) {
	return func(ctx context.Context) (*unstructured.Unstructured, error) {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("AuditStream"))
		return u, env.k8s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, u)
	}
}

func get(ctx context.Context, name string) *unstructured.Unstructured {
	GinkgoHelper()
	u, err := now(name)(ctx)
	Expect(err).NotTo(HaveOccurred())
	return u
}

func typed(u *unstructured.Unstructured) *v1alpha1.AuditStream {
	GinkgoHelper()
	obj := &v1alpha1.AuditStream{}
	Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, obj)).To(Succeed())
	return obj
}

// synced synchronizes before it looks; it is for Eventually. The engine prunes what it knows of, by a watch, and a resource that was
// made a moment ago may not have come by that yet. Argo CD begins another synchronization when it does.
func synced[T any](look func(context.Context) (T, error)) func(context.Context) (T, error) {
	return func(ctx context.Context) (T, error) {
		if err := env.agent.Sync(ctx); err != nil {
			var none T
			return none, err
		}
		return look(ctx)
	}
}

func gone(name string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		_, err := now(name)(ctx)
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}
}

// haveHealth matches a resource of which health.lua says so.
func haveHealth(status string) types.GomegaMatcher {
	return WithTransform(func(u *unstructured.Unstructured) (string, error) {
		health, err := argocd.HealthOf(u.Object)
		return health.Status + ", " + health.Message, err
	}, HavePrefix(status))
}

// keep is how long the stream on the server keeps entries.
func keep(stream string) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		live, err := env.js.Stream(ctx, stream)
		if err != nil {
			return 0, err
		}
		return live.CachedInfo().Config.MaxAge, nil
	}
}

func record(ctx context.Context, subject string, n int) {
	GinkgoHelper()
	for i := range n {
		id := fmt.Sprintf("entry-%d", i)
		_, err := env.js.Publish(ctx, subject+"."+id, fmt.Appendf(nil, `{"id":%q}`, id))
		Expect(err).NotTo(HaveOccurred())
	}
}

func entries(stream string) func(context.Context) (uint64, error) {
	return func(ctx context.Context) (uint64, error) {
		live, err := env.js.Stream(ctx, stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		return live.CachedInfo().State.Msgs, nil
	}
}

// act does an action of the menu, in the way Argo CD does: it patches the resource with what the script has changed.
func act(ctx context.Context, action, name string) {
	GinkgoHelper()
	u := get(ctx, name)
	Expect(argocd.Discover(u.Object)).To(ContainElement(argocd.Action{Name: action}), "the action is on offer")
	changed, err := argocd.Act(action, u.DeepCopy().Object)
	Expect(err).NotTo(HaveOccurred())
	Expect(env.k8s.Patch(ctx, &unstructured.Unstructured{Object: changed}, client.MergeFrom(u))).To(Succeed())
}

// expectStatusOnly asserts that the operator has a hand in the status, and the engine in all else, by what the API server
// has noted.
func expectStatusOnly(u *unstructured.Unstructured) {
	GinkgoHelper()
	var managers []string
	for _, entry := range u.GetManagedFields() {
		managers = append(managers, strings.TrimSuffix(entry.Manager+"/"+entry.Subresource, "/"))
	}
	Expect(managers).To(ConsistOf(engine, "manager/status"))
}
