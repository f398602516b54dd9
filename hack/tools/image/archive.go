package main

import (
	"archive/tar"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// writeArchive writes the image of one platform as a tar file that is an OCI layout and, through its manifest.json, what
// docker save writes: containerd, Docker and podman all load it.
func writeArchive(opts *options, image v1.Image, platform v1.Platform, path string) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".archive-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	contents, err := layout.Write(dir, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	if err := contents.AppendImage(image, layout.WithAnnotations(opts.reference()), layout.WithPlatform(platform)); err != nil {
		return err
	}
	if err := writeDockerManifest(opts, image, contents); err != nil {
		return err
	}
	return tarDir(dir, path)
}

// writeDockerManifest names the config and the layers, which lie where the layout has them.
func writeDockerManifest(opts *options, image v1.Image, contents layout.Path) error {
	manifest, err := image.Manifest()
	if err != nil {
		return err
	}
	blob := func(d v1.Descriptor) string { return "blobs/" + d.Digest.Algorithm + "/" + d.Digest.Hex }
	var layers []string
	for _, layer := range manifest.Layers {
		layers = append(layers, blob(layer))
	}
	raw, err := json.Marshal([]map[string]any{{
		"Config": blob(manifest.Config), "RepoTags": []string{opts.name + ":" + opts.version}, "Layers": layers,
	}})
	if err != nil {
		return err
	}
	return contents.WriteFile("manifest.json", raw, 0o644)
}

// tarDir writes the files of a directory in the order of their names, without times or owners.
func tarDir(dir, path string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	writer := tar.NewWriter(out)
	root := os.DirFS(dir)
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return tarFile(writer, root, name)
	})
	if err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	return out.Close()
}

func tarFile(writer *tar.Writer, root fs.FS, name string) error {
	in, err := root.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := writer.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: info.Size(), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err = io.Copy(writer, in)
	return err
}
