// Command golangci-lint is golangci-lint with kube-api-linter compiled in. A module plugin cannot be loaded at run time,
// and the usual way to build one clones golangci-lint's repository; importing both as modules needs no more than their
// entries in go.mod.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/golangci/golangci-lint/v2/pkg/commands"
	"github.com/golangci/golangci-lint/v2/pkg/exitcodes"

	_ "sigs.k8s.io/kube-api-linter" // registers the linter kubeapilinter
)

const modulePath = "github.com/golangci/golangci-lint/v2"

func main() {
	if err := commands.Execute(buildInfo()); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "golangci-lint ended with an error: %v\n", err)
		os.Exit(exitcodes.Failure)
	}
}

// buildInfo reports golangci-lint's own version, which it compares with the version of its configuration file, rather
// than that of this module.
func buildInfo() commands.BuildInfo {
	info := commands.BuildInfo{GoVersion: "unknown", Version: "unknown", Commit: "?", Date: "(unknown)"}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return info
	}
	info.GoVersion = build.GoVersion
	for _, dep := range build.Deps {
		if dep.Path == modulePath {
			info.Version = strings.TrimPrefix(dep.Version, "v")
			info.Commit = fmt.Sprintf("(with kube-api-linter, mod sum: %q)", dep.Sum)
		}
	}
	return info
}
