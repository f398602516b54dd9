package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
)

// What a build stamps: make image and make release do, with -ldflags "-X main.version=... -X main.revision=...".
var version, revision string

// registerVersion defines --version, which ends the program before anything else is looked at.
func registerVersion(fs *flag.FlagSet) {
	fs.BoolFunc("version", "Print the version and exit.", func(string) error {
		writeVersion(os.Stdout)
		os.Exit(0)
		return nil
	})
}

func writeVersion(w io.Writer) {
	v, r := buildVersion()
	_, _ = fmt.Fprintf(w, "auditstream-operator %s (revision %s, %s, %s/%s)\n", v, r, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildVersion is what was stamped, or else what the go command knows, as after go install.
func buildVersion() (builtVersion, builtRevision string) {
	builtVersion, builtRevision = version, revision
	info, ok := debug.ReadBuildInfo()
	if ok && builtVersion == "" {
		builtVersion = info.Main.Version
	}
	for i := 0; ok && builtRevision == "" && i < len(info.Settings); i++ {
		if info.Settings[i].Key == "vcs.revision" {
			builtRevision = info.Settings[i].Value
		}
	}
	return cmp.Or(builtVersion, "(devel)"), cmp.Or(builtRevision, "unknown")
}
