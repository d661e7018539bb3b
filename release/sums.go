package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const sumsFile = "SHA256SUMS"

// sums writes the file for dist/ and the assets: the files of dist/ as they are there, and every binary.
func (r release) sums(context.Context) error {
	files := map[string][]byte{}
	for _, p := range platforms {
		for name, path := range map[string]string{p.asset(): r.asset(p.asset()), p.packed(): r.dist(p.packed())} {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files[name] = text
		}
	}
	text := []byte(formatSums(files))
	for _, path := range []string{r.dist(sumsFile), r.asset(sumsFile)} {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// formatSums is in the format of sha256sum, sorted by name.
func formatSums(files map[string][]byte) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(files[name]), name)
	}
	return b.String()
}

// checkSums compares SHA256SUMS of a dist folder with what it has and unpacks to, in both directions, and returns the
// binaries by the names of their assets.
func checkSums(dist string) (map[string][]byte, error) {
	text, err := os.ReadFile(filepath.Join(dist, sumsFile))
	if err != nil {
		return nil, err
	}
	lines := map[string]string{} // by name
	for line := range strings.Lines(string(text)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if _, twice := lines[name]; !ok || twice {
			return nil, fmt.Errorf("dist/%s: %q is malformed, or there twice", sumsFile, strings.TrimSpace(line))
		}
		lines[name] = sum
	}
	compare := func(name string, content []byte) error {
		want, ok := lines[name]
		if !ok {
			return fmt.Errorf("dist/%s has no sum of %s", sumsFile, name)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(content)); got != want {
			return fmt.Errorf("%s: SHA-256 is %s, dist/%s says %s", name, got, sumsFile, want)
		}
		delete(lines, name)
		return nil
	}
	for _, p := range platforms {
		packed, err := os.ReadFile(filepath.Join(dist, p.packed()))
		if err != nil {
			return nil, err
		}
		if err := compare(p.packed(), packed); err != nil {
			return nil, err
		}
	}
	binaries, err := unpack(dist)
	if err != nil {
		return nil, err
	}
	for _, p := range platforms {
		if err := compare(p.asset(), binaries[p.asset()]); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		return nil, fmt.Errorf("dist/%s has a sum of %q, which is not in a release", sumsFile, name)
	}
	return binaries, nil
}
