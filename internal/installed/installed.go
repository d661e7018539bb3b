// Package installed says which version of a package the dbt at a path loads, from the files
// that its installer left there. It runs nothing, and knows nothing unless it is sure.
package installed

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A Package is one that is installed.
type Package struct {
	Version string // its release: numbers and dots
	Dir     string // the folder of the environment's packages
}

const (
	maxHead    = 1024   // of a script: its first lines, with a path
	maxEntries = 20_000 // of a folder of packages; the largest environments have two thousand
)

// movers are variables by which Python loads packages from elsewhere.
// (docs.python.org, Command line and environment)
var movers = []string{"PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__"}

// Find returns the package of this name that the dbt at a path loads. ok is
// false unless that is certain: dbt is the script that pip, pipx, uv or conda
// write, into an environment whose packages come first for its interpreter. It
// never is on Windows, whose programs are no scripts.
//
// Whoever can write files where PATH leads may have a wrong version reported,
// or none, and nothing else.
func Find(getenv func(string) string, dbt, name string) (p Package, ok bool) {
	if slices.ContainsFunc(movers, func(name string) bool { return getenv(name) != "" }) {
		return p, false
	}
	dir := packagesOf(getenv("HOME"), dbt)
	if dir == "" {
		return p, false
	}
	return in(dir, name)
}

// packagesOf returns the folder whose packages come first for dbt, "" where that
// is not certain.
func packagesOf(home, dbt string) string {
	// pipx, uv and people link programs of environments into a folder of PATH.
	dbt, err := filepath.EvalSymlinks(dbt)
	if err != nil {
		return ""
	}
	python := interpreter(dbt)
	bin, err := filepath.EvalSymlinks(filepath.Dir(python))
	if err != nil || python == "" || bin != filepath.Dir(dbt) {
		return "" // another environment's script, or a copy of it
	}
	if python, err = filepath.EvalSymlinks(python); err != nil {
		return ""
	}
	version, isVersion := strings.CutPrefix(filepath.Base(python), "python3.")
	if _, err := strconv.ParseUint(version, 10, 16); err != nil || !isVersion {
		return "" // another Python, or a build whose folders have other names
	}
	root := filepath.Dir(bin)
	if !exists(filepath.Join(root, "pyvenv.cfg")) && (bin != filepath.Dir(python) || shared(root, home, version)) {
		return ""
	}
	return filepath.Join(root, "lib", "python3."+version, "site-packages")
}

// shared reports whether a Python outside of virtual environments may load
// packages from elsewhere before its own: from folders of its distributor, or
// from the user's. (PEP 370)
func shared(root, home, version string) bool {
	if root == "/usr" || home == "" {
		return true
	}
	for _, dir := range []string{"/.local/lib/python3." + version, "/Library/Python/3." + version} {
		if _, err := os.Lstat(home + dir); err == nil {
			return true
		}
	}
	return false
}

// script is what installers write for dbt-core, up to where it is loaded. The
// interpreter is in the second line if its path is too long for the first, or
// has spaces. (distlib, scripts.py) What does more, such as a wrapper or a
// zipapp, may have packages of its own.
var script = lazy.MustCompile(`^#!(?:(/\S+)|/bin/sh\n'''exec' ["']?(/[^"'\n]+?)["']? "\$0" "\$@"\n' ''')\n` +
	`(?:# -\*- coding: utf-8 -\*-\n)?(?:import re\n)?import sys\n\n?from dbt\.cli\.main import cli\n`)

// interpreter returns the one that dbt's script is for, "" if it is none.
func interpreter(dbt string) string {
	f, err := disk.Open(dbt, os.O_RDONLY, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, maxHead))
	if err != nil {
		return ""
	}
	m := script.FindStringSubmatch(string(head))
	if m == nil {
		return ""
	}
	return m[1] + m[2]
}

// release is a version that is nothing but numbers: what other versions come
// before or after (PEP 440) is not decided here.
var release = lazy.MustCompile(`^[0-9]{1,9}(?:\.[0-9]{1,9}){0,4}$`)

// in looks for a package in a folder.
func in(dir, name string) (p Package, ok bool) {
	f, err := os.Open(dir)
	if err != nil {
		return p, false
	}
	defer f.Close()
	entries, err := f.Readdirnames(maxEntries)
	if err != nil || len(entries) == maxEntries {
		return p, false
	}
	for _, entry := range entries {
		if entry == "easy-install.pth" {
			return Package{}, false // has sources of one's own come first
		}
		rest, isPackage := strings.CutPrefix(entry, strings.ReplaceAll(name, "-", "_")+"-")
		if !isPackage {
			continue
		}
		version, isWheel := strings.CutSuffix(rest, ".dist-info")
		if !isWheel || p.Version != "" {
			return Package{}, false // of two installers, or what an interrupted upgrade left
		}
		p = Package{version, dir}
		// With a URL (PEP 610) it is a fork, or sources that change after they are installed.
		ok = release.MatchString(version) && exists(filepath.Join(dir, entry, "METADATA")) &&
			!exists(filepath.Join(dir, entry, "direct_url.json"))
	}
	return p, ok
}

// Older reports whether release a comes before release b.
func Older(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		if m, n := part(x, i), part(y, i); m != n {
			return m < n
		}
	}
	return false
}

// part returns a number of a release, of which the missing ones are 0.
func part(release []string, i int) int {
	if i >= len(release) {
		return 0
	}
	n, err := strconv.Atoi(release[i])
	if err != nil {
		return 0
	}
	return n
}

func exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
