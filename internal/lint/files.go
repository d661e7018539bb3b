package lint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/profile"
)

// files are those that are looked at, by what they are.
type files struct {
	all       []*file
	policies  []*policyFile
	workflows []*file
	profiles  []*profilesFile
	projects  []*file
	packages  []*packagesFile
	envs      []*file
	owners    []string
	now       time.Time
	notices   []string

	env  Env
	read map[string]bool // names of files
}

// A policyFile is a policy, parsed, or what is wrong with it.
type policyFile struct {
	*file
	policy *policy.Policy
	err    error
}

// A profilesFile is a profiles.yml, and where it has secrets.
type profilesFile struct {
	*file
	secrets []fault.Place
}

// maxFile bounds what is read of a file; workflows and dbt's files are under
// 100 KiB, a policy of 10,000 rules is 1.2 MiB.
const maxFile = 4 << 20

// skipped are folders that hold other people's files, or generated ones.
var skipped = []string{
	".git", "node_modules", "dbt_packages", "dbt_modules", "target", "venv", ".venv", "site-packages",
}

// policyNames are where a repository has its policy.
var policyNames = []string{".github/oidc-dbt.yml", ".github/oidc-dbt.yaml"}

func read(ctx context.Context, env Env, paths []string) (*files, error) {
	in := &files{owners: env.Owners, now: env.Now, env: env, read: map[string]bool{}}
	var errs []error
	if len(paths) == 0 {
		errs = append(errs, in.folder(ctx, in.root()))
		if len(in.all) == 0 && errors.Join(errs...) == nil {
			errs = append(errs, errNothing)
		}
	}
	for _, name := range paths {
		info, err := os.Stat(in.path(name))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("read %q: %w", name, disk.Cause(err)))
		case info.IsDir():
			errs = append(errs, in.folder(ctx, name))
		default:
			errs = append(errs, in.add(in.relative(name)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return in, fault.New(fault.Usage, err, "")
	}
	return in, nil
}

// root returns the repository's folder from the working directory, which is it
// where there is no repository.
func (in *files) root() string {
	for dir, up := in.env.Dir, "."; ; dir, up = filepath.Dir(dir), path.Join("..", up) {
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
			return up
		}
		if dir == filepath.Dir(dir) {
			return "."
		}
	}
}

// path returns where a file is that findings call by name.
func (in *files) path(name string) string {
	name = filepath.FromSlash(name)
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(in.env.Dir, name)
}

// relative returns a file's name as findings have it.
func (in *files) relative(name string) string {
	if rel, err := filepath.Rel(in.env.Dir, in.path(name)); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return filepath.ToSlash(filepath.Clean(name))
}

// folder reads what a repository has below a folder.
func (in *files) folder(ctx context.Context, dir string) error {
	root := in.path(dir)
	names, tracked, err := gitFiles(ctx, root, in.env.Environ)
	if err != nil {
		in.notices = append(in.notices,
			fmt.Sprintf("git cannot list the files of %q (%v): all files were read, including those that git would ignore",
				dir, err))
		var unread []string
		if names, unread, err = walk(os.DirFS(root)); err != nil {
			return fmt.Errorf("read %q: %w", dir, disk.Cause(err))
		}
		if len(unread) > 0 {
			in.notices = append(in.notices, fmt.Sprintf("cannot read %q: what is in there was not looked at", unread))
		}
		tracked = names
	}
	var errs []error
	inside, looked := insideGitHub(root), 0
	for _, name := range names {
		what := kindOf(inside + name)
		if what != nothing {
			looked++
		}
		switch {
		case what == nothing, slices.ContainsFunc(strings.Split(path.Dir(name), "/"), isSkipped):
		case what == envFile && !slices.Contains(tracked, name):
		default:
			err := in.add(in.relative(path.Join(filepath.ToSlash(dir), name)))
			if !errors.Is(err, fs.ErrNotExist) { // removed, and still in git's index
				errs = append(errs, err)
			}
		}
	}
	if looked == 0 && dir != in.root() {
		return fmt.Errorf("read %q: %w", dir, errNothing)
	}
	return errors.Join(errs...)
}

// errNothing is that of a folder without any file that is looked at.
var errNothing = fmt.Errorf("nothing to lint: found no %s, no workflow and no dbt project", policyNames[0])

func isSkipped(folder string) bool { return slices.Contains(skipped, folder) }

// maxFiles bounds a folder that git does not list.
const maxFiles = 100_000

// walk returns the files below a folder, with /, and the folders in it that this
// user cannot read.
func walk(folder fs.FS) (names, unread []string, err error) {
	seen := 0
	err = fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		if seen++; seen > maxFiles {
			return fmt.Errorf("has more than %d files: name the ones to look at", maxFiles)
		}
		switch {
		case err != nil && name == ".":
			return err
		case err != nil:
			unread = append(unread, name)
		case d.IsDir() && isSkipped(d.Name()):
			return fs.SkipDir
		case !d.IsDir():
			names = append(names, name)
		}
		return nil
	})
	return names, unread, err
}

