package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/oidc-dbt/oidc-dbt/release/wheel"
)

// wheels packs the binaries for PyPI.
func (r release) wheels(context.Context) error {
	license, err := os.ReadFile(filepath.Join(r.source, "LICENSE"))
	if err != nil {
		return err
	}
	description, err := os.ReadFile(filepath.Join(r.source, "release", "pypi.md"))
	if err != nil {
		return err
	}
	dir := filepath.Join(r.out, "wheels")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, p := range platforms {
		binary, err := os.ReadFile(r.asset(p.asset()))
		if err != nil {
			return err
		}
		w := wheel.Wheel{
			Version: r.version, GOOS: p.goos, GOARCH: p.goarch,
			Binary: binary, License: license, Description: description,
		}
		if _, err := w.Pack(dir); err != nil {
			return err
		}
	}
	return nil
}
