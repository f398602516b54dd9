// Package digest says how digests of artifacts are made.
package digest

import (
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Canonical is the algorithm of new digests. It is set once, before the controllers start.
var Canonical = digest.SHA256

// AlgorithmForName is the algorithm that has the name.
func AlgorithmForName(name string) (digest.Algorithm, error) {
	algorithm := digest.Algorithm(name)
	if !algorithm.Available() {
		return "", fmt.Errorf("digest algorithm %q is not available: use sha256, sha384 or sha512", name)
	}
	return algorithm, nil
}
