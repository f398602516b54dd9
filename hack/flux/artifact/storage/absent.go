package storage

import (
	"errors"
	"io"

	"github.com/fluxcd/pkg/apis/meta"
)

// errAbsent is returned by what only Helm's, OCI's and S3's sources, and GitRepositories that include others, need.
var errAbsent = errors.New("this build of source-controller is for GitRepositories without includes: " +
	"its storage (hack/flux/artifact) lacks what other sources need")

// Copy would write what it reads as the artifact.
func (s *Storage) Copy(*meta.Artifact, io.Reader) error { return errAbsent }

// CopyFromPath would copy a file to the artifact.
func (s *Storage) CopyFromPath(*meta.Artifact, string) error { return errAbsent }

// CopyToPath would unpack a part of the artifact.
func (s *Storage) CopyToPath(_ *meta.Artifact, _, _ string) error { return errAbsent }

// Symlink would link a fixed name to the artifact.
func (s *Storage) Symlink(meta.Artifact, string) (string, error) { return "", errAbsent }
