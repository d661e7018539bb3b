package lint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A packagesFile is a packages.yml or dependencies.yml of a dbt project.
type packagesFile struct {
	*file
	lock *file // the package-lock.yml, nil where there is none
}

const lockName = "package-lock.yml"

// addPackages takes in a file of packages, with its lock. A lock leads to the
// files that it is of.
func (in *files) addPackages(f *file) error {
	dir := path.Dir(f.name)
	if path.Base(f.name) == lockName {
		in.all = in.all[:len(in.all)-1]
		var errs []error
		for _, name := range []string{"packages.yml", "dependencies.yml"} {
			if err := in.add(path.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	if _, err := os.Stat(in.path(path.Join(dir, "dbt_project.yml"))); err != nil {
		in.all = in.all[:len(in.all)-1]
		return nil // other tools have files of this name
	}
	name := path.Join(dir, lockName)
	p := &packagesFile{file: f}
	text, err := disk.Read(in.path(name), maxFile)
	if err == nil {
		p.lock, err = newFile(name, text)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %q: %w", name, disk.Cause(err))
	}
	in.packages = append(in.packages, p)
	return nil
}

var unpinnedDBTPackage = check{
	name:     "unpinned-dbt-package",
	severity: Warning,
	meaning: "A dbt package is not pinned: a run may install another version, whose macros run with the " +
		"credential without a review.",
	find: func(in *files, found report) {
		for _, f := range in.packages {
			f.unpinned(found)
		}
	},
}

const fixLock = "run `dbt deps --lock`, and commit package-lock.yml"

func (f *packagesFile) unpinned(found report) {
	list := get(f.root, "packages")
	remote, loose := 0, 0
	for _, n := range items(list) {
		p := packageOf(n)
		if p.name == "" {
			continue
		}
		remote++
		switch locked, ok := f.locked(p); {
		case f.lock == nil && !p.fixed:
			loose++
			found(f.at(n), fixLock,
				"%s has no fixed %s, and there is no package-lock.yml: each run installs the latest match", p.name, p.what)
		case f.lock == nil:
		case !ok:
			found(f.at(n), fixLock, "package-lock.yml is out of date: it does not contain %s", p.name)
		case p.fixed && locked.fixed && p.version != locked.version:
			found(f.at(n), fixLock, "package-lock.yml is out of date: it has another %s for %s", p.what, p.name)
		case !p.fixed && !locked.fixed:
			found(f.at(n), fixLock, "neither this file nor package-lock.yml has a fixed %s for %s", p.what, p.name)
		}
	}
	if f.lock == nil && remote > 0 && loose == 0 {
		key, _ := pair(f.root, "packages")
		found(f.at(key), fixLock, "there is no package-lock.yml: the dependencies of these packages are not pinned")
	}
}

// A dbtPackage is an entry of packages.yml.
type dbtPackage struct {
	name    string // "" for what is in the repository, or has no versions
	what    string // "version" or "revision"
	version string
	fixed   bool
}

var (
	versionText  = lazy.MustCompile(`^=?=?v?[0-9]+\.[0-9]+\.[0-9]+(?:[-+.][0-9A-Za-z.+-]+)?$`)
	revisionText = lazy.MustCompile(`^[0-9a-f]{40}$`)
)

func packageOf(n *yaml.Node) dbtPackage {
	if name := text(get(n, "package")); name != "" {
		p := dbtPackage{name: strings.ToLower(name), what: "version"}
		if list := items(get(n, "version")); len(list) == 1 {
			p.version = strings.TrimLeft(text(list[0]), "=v")
			p.fixed = versionText.MatchString(text(list[0]))
		}
		return p
	}
	for _, key := range []string{"git", "private"} {
		if name := text(get(n, key)); name != "" {
			name, revision := withoutLogin(strings.TrimSuffix(name, ".git")), text(get(n, "revision"))
			return dbtPackage{name, "revision", revision, revisionText.MatchString(revision)}
		}
	}
	return dbtPackage{}
}

var urlLogin = lazy.MustCompile(`//[^/@]*@`)

// withoutLogin returns an address without the token that it may have.
func withoutLogin(address string) string { return urlLogin.ReplaceAllLiteralString(address, "//") }

// locked returns what the lock has of a package.
func (f *packagesFile) locked(p dbtPackage) (found dbtPackage, ok bool) {
	if f.lock == nil {
		return found, false
	}
	for _, n := range items(get(f.lock.root, "packages")) {
		if found = packageOf(n); found.name == p.name && found.what == p.what {
			return found, true
		}
	}
	return dbtPackage{}, false
}
