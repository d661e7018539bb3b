package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWheels: every binary has a wheel. What is in it, package wheel tests.
func TestWheels(t *testing.T) {
	t.Parallel()
	r := release{source: "..", out: t.TempDir(), version: "v1.2.3"}
	if err := os.Mkdir(filepath.Join(r.out, "assets"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range platforms {
		if err := os.WriteFile(r.asset(p.asset()), []byte("binary of "+p.asset()), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.wheels(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tags := range []string{
		"manylinux2014_x86_64.manylinux_2_17_x86_64.musllinux_1_1_x86_64",
		"manylinux2014_aarch64.manylinux_2_17_aarch64.musllinux_1_1_aarch64",
		"macosx_12_0_x86_64", "macosx_12_0_arm64", "win_amd64", "win_arm64",
	} {
		if _, err := os.Stat(filepath.Join(r.out, "wheels", "oidc_dbt-1.2.3-py3-none-"+tags+".whl")); err != nil {
			t.Error(err)
		}
	}
	if wheels, err := os.ReadDir(filepath.Join(r.out, "wheels")); err != nil || len(wheels) != len(platforms) {
		t.Errorf("got %v, %v", wheels, err)
	}
}
