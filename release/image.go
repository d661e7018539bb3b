package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"go.yaml.in/yaml/v4"

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

var imageLine = regexp.MustCompile(`(?m)^  image: .*$`)

// imageReference is how containerAction names the built image.
func (r release) imageReference() (string, error) {
	digest, err := image.Digest(r.imageDir(), r.version)
	return "docker://" + image.Repository + "@" + digest, err
}

// checkImage fails unless the container action runs the built image, or the one that the runner builds of the Dockerfile.
func (r release) checkImage() error {
	text, err := os.ReadFile(filepath.Join(r.source, containerAction))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var action struct { // as the runner reads it: a line that looks right may be part of a text
		Runs struct {
			Image string `yaml:"image"`
		} `yaml:"runs"`
	}
	if err := yaml.Unmarshal(text, &action); err != nil {
		return fmt.Errorf("%s: %w", containerAction, err)
	}
	want, err := r.imageReference()
	if err != nil {
		return err
	}
	if got := action.Runs.Image; got != want && got != "../Dockerfile" {
		return fmt.Errorf("%s has the image %q, want %q: prepare the release again (--prepare %s)", containerAction, got, want, r.version)
	}
	return nil
}
