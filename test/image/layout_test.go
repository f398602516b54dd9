package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	indexType = "application/vnd.oci.image.index.v1+json"
	sbomType  = "application/vnd.cyclonedx+json"
)

// descriptor and manifest are as much of OCI's image format as is looked at here.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Platform     platform          `json:"platform"`
	Annotations  map[string]string `json:"annotations"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

func (p platform) String() string { return p.OS + "/" + p.Architecture }

type manifest struct {
	ArtifactType string            `json:"artifactType"`
	Manifests    []descriptor      `json:"manifests"`
	Config       descriptor        `json:"config"`
	Layers       []descriptor      `json:"layers"`
	Subject      descriptor        `json:"subject"`
	Annotations  map[string]string `json:"annotations"`
}

type imageConfig struct {
	platform
	Created string `json:"created"`
	Config  struct {
		User       string
		Entrypoint []string
		Env        []string
		Labels     map[string]string
	} `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// ociLayout reads blobs and checks that they are what their descriptors say.
type ociLayout struct{ dir string }

func (l ociLayout) blob(t *testing.T, d descriptor) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(l.dir, "blobs", strings.Replace(d.Digest, ":", "/", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if digestOf(content) != d.Digest || int64(len(content)) != d.Size {
		t.Fatalf("blob %s has the digest %s and %d bytes, its descriptor says %d bytes", d.Digest, digestOf(content), len(content), d.Size)
	}
	return content
}

func (l ociLayout) manifest(t *testing.T, d descriptor) manifest {
	t.Helper()
	return decode[manifest](t, l.blob(t, d))
}

// index is the layout's own, the one that lists what is in it.
func (l ociLayout) index(t *testing.T) manifest {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(l.dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	return decode[manifest](t, content)
}

// images are the descriptors of the platforms' images, from the one tag that the layout has.
func (l ociLayout) images(t *testing.T) []descriptor {
	t.Helper()
	var tagged []descriptor
	for _, d := range l.index(t).Manifests {
		if d.Annotations["org.opencontainers.image.ref.name"] != "" {
			tagged = append(tagged, d)
		}
	}
	if len(tagged) != 1 || tagged[0].MediaType != indexType {
		t.Fatalf("the layout has the tags %+v, want one, of an image index", tagged)
	}
	return l.manifest(t, tagged[0]).Manifests
}

// files are those of a layer by their paths.
func (l ociLayout) files(t *testing.T, d descriptor) (files map[string]layerFile, diffID string) {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(l.blob(t, d)))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	return untar(t, content), digestOf(content)
}

type layerFile struct {
	*tar.Header
	content []byte
}

func untar(t *testing.T, archive []byte) map[string]layerFile {
	t.Helper()
	files := map[string]layerFile{}
	for reader := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, found := files[header.Name]; found {
			t.Errorf("%s is in the archive twice", header.Name)
		}
		files[header.Name] = layerFile{Header: header, content: content}
	}
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func decode[T any](t *testing.T, raw []byte) T {
	t.Helper()
	var value T
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return value
}
