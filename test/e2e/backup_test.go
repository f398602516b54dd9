package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// natsCLI runs a command of docs/operations.md with the nats that make test-e2e has built, for the stream in place of AUDIT, in dir.
func natsCLI(ctx context.Context, command, stream, dir string) {
	GinkgoHelper()
	page, err := os.ReadFile("../../docs/operations.md")
	Expect(err).NotTo(HaveOccurred())
	shown := regexp.MustCompile(`(?m)^\$ nats (` + command + ` .*)$`).FindSubmatch(page)
	Expect(shown).NotTo(BeNil(), command)
	path, err := filepath.Abs("../../bin/nats")
	Expect(err).NotTo(HaveOccurred())
	args := strings.Fields(strings.ReplaceAll(string(shown[1]), "AUDIT", stream))
	cmd := exec.CommandContext(ctx, path, append(args, "--server="+env.nats.URL(), "--no-progress")...) // #nosec G204 -- the page's commands are what is tested
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), string(out))
}

// What docs/operations.md says under Backup and restore.
var _ = Describe("A stream that is restored from a backup", Label("backup"), func() {
	It("is the resource's as before, and nothing is copied into it again", func(ctx SpecContext) {
		ns := newNamespace(ctx)
		bucket := bucketOf(ns)
		fill(ctx, testenv.LegacyBucket{Name: bucket, Entries: 20})
		s := stream(ctx, ns, "restored", migrateFrom(bucket))
		Eventually(now(s), withinAMinute).WithContext(ctx).Should(beMigrated())
		write(ctx, s, 3)
		dir := GinkgoT().TempDir()
		natsCLI(ctx, "backup stream", s.Spec.Stream, dir)

		By("losing it")
		Expect(env.js.DeleteStream(ctx, s.Spec.Stream)).To(Succeed())
		Eventually(now(s), soon).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated))

		By("restoring it")
		edit(ctx, s, func(s *v1alpha1.AuditStream) { s.Spec.Suspend = true })
		Eventually(now(s), soon).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSuspended))
		Expect(env.js.DeleteStream(ctx, s.Spec.Stream)).To(Succeed())
		natsCLI(ctx, "backup restore stream", s.Spec.Stream, dir)
		edit(ctx, s, func(s *v1alpha1.AuditStream) { s.Spec.Suspend = false })
		Eventually(func(g Gomega) {
			fresh, err := now(s)(ctx)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(told(fresh, v1alpha1.ConditionMigrated)).To(HavePrefix("Migrated=True " + v1alpha1.ReasonMigrationComplete))
			g.Expect(fresh.Status.Stream.Entries).To(Equal(int64(23)))
		}, withinAMinute).WithContext(ctx).Should(Succeed())
		Consistently(onServer(s), aWhile).WithContext(ctx).Should(HaveField("State.Msgs", Equal(uint64(23))))
		Expect(now(s)(ctx)).To(haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonStreamRecreated))

		edit(ctx, s, func(s *v1alpha1.AuditStream) { s.Spec.MaxAge = "60d" })
		Eventually(now(s), soon).WithContext(ctx).Should(beMigrated())
	}, SpecTimeout(journeyTimeout))
})
