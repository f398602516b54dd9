package main

import (
	"fmt"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// newImage is the image of one platform: the base, and above it the program.
func newImage(opts *options, b binary, base v1.Layer) (v1.Image, error) {
	program, err := programLayer(b.path, opts.createdAt())
	if err != nil {
		return nil, err
	}
	entrypoint := "/" + filepath.Base(b.path)
	created := v1.Time{Time: opts.createdAt()}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS:           b.platform.OS,
		Architecture: b.platform.Architecture,
		Variant:      b.platform.Variant,
		Created:      created,
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:       fmt.Sprintf("%d:%d", nonroot, nonroot),
			Entrypoint: []string{entrypoint},
			WorkingDir: "/",
			Env: []string{
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
				"SSL_CERT_FILE=/" + certificatesPath,
			},
			Labels: opts.annotations(),
		},
	})
	if err != nil {
		return nil, err
	}
	image, err = mutate.Append(image,
		mutate.Addendum{Layer: base, History: v1.History{
			Created: created, CreatedBy: "image build", Comment: "certificate authorities, time zones and the user nonroot",
		}},
		mutate.Addendum{Layer: program, History: v1.History{Created: created, CreatedBy: "image build", Comment: entrypoint}},
	)
	if err != nil {
		return nil, err
	}
	return mutate.Annotations(image, opts.annotations()).(v1.Image), nil
}
