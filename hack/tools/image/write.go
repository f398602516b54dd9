package main

import (
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	layoutDir = "oci"
	// refName is how tools find a tag in a layout; imageName is how containerd and Docker name what they import.
	refName   = "org.opencontainers.image.ref.name"
	imageName = "io.containerd.image.name"
)

// build writes the layout with every platform, and an archive and an SBOM for each.
func build(opts *options, dir string) error {
	base, err := baseLayer(opts.zoneinfo)
	if err != nil {
		return err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var sboms []v1.Image
	for _, b := range opts.binaries {
		image, err := newImage(opts, b, base)
		if err != nil {
			return fmt.Errorf("making the image for %s: %w", b.platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &b.platform}})
		sbom, err := writePlatform(opts, b, image, dir)
		if err != nil {
			return fmt.Errorf("writing the image for %s: %w", b.platform, err)
		}
		sboms = append(sboms, sbom)
	}
	index = mutate.Annotations(index, opts.annotations()).(v1.ImageIndex)
	if err := writeLayout(opts, index, sboms, filepath.Join(dir, layoutDir)); err != nil {
		return err
	}
	if err := tarDir(filepath.Join(dir, layoutDir), filepath.Join(dir, opts.baseName()+"-oci.tar")); err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s:%s@%s is in %s\n", opts.name, opts.version, digest, opts.out)
	return os.WriteFile(filepath.Join(dir, "digest"), []byte(digest.String()+"\n"), 0o644)
}

// writePlatform writes the files that one platform has for itself and returns the SBOM as an artifact of the image.
func writePlatform(opts *options, b binary, image v1.Image, dir string) (v1.Image, error) {
	stem := filepath.Join(dir, fmt.Sprintf("%s-%s-%s", opts.baseName(), b.platform.OS, b.platform.Architecture))
	bom, err := newSBOM(opts, b)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(stem+".cdx.json", bom, 0o644); err != nil {
		return nil, err
	}
	if err := writeArchive(opts, image, b.platform, stem+".tar"); err != nil {
		return nil, err
	}
	return newSBOMArtifact(opts, image, bom)
}

// writeLayout puts the index first, under its tag, and then what refers to the images in it.
func writeLayout(opts *options, index v1.ImageIndex, artifacts []v1.Image, dir string) error {
	path, err := layout.Write(dir, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	if err := path.AppendIndex(index, layout.WithAnnotations(opts.reference())); err != nil {
		return err
	}
	for _, artifact := range artifacts {
		if err := path.AppendImage(artifact); err != nil {
			return err
		}
	}
	return nil
}

func (o *options) reference() map[string]string {
	return map[string]string{refName: o.version, imageName: o.name + ":" + o.version}
}
