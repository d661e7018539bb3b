package main

import (
	"context"
	"path/filepath"

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
