package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/release/wheel"
)

const unreleased = "## Unreleased\n"

// section finds the heading of a version in a changelog, such as "## v1.2.3 (2026-11-28)".
var section = regexp.MustCompile(`(?m)^## (v\S+) \((\d{4}-\d\d-\d\d)\)\n`)

// checkVersion wants a version such as v1.2.3 or v1.2.3-rc.1.
func checkVersion(version string) error {
	_, err := wheel.Version(version) // which allows less than Go does
	return err
}

// find returns a version's section of a changelog without its heading, and its date.
func find(changelog, version string) (text, date string, err error) {
	for _, at := range section.FindAllStringSubmatchIndex(changelog, -1) {
		if changelog[at[2]:at[3]] != version {
			continue
		}
		text, _, _ = strings.Cut(changelog[at[1]:], "\n## ")
		return strings.TrimSpace(text) + "\n", changelog[at[4]:at[5]], nil
	}
	return "", "", fmt.Errorf("CHANGELOG.md has no section %s: prepare the release first (--prepare %[1]s)", version)
}

// notes returns a version's section of a changelog.
func notes(file, version string) (string, error) {
	changelog, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	text, _, err := find(string(changelog), version)
	return text, err
}

// prepare writes what the pull request changes that prepares a release: CHANGELOG.md gets the version's section, and
// the container action the digest of the image, which is known before there is a commit.
func (r release) prepare(ctx context.Context, now time.Time) error {
	if err := checkVersion(r.version); err != nil {
		return err
	}
	file := filepath.Join(r.source, "CHANGELOG.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	changelog := string(text)
	if _, _, err := find(changelog, r.version); err != nil { // else it is prepared once more
		before, after, ok := strings.Cut(changelog, unreleased)
		if !ok || strings.HasPrefix(strings.TrimSpace(after), "## ") || strings.TrimSpace(after) == "" {
			return fmt.Errorf("CHANGELOG.md has nothing under %q", strings.TrimSpace(unreleased))
		}
		changelog = fmt.Sprintf("%s%s\n## %s (%s)\n%s", before, unreleased, r.version, now.UTC().Format(time.DateOnly), after)
	}
	if err := r.prepareImage(ctx); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(changelog), 0o644)
}

// prepareImage writes the digest of the image into the container action.
func (r release) prepareImage(ctx context.Context) error {
	file := filepath.Join(r.source, filepath.FromSlash(containerAction))
	action, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !imageLine.Match(action) {
		return fmt.Errorf("%s has no line for the image", containerAction)
	}
	if r.out, err = os.MkdirTemp("", "oidc-dbt-release-*"); err != nil {
		return err
	}
	defer os.RemoveAll(r.out)
	for _, step := range []func(context.Context) error{r.binaries, r.image} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	reference, err := r.imageReference()
	if err != nil {
		return err
	}
	return os.WriteFile(file, imageLine.ReplaceAllLiteral(action, []byte("  image: "+reference)), 0o644)
}
