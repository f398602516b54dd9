package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

const sbomMediaType = "application/vnd.cyclonedx+json"

// runSBOM writes the SBOM of one binary to standard output.
func runSBOM(args []string) error {
	var opts options
	fs := flag.NewFlagSet("image sbom", flag.ContinueOnError)
	opts.registerBinary(fs)
	if err := parse(fs, args); err != nil {
		return err
	}
	if len(opts.binaries) != 1 || opts.version == "" {
		return fmt.Errorf("an SBOM is of one version of one binary: give --version and --binary once")
	}
	bom, err := newSBOM(&opts, opts.binaries[0])
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(bom)
	return err
}

// newSBOM lists the modules that a binary was linked from, as the binary itself tells.
func newSBOM(opts *options, b binary) ([]byte, error) {
	info, err := buildinfo.ReadFile(b.path)
	if err != nil {
		return nil, fmt.Errorf("reading the modules of %s, which has to be a Go binary: %w", b.path, err)
	}
	content, err := os.ReadFile(b.path)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	main := moduleComponent(&debug.Module{Path: info.Main.Path, Version: opts.version})
	main.Type = cdx.ComponentTypeApplication
	main.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}}
	main.Properties = &[]cdx.Property{
		{Name: "build:package", Value: info.Path},
		{Name: "build:platform", Value: b.platform.String()},
		{Name: "build:revision", Value: opts.revision},
	}
	components, dependencies := linkedModules(info)
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: opts.createdAt().Format(time.RFC3339), Component: &main}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &dependencies}}
	var out bytes.Buffer
	err = cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
	return out.Bytes(), err
}

// linkedModules are the modules that the binary has code of, Go's standard library among them, and their references.
func linkedModules(info *debug.BuildInfo) (components []cdx.Component, references []string) {
	modules := append([]*debug.Module{{Path: "std", Version: "v" + strings.TrimPrefix(info.GoVersion, "go")}}, info.Deps...)
	for _, module := range modules {
		if module.Replace != nil {
			module = module.Replace
		}
		component := moduleComponent(module)
		components = append(components, component)
		references = append(references, component.BOMRef)
	}
	return components, references
}

// moduleComponent is a module under the name that vulnerability databases know it by.
func moduleComponent(module *debug.Module) cdx.Component {
	purl := fmt.Sprintf("pkg:golang/%s@%s", module.Path, strings.ReplaceAll(module.Version, "+", "%2B"))
	return cdx.Component{
		BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: module.Path, Version: module.Version, PackageURL: purl, Scope: cdx.ScopeRequired,
	}
}
