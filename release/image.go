package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/oidc-dbt/oidc-dbt/release/image"
)

// image builds the container image and, if there is a source of Debian's packages, the one with a shell.
func (r release) image(ctx context.Context) error {
	contents := image.Contents{
		Version: r.version,
		Binary:  func(goarch string) string { return r.asset(platform{goos: "linux", goarch: goarch}.asset()) },
		License: filepath.Join(r.source, "LICENSE"),
	}
	if r.debian != nil {
		contents.Shell = func(goarch string) ([]byte, error) { return r.debian.Busybox(ctx, goarch) }
	}
	return image.Write(r.imageDir(), contents)
}

// imageDir is the OCI layout of the images.
func (r release) imageDir() string { return filepath.Join(r.out, "image") }

// containerAction is the container action, which names the image of a release by its digest.
const containerAction = "container/action.yml"

var (
	imageLine   = regexp.MustCompile(`(?m)^  image: .*$`)
	imageDigest = regexp.MustCompile(`(?m)^  image: docker://` + regexp.QuoteMeta(image.Repository) + `@(sha256:[0-9a-f]{64})$`)
)

// imageReference is the line of containerAction for the built image.
func (r release) imageReference() (string, error) {
	digest, err := image.Digest(r.imageDir(), r.version)
	return "  image: docker://" + image.Repository + "@" + digest, err
}

// checkImage fails if the container action names another image than the built one. It may name none: then the runner
// builds the Dockerfile.
func (r release) checkImage() error {
	action, err := os.ReadFile(filepath.Join(r.source, containerAction))
	if os.IsNotExist(err) || err == nil && !imageDigest.Match(action) {
		return nil
	}
	if err != nil {
		return err
	}
	want, err := r.imageReference()
	if err != nil {
		return err
	}
	if got := string(imageDigest.Find(action)); got != want {
		return fmt.Errorf("%s has %s, want %s: prepare the release again (--prepare %s)", containerAction, got[2:], want[2:], r.version)
	}
	return nil
}
