package proposal

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/profile"
)

// A project is a folder with a dbt_project.yml.
type project struct {
	dir     string // from the root
	profile string // its name, "" if the project does not say it, or by Jinja
	guessed bool   // the name is that of the only profile
	source  *profile.Source
	path    string // of the profiles.yml, as it is shown
	from    string // the same from dir, "" where a policy cannot read it there
	dbtType string // where there is no profiles.yml: what the project's packages suggest
	typedBy string // where that is from
}

// projects finds the dbt projects; only is the user's choice, "" for all.
func (r *repository) projects(only string) (list []*project, err error) {
	var dirs []string
	if only != "" {
		rel, err := filepath.Rel(r.root, absolute(r.root, only))
		if err != nil || rel == ".." || strings.HasPrefix(filepath.ToSlash(rel), "../") {
			return nil, usage("", "flag --project-dir: %q is outside the repository", only)
		}
		dirs = []string{filepath.ToSlash(rel)}
	} else if dirs, err = r.find("dbt_project.yml"); err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		p := &project{dir: dir}
		if _, err := r.read(path.Join(dir, "dbt_project.yml")); errors.Is(err, fs.ErrNotExist) {
			return nil, usage("", "read dbt_project.yml in %q: there is no such file", only)
		} else if err != nil {
			return nil, err
		}
		names, err := profile.Names(r.root, []string{dir}, nil)
		if err != nil {
			if _, named := profile.Names(r.root, []string{dir}, []string{"given"}); named != nil {
				return nil, err
			}
		} else {
			p.profile = names[0]
		}
		list = append(list, p)
	}
	if len(list) == 0 {
		return nil, usage("run it in the repository of a dbt project, or name the project's folder with --project-dir",
			"there is no dbt_project.yml in the repository")
	}
	return list, nil
}

func absolute(root, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(root, filepath.FromSlash(name))
}

// readProfiles finds the profiles.yml of each project in dbt's order: where a
// workflow points to, the project, the repository's root, the user's home.
func (r *repository) readProfiles(projects []*project, workflows []*workflow) error {
	for _, p := range projects {
		for _, file := range append(pointedTo(p, projects, workflows), path.Join(p.dir, "profiles.yml"), "profiles.yml") {
			text, err := r.read(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if p.source, err = profile.ReadFrom(file, text); err != nil {
				return err
			}
			p.path = file
			if rel, err := filepath.Rel(filepath.FromSlash(p.dir), filepath.FromSlash(file)); err == nil {
				p.from = filepath.ToSlash(rel)
			}
			break
		}
		if p.source == nil {
			if err := r.homeProfile(p); err != nil {
				return err
			}
		}
		if p.source == nil {
			p.dbtType, p.typedBy = r.suggestedType(p, workflows)
			continue
		}
		if all := p.source.Profiles(); p.profile == "" && len(all) == 1 {
			p.profile, p.guessed = all[0], true
		}
		if p.profile == "" {
			return usage(
				"",
				"%s: the project names no profile, and %s has %q",
				path.Join(p.dir, "dbt_project.yml"),
				p.path,
				p.source.Profiles(),
			)
		}
	}
	return nil
}

// pointedTo returns the files that --profiles-dir and DBT_PROFILES_DIR of the
// workflows name for a project.
func pointedTo(p *project, projects []*project, workflows []*workflow) (files []string) {
	for _, w := range workflows {
		for _, j := range w.jobs {
			for _, c := range j.runs {
				dir := under(c.dir, strings.TrimPrefix(c.profilesDir, "./"))
				if c.profilesDir == "" || dir == "" || !known(c.profilesDir) || projectOf(projects, c.call) != p {
					continue
				}
				if file := path.Join(dir, "profiles.yml"); !slices.Contains(files, file) {
					files = append(files, file)
				}
			}
		}
	}
	return files
}

// projectOf returns the project that a call of dbt is for: dbt looks upwards.
func projectOf(projects []*project, c call) *project {
	dir := c.dir
	if c.projectDir != "" {
		dir = under(dir, strings.TrimPrefix(c.projectDir, "./"))
	}
	for at := dir; at != ""; at = path.Dir(at) {
		for _, p := range projects {
			if p.dir == at {
				return p
			}
		}
		if at == "." || at == "/" {
			break
		}
	}
	return projects[0]
}

func (r *repository) homeProfile(p *project) error {
	const shown = "~/.dbt/profiles.yml"
	if r.home == "" {
		return nil
	}
	file := filepath.Join(r.home, ".dbt", "profiles.yml")
	if _, err := os.Lstat(file); err != nil {
		return nil
	}
	text, err := disk.Read(file, maxFile)
	if err != nil {
		return usage("", "read %s: %w", shown, disk.Cause(err))
	}
	source, err := profile.ReadFrom(shown, text)
	if err != nil {
		return err
	}
	if outputs, _ := source.Targets(p.profile); p.profile != "" && len(outputs) == 0 {
		return nil // the file of another project's
	}
	p.source, p.path = source, shown
	return nil
}

// adapterPackage matches the package of an adapter, in requirements or in a command.
var adapterPackage = lazy.MustCompile(`\bdbt-(snowflake|bigquery|redshift|postgres|` +
	`databricks|athena(?:-community)?|duckdb|trino|clickhouse|fabric|sqlserver|spark)\b`)

// requirements are files that name a project's packages.
var requirements = []string{"requirements.txt", "requirements.in", "pyproject.toml", "Pipfile", "setup.py",
	"environment.yml", "Dockerfile"}

// suggestedType looks for the package of an adapter where there is no profile.
func (r *repository) suggestedType(p *project, workflows []*workflow) (dbtType, place string) {
	type source struct{ place, text string }
	var sources []source
	for _, dir := range []string{p.dir, "."} {
		for _, name := range requirements {
			if text, err := r.read(path.Join(dir, name)); err == nil {
				sources = append(sources, source{path.Join(dir, name), string(text)})
			}
		}
	}
	for _, w := range workflows {
		sources = append(sources, source{w.path, w.text})
	}
	for _, s := range sources {
		if m := adapterPackage.FindStringSubmatch(s.text); m != nil {
			return strings.TrimSuffix(m[1], "-community"), s.place
		}
	}
	return "", ""
}
