package testenv

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
)

const modulePath = "github.com/osapi-io/auditstream-operator"

// RepoRoot is the directory of the module that the working directory lies in.
func RepoRoot() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		if declaresModule(filepath.Join(dir, "go.mod")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("finding the repository: no go.mod of %s in %s or above it: run this inside a clone", modulePath, wd)
		}
	}
}

func declaresModule(goMod string) bool {
	f, err := os.Open(goMod) // #nosec G304 -- a go.mod above the working directory
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 2 && fields[0] == "module" {
			return fields[1] == modulePath
		}
	}
	return false
}

// Kubectl is the path of the kubectl to use: TEST_ASSET_KUBECTL, one in KUBEBUILDER_ASSETS, the one that
// `make control-plane` has built, or the one in PATH, whichever comes first.
func Kubectl() (string, error) {
	if path, err := kubernetesBinary("kubectl"); err == nil {
		return path, nil
	}
	path, err := exec.LookPath("kubectl")
	if err != nil {
		return "", errors.New("kubectl is neither in bin/k8s nor in PATH: run `make control-plane`")
	}
	return path, nil
}

// kubernetesBinary looks where envtest looks (TEST_ASSET_<NAME>, then KUBEBUILDER_ASSETS), and where KUBEBUILDER_ASSETS
// is unset or lacks the binary, as envtest's own downloads lack kube-controller-manager, in the newest bin/k8s/<version>.
func kubernetesBinary(name string) (string, error) {
	if path := os.Getenv("TEST_ASSET_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))); path != "" {
		return executable(path, "correct the TEST_ASSET_ variable")
	}
	if assets := os.Getenv("KUBEBUILDER_ASSETS"); assets != "" {
		if path, err := executable(filepath.Join(assets, name), ""); err == nil {
			return path, nil
		}
	}
	root, err := RepoRoot()
	if err != nil {
		return "", err
	}
	dir, err := newestVersion(filepath.Join(root, "bin", "k8s"))
	if err != nil {
		return "", fmt.Errorf("looking for %s: %w: run `make control-plane`, or set KUBEBUILDER_ASSETS", name, err)
	}
	return executable(filepath.Join(dir, name), "run `make control-plane`, or set KUBEBUILDER_ASSETS")
}

func newestVersion(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var newest *version.Version
	var path string
	for _, entry := range entries {
		v, err := version.ParseGeneric(entry.Name())
		if err == nil && (newest == nil || newest.LessThan(v)) {
			newest, path = v, filepath.Join(dir, entry.Name())
		}
	}
	if path == "" {
		return "", fmt.Errorf("no version in %s", dir)
	}
	return path, nil
}

// builtBinary is the path in the variable env, else bin/<name>, which the make target builds.
func builtBinary(name, env, target string) (string, error) {
	if path := os.Getenv(env); path != "" {
		return executable(path, "correct the variable "+env)
	}
	root, err := RepoRoot()
	if err != nil {
		return "", err
	}
	return executable(filepath.Join(root, "bin", name), fmt.Sprintf("run `make %s`, or set %s", target, env))
}

func executable(path, advice string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, advice)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%s is not an executable file: %s", path, advice)
	}
	// The process may be started in another directory.
	return filepath.Abs(path)
}
