package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	sbomMediaType  = "application/vnd.cyclonedx+json"
	emptyMediaType = "application/vnd.oci.empty.v1+json"
)

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
	components := []cdx.Component{moduleComponent(&debug.Module{Path: "std", Version: "v" + strings.TrimPrefix(info.GoVersion, "go")})}
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		components = append(components, moduleComponent(module))
	}
	var dependencies []string
	for _, component := range components {
		dependencies = append(dependencies, component.BOMRef)
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: opts.createdAt().Format(time.RFC3339), Component: &main}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &dependencies}}
	var out bytes.Buffer
	err = cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
	return out.Bytes(), err
}

// moduleComponent is a module under the name that vulnerability databases know it by.
func moduleComponent(module *debug.Module) cdx.Component {
	purl := fmt.Sprintf("pkg:golang/%s@%s", module.Path, strings.ReplaceAll(module.Version, "+", "%2B"))
	return cdx.Component{
		BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: module.Path, Version: module.Version, PackageURL: purl, Scope: cdx.ScopeRequired,
	}
}

// artifact is an image manifest that carries a file and refers to another image.
type artifact struct {
	manifest []byte
	layer    v1.Layer
}

// newSBOMArtifact makes the SBOM a referrer of the image, where registries and scanners look for it.
func newSBOMArtifact(opts *options, image v1.Image, bom []byte) (v1.Image, error) {
	subject, err := partial.Descriptor(image)
	if err != nil {
		return nil, err
	}
	layer := static.NewLayer(bom, sbomMediaType)
	content, err := partial.Descriptor(layer)
	if err != nil {
		return nil, err
	}
	config, size, err := v1.SHA256(strings.NewReader("{}"))
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(&v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  sbomMediaType,
		Config:        v1.Descriptor{MediaType: emptyMediaType, Digest: config, Size: size, Data: []byte("{}")},
		Layers:        []v1.Descriptor{*content},
		Subject:       &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations:   map[string]string{"org.opencontainers.image.created": opts.createdAt().Format(time.RFC3339)},
	})
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(artifact{manifest: manifest, layer: layer})
}

// MediaType is that of the manifest.
func (artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// RawConfigFile is the empty config that artifacts have.
func (artifact) RawConfigFile() ([]byte, error) { return []byte("{}"), nil }

// RawManifest is the manifest as it is stored.
func (a artifact) RawManifest() ([]byte, error) { return a.manifest, nil }

// LayerByDigest knows the file and the config.
func (a artifact) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	if known, err := a.layer.Digest(); err != nil || known == digest {
		return a.layer, err
	}
	return partial.ConfigLayer(a)
}
