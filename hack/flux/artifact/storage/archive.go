package storage

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/sourceignore"
	"github.com/fluxcd/pkg/sourceignore/gitignore"
)

// ArchiveFileFilter says which files are left out of an archive.
type ArchiveFileFilter func(path string, info os.FileInfo) bool

// SourceIgnoreFilter leaves out what the patterns, and what Flux's own, ignore.
func SourceIgnoreFilter(patterns []gitignore.Pattern, domain []string) ArchiveFileFilter {
	matcher := sourceignore.NewDefaultMatcher(patterns, domain)
	return func(path string, info os.FileInfo) bool {
		return matcher.Match(strings.Split(path, string(filepath.Separator)), info.IsDir())
	}
}

// Archive writes the files below dir as the artifact, whole or not at all, and gives it the digest. The same files make
// the same archive.
func (s *Storage) Archive(artifact *meta.Artifact, dir string, leaveOut ArchiveFileFilter) (err error) {
	path := s.LocalPath(*artifact)
	file, err := os.CreateTemp(filepath.Dir(path), ".archive-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	digester := newDigester()
	err = errors.Join(writeArchive(io.MultiWriter(file, digester.Hash()), dir, leaveOut), file.Close())
	if err != nil {
		return err
	}
	info, err := os.Stat(file.Name())
	if err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	complete(artifact, digester, info.Size())
	return nil
}

func writeArchive(to io.Writer, dir string, leaveOut ArchiveFileFilter) error {
	zipped := gzip.NewWriter(to)
	archive := tar.NewWriter(zipped)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case path == dir:
			return nil
		case leaveOut != nil && leaveOut(path, info) && entry.IsDir():
			return fs.SkipDir
		case leaveOut != nil && leaveOut(path, info), !entry.IsDir() && !info.Mode().IsRegular():
			return nil
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return add(archive, filepath.ToSlash(name), path, info)
	})
	return errors.Join(err, archive.Close(), zipped.Close())
}

// add writes one entry without what differs from clone to clone: owners and times.
func add(archive *tar.Writer, name, path string, info fs.FileInfo) error {
	header := &tar.Header{Name: name, Mode: int64(info.Mode().Perm())}
	if info.IsDir() {
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
		return archive.WriteHeader(header)
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if _, err := io.Copy(archive, file); err != nil {
		return fmt.Errorf("archiving %s: %w", name, err)
	}
	return nil
}
