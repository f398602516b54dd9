// Package storage keeps artifacts as files: <kind>/<namespace>/<name>/<file> below its directory.
package storage

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	godigest "github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fluxcd/pkg/artifact/config"
	"github.com/fluxcd/pkg/artifact/digest"
)

// Storage keeps artifacts. It is safe for concurrent use where the caller holds the artifact's lock.
type Storage struct {
	dir, host string
	locks     sync.Map // by artifact's path, *sync.Mutex
}

// New keeps artifacts where the options say.
func New(options *config.Options) (*Storage, error) {
	info, err := os.Stat(options.StoragePath)
	if err != nil {
		return nil, fmt.Errorf("--storage-path: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("--storage-path: %s is not a directory", options.StoragePath)
	}
	host := options.StorageAdvAddress
	if host == "" {
		host = options.StorageAddress
	}
	return &Storage{dir: options.StoragePath, host: host}, nil
}

// NewArtifactFor names an artifact of an object; nothing is written.
func (s *Storage) NewArtifactFor(kind string, object metav1.Object, revision, file string) meta.Artifact {
	path := filepath.Join(strings.ToLower(kind), object.GetNamespace(), object.GetName(), file)
	artifact := meta.Artifact{Path: path, Revision: revision}
	s.SetArtifactURL(&artifact)
	return artifact
}

// SetArtifactURL gives the artifact the URL that it is served under.
func (s *Storage) SetArtifactURL(artifact *meta.Artifact) {
	if artifact.Path != "" {
		artifact.URL = "http://" + s.host + "/" + strings.TrimLeft(filepath.ToSlash(artifact.Path), "/")
	}
}

// SetHostname is the URL with the host that artifacts are served under.
func (s *Storage) SetHostname(of string) string {
	u, err := url.Parse(of)
	if err != nil {
		return ""
	}
	u.Host = s.host
	return u.String()
}

// LocalPath is the artifact's file.
func (s *Storage) LocalPath(artifact meta.Artifact) string {
	if artifact.Path == "" {
		return ""
	}
	// A rooted path cannot lead out of the directory.
	return filepath.Join(s.dir, filepath.Clean("/"+artifact.Path))
}

// MkdirAll makes the directory of the artifact.
func (s *Storage) MkdirAll(artifact meta.Artifact) error {
	return os.MkdirAll(filepath.Dir(s.LocalPath(artifact)), 0o700)
}

// Lock holds the artifact until the function is called that it returns.
func (s *Storage) Lock(artifact meta.Artifact) (unlock func(), err error) {
	lock, _ := s.locks.LoadOrStore(s.LocalPath(artifact), &sync.Mutex{})
	mutex := lock.(*sync.Mutex)
	mutex.Lock()
	return mutex.Unlock, nil
}

// ArtifactExist says whether the artifact's file is there.
func (s *Storage) ArtifactExist(artifact meta.Artifact) bool {
	info, err := os.Lstat(s.LocalPath(artifact))
	return err == nil && info.Mode().IsRegular()
}

// VerifyArtifact fails where the file has not the artifact's digest.
func (s *Storage) VerifyArtifact(artifact meta.Artifact) error {
	want, err := godigest.Parse(artifact.Digest)
	if err != nil {
		return fmt.Errorf("artifact %s has the digest %q: %w", artifact.Path, artifact.Digest, err)
	}
	file, err := os.Open(s.LocalPath(artifact))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	got, err := want.Algorithm().FromReader(file)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("artifact %s has the digest %s, and should have %s", artifact.Path, got, want)
	}
	return nil
}

// Remove deletes the artifact's file.
func (s *Storage) Remove(artifact meta.Artifact) error { return os.Remove(s.LocalPath(artifact)) }

// RemoveAll deletes all artifacts of the object that this one is of. It returns the directory, or nothing where there is none.
func (s *Storage) RemoveAll(artifact meta.Artifact) (string, error) {
	dir := filepath.Dir(s.LocalPath(artifact))
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return dir, os.RemoveAll(dir)
}

// GarbageCollect deletes what an object had before this artifact. It returns the files.
func (s *Storage) GarbageCollect(ctx context.Context, artifact meta.Artifact, _ time.Duration) ([]string, error) {
	current := s.LocalPath(artifact)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(current), "*.tar.gz"))
	if err != nil {
		return nil, err
	}
	var deleted []string
	for _, file := range files {
		info, err := os.Stat(file)
		// Those who were told of the last one may be about to fetch it.
		if err != nil || file == current || time.Since(info.ModTime()) < retention {
			continue
		}
		if err := errors.Join(ctx.Err(), os.Remove(file)); err != nil {
			return deleted, err
		}
		deleted = append(deleted, file)
	}
	return deleted, nil
}

const retention = time.Minute

// complete gives the artifact the facts about its file.
func complete(artifact *meta.Artifact, digester godigest.Digester, size int64) {
	artifact.Digest = digester.Digest().String()
	artifact.Size = &size
	artifact.LastUpdateTime = metav1.Now()
}

func newDigester() godigest.Digester { return digest.Canonical.Digester() }
