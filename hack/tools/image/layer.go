package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	nonroot          = 65532
	certificatesPath = "etc/ssl/certs/ca-certificates.crt"
	zoneinfoPath     = "usr/share/zoneinfo"
)

// file is a file of a layer, or a directory where its path ends with a slash.
type file struct {
	path    string
	mode    int64
	owner   int
	content []byte
}

// baseLayer has what a static binary wants of a system. Its files have no time, so that every version shares the layer.
func baseLayer(zoneinfo string) (v1.Layer, error) {
	certificates, err := certificateBundle()
	if err != nil {
		return nil, err
	}
	files := []file{
		{path: "etc/", mode: 0o755},
		{path: "etc/passwd", mode: 0o644, content: []byte("root:x:0:0:root:/:/sbin/nologin\n" +
			"nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")},
		{path: "etc/group", mode: 0o644, content: []byte("root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n")},
		{path: "etc/nsswitch.conf", mode: 0o644, content: []byte("hosts: files dns\n")},
		{path: "etc/ssl/", mode: 0o755},
		{path: "etc/ssl/certs/", mode: 0o755},
		{path: certificatesPath, mode: 0o644, content: certificates},
		{path: "home/", mode: 0o755},
		{path: "home/nonroot/", mode: 0o700, owner: nonroot},
		{path: "tmp/", mode: 0o1777},
	}
	if zoneinfo != "" {
		zones, err := timeZones(zoneinfo)
		if err != nil {
			return nil, fmt.Errorf("--zoneinfo %s: %w", zoneinfo, err)
		}
		files = append(files, zones...)
	}
	return newLayer(files, time.Unix(0, 0).UTC())
}

func programLayer(binary string, created time.Time) (v1.Layer, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	return newLayer([]file{{path: filepath.Base(binary), mode: 0o555, content: content}}, created)
}

// timeZones are the files of Go's copy of the time zone database, with the directories they need.
func timeZones(archive string) ([]file, error) {
	reader, err := zip.OpenReader(archive)
	if err != nil {
		return nil, err
	}
	defer func() { _ = reader.Close() }()
	files := []file{{path: "usr/", mode: 0o755}, {path: "usr/share/", mode: 0o755}, {path: zoneinfoPath + "/", mode: 0o755}}
	seen := map[string]bool{".": true}
	for _, entry := range reader.File {
		if strings.HasSuffix(entry.Name, "/") {
			continue
		}
		if !filepath.IsLocal(entry.Name) {
			return nil, fmt.Errorf("%q is a path that leads out of the archive", entry.Name)
		}
		for _, dir := range missingDirs(entry.Name, seen) {
			files = append(files, file{path: zoneinfoPath + "/" + dir + "/", mode: 0o755})
		}
		content, err := readEntry(entry)
		if err != nil {
			return nil, err
		}
		files = append(files, file{path: zoneinfoPath + "/" + entry.Name, mode: 0o644, content: content})
	}
	return files, nil
}

// missingDirs are the directories above a file that were not seen before, the outer ones first.
func missingDirs(name string, seen map[string]bool) []string {
	var dirs []string
	for dir := path.Dir(name); !seen[dir]; dir = path.Dir(dir) {
		seen[dir] = true
		dirs = append(dirs, dir)
	}
	slices.Reverse(dirs)
	return dirs
}

func readEntry(entry *zip.File) ([]byte, error) {
	reader, err := entry.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = reader.Close() }()
	return io.ReadAll(reader)
}

// newLayer gives the same bytes for the same files.
func newLayer(files []file, modified time.Time) (v1.Layer, error) {
	var content bytes.Buffer
	writer := tar.NewWriter(&content)
	for _, f := range files {
		header := &tar.Header{
			Name: f.path, Mode: f.mode, Uid: f.owner, Gid: f.owner, Size: int64(len(f.content)),
			ModTime: modified, Typeflag: tar.TypeReg, Format: tar.FormatPAX,
		}
		if strings.HasSuffix(f.path, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression),
		tarball.WithCompressedCaching)
}
