package testenv

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
)

func TestGitServerServesWhatIsCommitted(t *testing.T) {
	g := NewWithT(t)
	ctx := t.Context()
	s, err := StartGitServer(ctx, t.TempDir())
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(s.Stop()).To(Succeed()) })
	g.Expect(s.Write("team/file.yaml", "a: 1\n")).To(Succeed())
	commit, err := s.Commit(ctx, "Add a file")
	g.Expect(err).NotTo(HaveOccurred())

	clone := filepath.Join(t.TempDir(), "clone")
	_, err = s.git(ctx, "clone", "--quiet", "--branch="+gitBranch, s.URL(), clone)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.ReadFile(filepath.Join(clone, "team", "file.yaml"))).To(BeEquivalentTo("a: 1\n"))
	g.Expect(s.git(ctx, "-C", clone, "rev-parse", "HEAD")).To(Equal(commit))

	g.Expect(s.Write("team/file.yaml", "a: 2\n")).To(Succeed())
	_, err = s.Commit(ctx, "Change it")
	g.Expect(err).NotTo(HaveOccurred())
	_, err = s.git(ctx, "-C", clone, "pull", "--quiet")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(os.ReadFile(filepath.Join(clone, "team", "file.yaml"))).To(BeEquivalentTo("a: 2\n"))

	_, err = s.git(ctx, "-C", clone, "push", "--quiet", "origin", "HEAD:other")
	g.Expect(err).To(HaveOccurred(), "it serves for reading only")
}
