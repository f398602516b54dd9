// Package config holds the options of the storage and of the server, and their flags.
package config

import (
	"os"

	"github.com/spf13/pflag"
)

// Options say where artifacts are kept and served.
type Options struct {
	// StoragePath is the directory, StorageAddress where it is served, and StorageAdvAddress the host that URLs name.
	StoragePath, StorageAddress, StorageAdvAddress string
	// ArtifactDigestAlgo is how digests are made.
	ArtifactDigestAlgo string
}

// BindFlags makes the flags, whose defaults may come from the environment.
func (o *Options) BindFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.StoragePath, "storage-path", os.Getenv("STORAGE_PATH"), "The directory that artifacts are kept in.")
	flags.StringVar(&o.StorageAddress, "storage-addr", os.Getenv("STORAGE_ADDR"), "The address that artifacts are served on.")
	flags.StringVar(&o.StorageAdvAddress, "storage-adv-addr", os.Getenv("STORAGE_ADV_ADDR"), "The host and port in the URLs of artifacts.")
	flags.StringVar(&o.ArtifactDigestAlgo, "artifact-digest-algo", "sha256", "The algorithm of the artifacts' digests.")
}
