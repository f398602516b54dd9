package testenv

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
)

func startNATS(t *testing.T) *NATSServer {
	t.Helper()
	s, err := StartNATS(t.Context(), NATSOptions{})
	if err != nil {
		t.Fatalf("%v\n(the binaries come from `make control-plane nats-server`)", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestNATSKeepsItsStreamsThroughKillAndRestart(t *testing.T) {
	g := NewWithT(t)
	ctx := t.Context()
	s := startNATS(t)
	js := connect(t, s.URL())
	g.Expect(FillLegacyBucket(ctx, js, LegacyBucket{Entries: 100})).To(Succeed())
	url, pid := s.URL(), s.Pid()

	g.Expect(s.Kill()).To(Succeed())
	g.Expect(alive(pid)).To(BeFalse())
	g.Expect(s.Restart(ctx)).To(Succeed())
	g.Expect(s.URL()).To(Equal(url))
	g.Expect(s.Pid()).NotTo(Equal(pid))
	entries, err := readBucket(ctx, connect(t, url), LegacyBucketName)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(entries).To(HaveLen(100))
}

func TestNATSCluster(t *testing.T) {
	g := NewWithT(t)
	ctx := t.Context()
	servers, err := StartNATSCluster(ctx, "", 3)
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(servers.Stop()).To(Succeed()) })
	js := connect(t, servers[2].URL())
	g.Eventually(func() error {
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "R3", Subjects: []string{"r3.>"}, Replicas: 3})
		return err
	}, soon, poll).Should(Succeed())
}

var uuidV4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestLegacyBucket(t *testing.T) {
	g := NewWithT(t)
	ctx := t.Context()
	js := connect(t, startNATS(t).URL())
	bucket := LegacyBucket{Entries: 10_000, Seed: 7}
	began := time.Now()
	g.Expect(FillLegacyBucket(ctx, js, bucket)).To(Succeed())
	t.Logf("10,000 entries took %s", time.Since(began).Round(time.Millisecond))

	status, err := js.Stream(ctx, "KV_audit-log")
	g.Expect(err).NotTo(HaveOccurred())
	config := status.CachedInfo().Config
	g.Expect(config.MaxAge).To(Equal(720 * time.Hour))
	g.Expect(config.MaxBytes).To(BeEquivalentTo(50 << 20))
	g.Expect(config.MaxMsgsPerSubject).To(BeEquivalentTo(1))
	g.Expect(config.Storage).To(Equal(jetstream.FileStorage))

	entries, err := readBucket(ctx, js, LegacyBucketName)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(entries).To(HaveLen(10_000))
	for key, value := range bucket.All() {
		if !uuidV4.MatchString(key) || !bytes.Equal(entries[key], value) {
			t.Fatalf("the bucket holds %q under %q, not %q", entries[key], key, value)
		}
	}
	for key := range (LegacyBucket{Entries: 10, Seed: 8}).All() {
		g.Expect(entries).NotTo(HaveKey(key), "another seed makes other keys")
	}
}

func TestCompareFindsEveryFault(t *testing.T) {
	g := NewWithT(t)
	ctx := t.Context()
	js := connect(t, startNATS(t).URL())
	bucket := LegacyBucket{Entries: 4}
	g.Expect(FillLegacyBucket(ctx, js, bucket)).To(Succeed())
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}})
	g.Expect(err).NotTo(HaveOccurred())
	compare := func() Comparison {
		c, err := Compare(ctx, js, LegacyBucketName, "AUDIT", "audit")
		g.Expect(err).NotTo(HaveOccurred())
		return c
	}
	c := compare()
	g.Expect(c.Missing).To(HaveLen(4))
	g.Expect(c.Err()).To(MatchError(ContainSubstring("4 of the bucket's 4 keys are missing from the stream")))

	var keys []string
	copies := []int{1, 1, 2, 0}
	for key, value := range bucket.All() {
		if len(keys) == 1 {
			value = append(value, ' ')
		}
		for range copies[len(keys)] {
			_, err := js.Publish(ctx, "audit."+key, value)
			g.Expect(err).NotTo(HaveOccurred())
		}
		keys = append(keys, key)
	}
	c = compare()
	g.Expect(c).To(Equal(Comparison{
		BucketEntries: 4,
		StreamEntries: 4,
		Different:     keys[1:2],
		Doubled:       keys[2:3],
		Missing:       keys[3:4],
	}))
	g.Expect(c.Err()).To(MatchError(And(ContainSubstring(keys[1]), ContainSubstring(keys[2]), ContainSubstring(keys[3]))))
}

// runChild starts what a demo starts, says the process ids, and waits to be killed.
func runChild(dir string) int {
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return 1
	}
	s, err := StartNATS(context.Background(), NATSOptions{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(s.Pid())
	if os.Getenv("TESTENV_CHILD_CONTROL_PLANE") != "" {
		_, err := StartControlPlane(context.Background(), ControlPlaneOptions{})
		fmt.Println("control plane", err)
	}
	select {}
}

func TestNothingOutlivesAKilledProgram(t *testing.T) {
	for name, env := range map[string]string{"nats-server": "", "nats-server and control plane": "TESTENV_CHILD_CONTROL_PLANE=1"} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			dir := t.TempDir()
			executable, err := os.Executable()
			g.Expect(err).NotTo(HaveOccurred())
			cmd := exec.CommandContext(t.Context(), executable)
			cmd.Env = append(os.Environ(), childDir+"="+dir, env)
			out, err := cmd.StdoutPipe()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(cmd.Start()).To(Succeed())
			lines := bufio.NewScanner(out)
			g.Expect(lines.Scan()).To(BeTrue())
			if env != "" {
				// In the middle of the start.
				g.Eventually(func() []string { return processesNaming(t, dir) }, soon, poll).Should(ContainElement(ContainSubstring("--etcd-servers")))
			}
			g.Expect(processesNaming(t, dir)).NotTo(BeEmpty())
			g.Expect(cmd.Process.Kill()).To(Succeed())
			var ended *exec.ExitError
			g.Expect(errors.As(cmd.Wait(), &ended)).To(BeTrue())

			g.Eventually(func() []string { return processesNaming(t, dir) }, soon, poll).Should(BeEmpty())
			g.Eventually(func() ([]os.DirEntry, error) { return os.ReadDir(dir) }, soon, poll).Should(BeEmpty())
		})
	}
}

func TestRestartOfARunningServer(t *testing.T) {
	g := NewWithT(t)
	s := startNATS(t)
	nc, err := nats.Connect(s.URL(), nats.ReconnectWait(10*time.Millisecond), nats.MaxReconnects(-1))
	g.Expect(err).NotTo(HaveOccurred())
	defer nc.Close()
	g.Expect(s.Restart(t.Context())).To(Succeed())
	g.Eventually(nc.IsConnected, soon, poll).Should(BeTrue())
	g.Expect(LogTail(s.LogFile(), 1000)).To(ContainSubstring("Server is ready"))
}
