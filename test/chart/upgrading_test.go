package chart

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

// upgradeURL is where NATS is in docs/upgrading.md.
const upgradeURL = "nats://nats.messaging.svc:4222"

// TestTheGuideForUpgradingWorks installs an old release as docs/install.md says, with install.yaml, and runs every command of
// docs/upgrading.md.
func TestTheGuideForUpgradingWorks(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join(root, "dist", "install.yaml"))
	r.must(err)
	file, installed := filepath.Join(dir, "install.yaml"), string(text)
	r.must(os.WriteFile(file, []byte(strings.ReplaceAll(installed, ":"+readChart(t).AppVersion, ":"+oldVersion)), 0o600))
	r.kubectl("apply", "--server-side", "--filename", file)
	r.kubectl("set", "env", "--namespace", testenv.OperatorNamespace, "deployment/"+release+"-controller-manager", "NATS_URL="+r.nats.URL())
	r.follow()
	uid := r.declare(testenv.OperatorNamespace, "api-audit", "AUDIT")
	r.write("AUDIT", "audit.1")

	r.must(os.WriteFile(file, []byte(installed), 0o600))
	if out, err := r.cp.Kubectl(t.Context(), "apply", "--server-side", "--filename", file); err == nil || !strings.Contains(err.Error(), `conflict with "kubectl-set"`) {
		t.Errorf("the new install.yaml was taken as it is, which changes NATS_URL: %v\n%s", err, out)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "upgrading.md"))
	r.must(err)
	guide := strings.ReplaceAll(string(page), upgradeURL, r.nats.URL())
	for _, block := range regexp.MustCompile("(?ms)^```console\n(.*?)^```$").FindAllStringSubmatch(guide, -1) {
		for _, shown := range strings.Split("\n"+block[1], "\n$ ")[1:] {
			if strings.Contains(shown, " rollout status ") {
				r.rolledOut()
			}
			r.must(r.run(dir, shown))
			r.follow()
		}
	}
	r.shows(readChart(t).AppVersion, 1, true)
	if !strings.Contains(r.runs, r.nats.URL()) {
		t.Errorf("the operator was sent to another NATS: %s", r.runs)
	}
	r.outlived(uid)
	r.goesOn(testenv.OperatorNamespace, "api-audit", "AUDIT")
}
