package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// options say what an image is made of and what it tells about itself.
type options struct {
	out         string
	name        string
	version     string
	revision    string
	created     int64
	title       string
	description string
	source      string
	licenses    string
	zoneinfo    string
	binaries    []binary
}

// binary is the program for one platform.
type binary struct {
	platform v1.Platform
	path     string
}

func (o *options) register(fs *flag.FlagSet) {
	fs.StringVar(&o.out, "out", "", "Directory to write to; what an earlier run wrote there is replaced.")
	fs.StringVar(&o.name, "name", "", "Name of the image without a tag, such as ghcr.io/osapi-io/auditstream-operator.")
	fs.StringVar(&o.title, "title", "", "Name for people.")
	fs.StringVar(&o.description, "description", "", "What the image is, in one sentence.")
	fs.StringVar(&o.source, "source", "", "URL of the source code.")
	fs.StringVar(&o.licenses, "licenses", "", "SPDX expression of the licences.")
	fs.StringVar(&o.zoneinfo, "zoneinfo", "", "Go's lib/time/zoneinfo.zip; empty leaves the time zones out.")
	o.registerBinary(fs)
}

// registerBinary defines what an SBOM needs as well.
func (o *options) registerBinary(fs *flag.FlagSet) {
	fs.StringVar(&o.version, "version", "", "Version, which is the image's tag too.")
	fs.StringVar(&o.revision, "revision", "", "Commit that the binaries were built from.")
	fs.Int64Var(&o.created, "created", 0, "Time of that commit, in seconds since 1970.")
	fs.Func("binary", "Program of one platform as OS/ARCH=FILE; once for each. Its file name is the entry point.", o.addBinary)
}

func (o *options) addBinary(value string) error {
	platform, path, found := strings.Cut(value, "=")
	parsed, err := v1.ParsePlatform(platform)
	if !found || path == "" || err != nil || parsed.OS == "" || parsed.Architecture == "" {
		return fmt.Errorf("%q is not of the form OS/ARCH=FILE, such as linux/amd64=bin/manager", value)
	}
	o.binaries = append(o.binaries, binary{platform: *parsed, path: path})
	return nil
}

func (o *options) validate() error {
	for _, required := range []struct{ flag, value string }{{"out", o.out}, {"name", o.name}, {"version", o.version}} {
		if required.value == "" {
			return fmt.Errorf("--%s is empty: give one", required.flag)
		}
	}
	if len(o.binaries) == 0 {
		return fmt.Errorf("--binary is missing: give one for each platform")
	}
	for _, b := range o.binaries {
		if filepath.Base(b.path) != filepath.Base(o.binaries[0].path) {
			return fmt.Errorf("--binary %s and %s have different file names: they are the entry point, so name them the same",
				o.binaries[0].path, b.path)
		}
	}
	if _, err := o.tag(); err != nil {
		return fmt.Errorf("--name %q with --version %q is no image reference: %w", o.name, o.version, err)
	}
	return nil
}

// tag is the full reference, the name with the version.
func (o *options) tag() (name.Tag, error) {
	return name.NewTag(o.name+":"+o.version, name.StrictValidation)
}

func (o *options) createdAt() time.Time { return time.Unix(o.created, 0).UTC() }

// baseName is what the files of the image are called.
func (o *options) baseName() string { return filepath.Base(o.name) }

func (o *options) annotations() map[string]string {
	all := map[string]string{
		"org.opencontainers.image.title":       o.title,
		"org.opencontainers.image.description": o.description,
		"org.opencontainers.image.source":      o.source,
		"org.opencontainers.image.licenses":    o.licenses,
		"org.opencontainers.image.version":     o.version,
		"org.opencontainers.image.revision":    o.revision,
		"org.opencontainers.image.created":     o.createdAt().Format(time.RFC3339),
	}
	for key, value := range all {
		if value == "" {
			delete(all, key)
		}
	}
	return all
}

func runBuild(args []string) error {
	var opts options
	fs := flag.NewFlagSet("image build", flag.ContinueOnError)
	opts.register(fs)
	if err := parse(fs, args); err != nil {
		return err
	}
	if err := opts.validate(); err != nil {
		return err
	}
	return replaceDir(opts.out, func(dir string) error { return build(&opts, dir) })
}

// parse leaves it to main to say what is wrong.
func parse(fs *flag.FlagSet, args []string) error {
	fs.SetOutput(io.Discard)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(os.Stdout)
			fs.Usage()
		}
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q is no flag: %s --help lists them", fs.Arg(0), fs.Name())
	}
	return nil
}

// replaceDir has a directory appear only once it is whole.
func replaceDir(path string, fill func(dir string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".image-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := fill(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.Rename(dir, path)
}
