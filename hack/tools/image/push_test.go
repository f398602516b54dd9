package main

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// buildSelf makes an image of this test's own binary, which is a Go program like any other.
func buildSelf(t *testing.T, flags ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	args := []string{
		"build", "--out", out, "--name", "registry.example.com/team/thing", "--version", "v1.2.3", "--created", "1700000000",
		"--binary", "linux/amd64=" + self, "--binary", "linux/arm64=" + self,
	}
	if err := run(t.Context(), append(args, flags...)); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPush(t *testing.T) {
	for _, referrers := range []bool{true, false} {
		t.Run(fmt.Sprintf("referrers API %v", referrers), func(t *testing.T) {
			server := httptest.NewServer(registry.New(registry.WithReferrersSupport(referrers)))
			defer server.Close()
			to := strings.TrimPrefix(server.URL, "http://") + "/team/thing"
			out := buildSelf(t)
			push := []string{"push", "--layout", filepath.Join(out, "oci"), "--to", to, "--tag", "v1.2", "--insecure"}
			if err := run(t.Context(), push); err != nil {
				t.Fatal(err)
			}

			digest, err := os.ReadFile(filepath.Join(out, "digest"))
			if err != nil {
				t.Fatal(err)
			}
			for _, tag := range []string{"v1.2.3", "v1.2"} {
				checkPushed(t, to+":"+tag, strings.TrimSpace(string(digest)))
			}
		})
	}
}

// checkPushed pulls the image of every platform and its SBOM.
func checkPushed(t *testing.T, reference, digest string) {
	t.Helper()
	tag, err := name.ParseReference(reference, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := index.Digest(); err != nil || got.String() != digest {
		t.Errorf("%s is %s (%v), want %s, as it was built", reference, got, err, digest)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 2 {
		t.Errorf("%s has %d platforms, want 2", reference, len(manifest.Manifests))
	}
	for _, image := range manifest.Manifests {
		checkPulled(t, tag, image)
	}
}

func checkPulled(t *testing.T, tag name.Reference, descriptor v1.Descriptor) {
	t.Helper()
	digest := tag.Context().Digest(descriptor.Digest.String())
	image, err := remote.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatalf("%s has the layers %v, %v", digest, layers, err)
	}
	for _, layer := range layers {
		content, err := layer.Compressed()
		if err != nil {
			t.Fatalf("pulling a layer of %s: %v", digest, err)
		}
		_ = content.Close()
	}
	referrers, err := remote.Referrers(digest)
	if err != nil {
		t.Fatal(err)
	}
	found, err := referrers.IndexManifest()
	if err != nil || len(found.Manifests) != 1 {
		t.Fatalf("%s is referred to by %+v (%v), want its SBOM", digest, found, err)
	}
	sbom, err := remote.Image(tag.Context().Digest(found.Manifests[0].Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := sbom.Manifest()
	if err != nil || manifest.ArtifactType != sbomMediaType || manifest.Subject.Digest != descriptor.Digest {
		t.Errorf("%s is referred to by %+v (%v), want its SBOM", digest, manifest, err)
	}
}

func TestRefusals(t *testing.T) {
	empty := t.TempDir()
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "usage: image build|push|sbom"},
		{[]string{"burn"}, `"burn" is no command`},
		{[]string{"build", "more"}, `"more" is no flag: image build --help lists them`},
		{[]string{"build"}, "--out is empty"},
		{[]string{"build", "--out", "o", "--name", "n", "--version", "v1"}, "--binary is missing"},
		{[]string{"build", "--binary", "linux=x"}, `"linux=x" is not of the form OS/ARCH=FILE`},
		{[]string{"build", "--binary", "linux/amd64="}, "is not of the form OS/ARCH=FILE"},
		{[]string{"build", "--out", "o", "--name", "n", "--version", "v1+x", "--binary", "linux/amd64=x"}, "is no image reference"},
		{[]string{"build", "--out", "o", "--name", "UPPER", "--version", "v1", "--binary", "linux/amd64=x"}, "is no image reference"},
		{
			[]string{"build", "--out", "o", "--name", "example.com/n", "--version", "v1", "--binary", "linux/amd64=x", "--binary", "linux/arm64=y"},
			"x and y have different file names",
		},
		{[]string{"push"}, "--layout is empty"},
		{[]string{"push", "--layout", empty}, "--layout " + empty},
		{[]string{"sbom", "--version", "v1"}, "give --version and --binary once"},
		{[]string{"sbom", "--version", "v1", "--binary", "linux/amd64=push.go"}, "reading the modules of push.go, which has to be a Go binary"},
	} {
		if err := run(t.Context(), test.args); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("image %s: %v, want %q", strings.Join(test.args, " "), err, test.want)
		}
	}
}

// TestFailedBuildKeepsWhatIsThere has no half an image take the place of a whole one.
func TestFailedBuildKeepsWhatIsThere(t *testing.T) {
	out := buildSelf(t)
	args := []string{"build", "--out", out, "--name", "example.com/n", "--version", "v2", "--binary", "linux/amd64=missing"}
	if err := run(t.Context(), args); err == nil {
		t.Fatal("an image was made of a file that is not there")
	}
	if _, err := readLayout(filepath.Join(out, "oci")); err != nil {
		t.Errorf("the layout that was there: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(out), ".image-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
