package main

import (
	"encoding/json"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const emptyMediaType = "application/vnd.oci.empty.v1+json"

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
