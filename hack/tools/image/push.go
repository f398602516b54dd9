package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// runPush pushes a layout that build wrote: the index under its name and tag, and what refers to its images. Credentials are
// those of the Docker configuration, where docker login and its kind leave them.
func runPush(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("image push", flag.ContinueOnError)
	dir := fs.String("layout", "", "OCI layout to push.")
	to := fs.String("to", "", "Name to push to, without a tag; empty is the name that the layout was built with.")
	insecure := fs.Bool("insecure", false, "Speak plain HTTP to the registry.")
	var tags []string
	fs.Func("tag", "Another tag for the same image; may be given more than once.", func(tag string) error {
		tags = append(tags, tag)
		return nil
	})
	if err := parse(fs, args); err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("--layout is empty: give the directory that image build wrote, with oci at its end")
	}
	contents, err := readLayout(*dir)
	if err != nil {
		return fmt.Errorf("--layout %s: %w", *dir, err)
	}
	reference := contents.reference
	if *to != "" {
		reference = *to + reference[strings.LastIndex(reference, ":"):]
	}
	options := []name.Option{name.StrictValidation}
	if *insecure {
		options = append(options, name.Insecure)
	}
	tag, err := name.NewTag(reference, options...)
	if err != nil {
		return err
	}
	return contents.push(tag, tags, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
}

// contents is what a layout holds.
type contents struct {
	reference string
	index     v1.ImageIndex
	referrers []v1.Image
}

func readLayout(dir string) (*contents, error) {
	root, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := root.IndexManifest()
	if err != nil {
		return nil, err
	}
	var found contents
	for _, descriptor := range manifest.Manifests {
		if descriptor.MediaType.IsIndex() {
			found.reference = descriptor.Annotations[imageName]
			found.index, err = root.ImageIndex(descriptor.Digest)
		} else {
			var image v1.Image
			image, err = root.Image(descriptor.Digest)
			found.referrers = append(found.referrers, image)
		}
		if err != nil {
			return nil, err
		}
	}
	if found.reference == "" {
		return nil, fmt.Errorf("its index.json has no image with the annotation %s: build it with image build", imageName)
	}
	return &found, nil
}

// push sets the tags last, so that nobody finds a version whose parts are missing.
func (c *contents) push(tag name.Tag, more []string, options ...remote.Option) error {
	digest, err := c.index.Digest()
	if err != nil {
		return err
	}
	if err := remote.WriteIndex(tag.Context().Digest(digest.String()), c.index, options...); err != nil {
		return fmt.Errorf("pushing %s: %w", tag, err)
	}
	for _, referrer := range c.referrers {
		digest, err := referrer.Digest()
		if err != nil {
			return err
		}
		if err := remote.Write(tag.Context().Digest(digest.String()), referrer, options...); err != nil {
			return fmt.Errorf("pushing what refers to %s: %w", tag, err)
		}
	}
	for _, t := range append([]string{tag.TagStr()}, more...) {
		if err := remote.Tag(tag.Context().Tag(t), c.index, options...); err != nil {
			return fmt.Errorf("tagging %s as %s: %w", tag.Context(), t, err)
		}
	}
	fmt.Printf("%s@%s is pushed\n", tag, digest)
	return nil
}
