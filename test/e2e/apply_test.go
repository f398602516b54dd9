package e2e

import (
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

var _ = Describe("Applying an AuditStream", Label("apply"), func() {
	It("creates the stream, moves the legacy bucket into it, and says so in kubectl", func(ctx SpecContext) {
		ns := newNamespace(ctx)
		fill(ctx, testenv.LegacyBucket{Name: bucketOf(ns), Entries: 1000})
		s := stream(ctx, ns, "api-audit", migrateFrom(bucketOf(ns)))

		By("waiting as a user does")
		kubectl(ctx, "wait", "--for=condition=Ready", "auditstream/api-audit", "-n", ns, "--timeout=1m")
		Expect(now(s)(ctx)).To(And(beMigrated(), HaveField("Status.Stream.Entries", BeEquivalentTo(1000))))
		Expect(holdsBucket(s, bucketOf(ns))(ctx)).To(Succeed())

		By("looking at it with the short name, with and without wide")
		table := columns(kubectl(ctx, "get", "aus", "-n", ns))
		Expect(table[0]).To(Equal([]string{"NAME", "STREAM", "SUBJECT", "MAX AGE", "MIGRATED", "READY", "REASON", "AGE"}))
		Expect(table[1][:7]).To(Equal([]string{"api-audit", s.Spec.Stream, s.Spec.Subject, "30d", "True", "True", "Ready"}))
		wide := columns(kubectl(ctx, "get", "aus", "-n", ns, "-o", "wide"))
		Expect(wide[0][8:]).To(Equal([]string{"ENTRIES", "BYTES", "MESSAGE"}))
		Expect(wide[1][8]).To(Equal("1000"))
		Expect(wide[1][10]).To(ContainSubstring(s.Spec.Stream))
	}, SpecTimeout(journeyTimeout))

	It("is explained by kubectl", func(ctx SpecContext) {
		text := kubectl(ctx, "explain", "auditstream.spec")
		for _, field := range []string{"stream", "subject", "maxAge", "maxBytes", "whenFull", "migrateFrom", "deletionPolicy", "retentionLock"} {
			Expect(text).To(MatchRegexp(`(?m)^  `+field+`\b.*\n(  enum: .*\n)?    \S`), "the field has a text")
		}
	}, SpecTimeout(journeyTimeout))

	It("is never taken for ready before the operator has seen it, or a change of it", Label("restart"), func(ctx SpecContext) {
		ns := newNamespace(ctx)
		seen := stream(ctx, ns, "seen")
		Eventually(now(seen), soon).WithContext(ctx).Should(beReady())

		stopOperator(ctx)
		stream(ctx, ns, "fresh")
		edit(ctx, seen, func(s *v1alpha1.AuditStream) { s.Spec.MaxAge = "60d" })
		for _, name := range []string{"fresh", "seen"} {
			_, err := env.cp.Kubectl(ctx, "wait", "--for=condition=Ready", "auditstream/"+name, "-n", ns, "--timeout=2s")
			Expect(err).To(MatchError(ContainSubstring("timed out waiting for the condition")), name)
		}

		startOperator(ctx)
		kubectl(ctx, "wait", "--for=condition=Ready", "auditstream", "--all", "-n", ns, "--timeout=1m")
	}, SpecTimeout(journeyTimeout))
})

// columns splits a table of kubectl at two or more spaces: MAX AGE is one column.
func columns(table string) [][]string {
	var rows [][]string
	for line := range strings.Lines(table) {
		rows = append(rows, regexp.MustCompile(`\s{2,}`).Split(strings.TrimSpace(line), -1))
	}
	return rows
}