// insideGitHub returns where a folder is in a repository, for one that GitHub
// reads files of: ".github/" or ".github/workflows/", else "".
func insideGitHub(folder string) string {
	for _, inside := range []string{".github", ".github/workflows"} {
		if strings.HasSuffix(filepath.ToSlash(filepath.Clean(folder)), "/"+inside) {
			return inside + "/"
		}
	}
	return ""
}

// What a file is, by its name.
type what int

const (
	nothing what = iota
	policyYML
	workflowYML
	profilesYML
	projectYML
	packagesYML
	envFile
)

func kindOf(name string) what {
	base := path.Base(name)
	switch {
	case slices.Contains(policyNames, name):
		return policyYML
	case path.Dir(name) == ".github/workflows" && isYAML(base):
		return workflowYML
	case base == "profiles.yml":
		return profilesYML
	case base == "dbt_project.yml":
		return projectYML
	case base == "packages.yml", base == "dependencies.yml":
		return packagesYML
	case isEnvFile(base):
		return envFile
	}
	return nothing
}

func isYAML(name string) bool {
	return strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".yaml")
}

// kindOfGiven is kindOf for a file that was named on the command line, from
// wherever that was.
func kindOfGiven(name string, f *file) what {
	if what := kindOf(name); what != nothing {
		return what
	}
	switch {
	case path.Base(name) == "package-lock.yml":
		return packagesYML
	case strings.HasSuffix(path.Dir(name), ".github/workflows"),
		get(f.root, "jobs") != nil && get(f.root, "targets") == nil:
		return workflowYML
	}
	return policyYML
}

// add reads a file.
func (in *files) add(name string) error {
	if in.read[name] {
		return nil
	}
	in.read[name] = true
	text, err := disk.Read(in.path(name), maxFile)
	if err != nil {
		return fmt.Errorf("read %q: %w", name, disk.Cause(err))
	}
	if kindOf(name) == envFile {
		f := newEnvFile(name, text)
		in.all, in.envs = append(in.all, f), append(in.envs, f)
		return nil
	}
	f, err := newFile(name, text)
	what := kindOfGiven(name, f)
	if err != nil && what != policyYML { // a policy's faults are findings
		return fmt.Errorf("read %q: %w", name, err)
	}
	in.all = append(in.all, f)
	switch what {
	case workflowYML:
		in.workflows = append(in.workflows, f)
		return in.addPolicies(f)
	case profilesYML:
		source, err := profile.ReadFrom(name, text)
		if err != nil {
			return err
		}
		in.profiles = append(in.profiles, &profilesFile{f, source.StoredSecrets()})
	case projectYML:
		in.projects = append(in.projects, f)
	case packagesYML:
		return in.addPackages(f)
	default:
		if get(f.root, "cases") != nil && get(f.root, "targets") == nil {
			in.all = in.all[:len(in.all)-1]
			return fmt.Errorf("read %q: it has the tests of a policy, which `oidc-dbt test-policy` runs", name)
		}
		in.addPolicy(f)
	}
	return nil
}

func (in *files) addPolicy(f *file) {
	catalog := in.env.Catalog
	catalog.Now, catalog.Version = in.now, in.env.Version
	p, err := policy.Parse(f.name, f.text, catalog)
	in.policies = append(in.policies, &policyFile{f, p, err})
}

// actionText matches a step that uses the action.
var actionText = lazy.MustCompile(`^oidc-dbt/oidc-dbt(?:/container)?@`)

// addPolicies reads the policies that a workflow's steps name, or have in them.
func (in *files) addPolicies(f *file) error {
	var errs []error
	pairs(get(f.root, "jobs"), func(_, job *yaml.Node) {
		for _, step := range items(get(job, "steps")) {
			n := get(step, "with", "policy")
			switch value := text(n); {
			case !actionText.MatchString(text(get(step, "uses"))), value == "", strings.Contains(value, "${{"):
			case strings.Contains(value, "\n"):
				in.addInline(f, n)
			case filepath.IsLocal(filepath.FromSlash(value)):
				if err := in.add(in.relative(path.Join(in.root(), value))); !errors.Is(err, fs.ErrNotExist) { // another step may write it
					errs = append(errs, err)
				}
			}
		}
	})
	return errors.Join(errs...)
}

// addInline takes in a policy that is a block of a workflow. Its text keeps its
// lines and columns there.
func (in *files) addInline(f *file, n *yaml.Node) {
	if n.Style&yaml.LiteralStyle == 0 || n.Line >= len(f.lines) {
		return // its lines are not the workflow's
	}
	count := min(strings.Count(strings.TrimRight(n.Value, "\n"), "\n")+1, len(f.lines)-n.Line)
	lines := append(make([]string, n.Line), f.lines[n.Line:n.Line+count]...)
	inline, err := newFile(f.name, []byte(strings.Join(lines, "\n")))
	if err == nil && inline.root != nil {
		in.addPolicy(inline)
	}
}
