// Package image builds the container images of a release, with the same digests on every machine, and pushes them to a
// registry. It needs neither Docker nor a base image.
package image

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Repository is where a release's images are.
const Repository = "ghcr.io/oidc-dbt/oidc-dbt"

// Architectures are those that the images are for, all with Linux.
func Architectures() []string { return []string{"amd64", "arm64"} }

// Contents is what the images are made of.
type Contents struct {
	Version string                              // the tag, such as v1.2.3
	Binary  func(goarch string) string          // the file of a static binary for Linux
	License string                              // the file of the licence
	Shell   func(goarch string) ([]byte, error) // a package with BusyBox, for the second image; nil for none
}

// tagAnnotation is how an OCI layout names the images in it.
const tagAnnotation = "org.opencontainers.image.ref.name"

// Write writes an OCI layout with the image, and with one that has a shell (tag Version-busybox) if there is a package
// for it.
func Write(dir string, c Contents) error {
	path, err := layout.Write(dir, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	variants := []struct {
		suffix string
		layers func(goarch string) ([]v1.Layer, error)
	}{{"", c.base}}
	if c.Shell != nil {
		variants = append(variants, struct {
			suffix string
			layers func(goarch string) ([]v1.Layer, error)
		}{"-busybox", c.withShell})
	}
	for _, variant := range variants {
		index, err := c.index(variant.layers)
		if err != nil {
			return fmt.Errorf("image %s: %w", c.Version+variant.suffix, err)
		}
		tag := map[string]string{tagAnnotation: c.Version + variant.suffix}
		if err := path.AppendIndex(index, layout.WithAnnotations(tag)); err != nil {
			return fmt.Errorf("write image %s: %w", c.Version+variant.suffix, err)
		}
	}
	return nil
}

// index is an image for each architecture.
func (c Contents) index(layers func(goarch string) ([]v1.Layer, error)) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, goarch := range Architectures() {
		list, err := layers(goarch)
		if err != nil {
			return nil, fmt.Errorf("linux/%s: %w", goarch, err)
		}
		img, err := c.image(goarch, list)
		if err != nil {
			return nil, fmt.Errorf("linux/%s: %w", goarch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: goarch}}})
	}
	return index, nil
}

// image is one with these layers. Nothing in it tells when or from which commit it was made: an action that names the
// image by its digest is part of that commit.
func (c Contents) image(goarch string, layers []v1.Layer) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, layers...)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", goarch
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	config.Config = v1.Config{
		Entrypoint: []string{"/oidc-dbt"},
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		User:       "0:0", // as in the Dockerfile, which has the reason
		Labels: map[string]string{
			"org.opencontainers.image.title":    "oidc-dbt",
			"org.opencontainers.image.source":   "https://github.com/oidc-dbt/oidc-dbt",
			"org.opencontainers.image.version":  c.Version,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	return mutate.ConfigFile(img, config)
}

// base is the layer that the images have in common.
func (c Contents) base(goarch string) ([]v1.Layer, error) {
	binary, err := os.ReadFile(c.Binary(goarch))
	if err != nil {
		return nil, err
	}
	license, err := os.ReadFile(c.License)
	if err != nil {
		return nil, err
	}
	l, err := newLayer([]file{
		{name: "LICENSE", mode: 0o644, data: license},
		{name: "etc/", mode: 0o755},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: roots()},
		{name: "oidc-dbt", mode: 0o755, data: binary},
		{name: "oidc-dbt-post", link: "oidc-dbt"}, // the container action's post step
		{name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755},
		{name: "usr/local/", mode: 0o755},
		{name: "usr/local/bin/", mode: 0o755},
		{name: "usr/local/bin/oidc-dbt", link: "/oidc-dbt"}, // for scripts, by PATH
	})
	return []v1.Layer{l}, err
}

func (c Contents) withShell(goarch string) ([]v1.Layer, error) {
	layers, err := c.base(goarch)
	if err != nil {
		return nil, err
	}
	deb, err := c.Shell(goarch)
	if err != nil {
		return nil, err
	}
	files, err := shellFiles(deb)
	if err != nil {
		return nil, err
	}
	l, err := newLayer(files)
	return append(layers, l), err
}

// roots are Mozilla's root certificates, from a pinned module. Those with a constraint, which this format cannot
// express, are left out: Mozilla has stopped to trust what they sign now.
func roots() (text []byte) {
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})...)
		}
	}
	return text
}

// tagged are the images of a layout, by their tags.
func tagged(dir string) (layout.Path, map[string]v1.Descriptor, error) {
	path, err := layout.FromPath(dir)
	if err != nil {
		return "", nil, err
	}
	index, err := path.ImageIndex()
	if err != nil {
		return "", nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return "", nil, err
	}
	images := map[string]v1.Descriptor{}
	for _, m := range manifest.Manifests {
		if tag := m.Annotations[tagAnnotation]; tag != "" {
			images[tag] = m
		}
	}
	return path, images, nil
}

// Digest returns the digest of the image with a tag, sha256:….
func Digest(dir, tag string) (string, error) {
	_, images, err := tagged(dir)
	if err != nil {
		return "", err
	}
	if m, ok := images[tag]; ok {
		return m.Digest.String(), nil
	}
	return "", fmt.Errorf("%s has no image %s", dir, tag)
}

// errNone is for a folder in which nothing was built.
var errNone = errors.New("no images in it: build a release first, with --out")

// Push pushes the images of a layout to a repository, with their tags, and says the digest of each.
func Push(ctx context.Context, dir, repository string, say func(text string)) error {
	path, images, err := tagged(dir)
	if err == nil && len(images) == 0 {
		err = errNone
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", dir, err)
	}
	index, err := path.ImageIndex()
	if err != nil {
		return err
	}
	to, err := newTarget(ctx, repository)
	if err != nil {
		return err
	}
	tags := make([]string, 0, len(images))
	for tag := range images {
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	for _, tag := range tags {
		img, err := index.ImageIndex(images[tag].Digest)
		if err != nil {
			return fmt.Errorf("read image %s: %w", tag, err)
		}
		if err := to.push(tag, img, images[tag].Digest); err != nil {
			return err
		}
		say(fmt.Sprintf("%s:%s@%s", repository, tag, images[tag].Digest))
	}
	return nil
}
