package proposal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// A repository is a checkout, read-only.
type repository struct {
	root   string // absolute
	home   string
	name   string // OWNER/NAME
	id     string // GitHub's number of it, "" where it was not said
	branch string // the default branch
	known  bool   // git says that it is the default branch
	host   string // of GitHub: github.com, or a company's own
}

// workflowDir is where GitHub looks for workflows.
const workflowDir = ".github/workflows"

const (
	// maxFile bounds every file that is read; real ones are under 64 KiB.
	maxFile = 1 << 20
	// maxEntries bounds the walk for projects: checkouts of a million files exist.
	maxEntries = 2_000_000
)

var (
	repositoryName = lazy.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}$`)
	repositoryID   = lazy.MustCompile(`^[1-9][0-9]{0,18}$`)
	// environmentName is what GitHub takes and a claim may hold literally in a policy.
	environmentName = lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._/-]{0,99}$`)
	branchName      = lazy.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)
)

func usage(hint, format string, args ...any) error {
	return fault.New(fault.Usage, fmt.Errorf(format, args...), hint)
}

// openRepository finds the root, the name and the default branch.
func openRepository(req Request) (*repository, error) {
	r := &repository{
		root:   req.Dir,
		home:   req.Home,
		name:   req.Repository,
		id:     req.RepositoryID,
		branch: "main",
		host:   publicHost,
	}
	git := ""
	for dir := req.Dir; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			r.root, git = dir, filepath.Join(dir, ".git")
			break
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if git != "" {
		if err := r.readGit(git); err != nil {
			return nil, err
		}
	}
	switch {
	case r.name == "" && git == "":
		return nil, usage("name the GitHub repository: oidc-dbt init --repository OWNER/NAME",
			"this is no git repository, so that its name on GitHub is not known")
	case r.name == "":
		return nil, usage("name the GitHub repository: oidc-dbt init --repository OWNER/NAME",
			"git has no remote that looks like GitHub's")
	case !repositoryName.MatchString(r.name):
		return nil, usage("", "flag --repository: got %q, want OWNER/NAME", r.name)
	case r.id != "" && !repositoryID.MatchString(r.id):
		return nil, usage("`gh api repos/"+r.name+" --jq .id` prints it", "flag --repository-id: got %q, want a number", r.id)
	case req.Environment != "" && !environmentName.MatchString(req.Environment):
		return nil, usage("", "flag --environment: got %q, want the name of an environment", req.Environment)
	case req.Platform != "" && !repositoryName.MatchString(req.Platform):
		return nil, usage("", "flag --platform: got %q, want OWNER/NAME", req.Platform)
	case req.PlatformDir != "" && req.Platform == "":
		return nil, usage("", "flag --platform-dir: requires --platform")
	}
	return r, nil
}

// readGit reads the remotes and the default branch from git's own files.
func (r *repository) readGit(git string) error {
	if info, err := os.Stat(git); err == nil && !info.IsDir() { // a worktree or a submodule: the file names the folder
		text, err := disk.Read(git, maxFile)
		if err != nil {
			return usage("", "read .git: %w", disk.Cause(err))
		}
		dir, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir: ")
		if !ok {
			return usage("", "read .git: it is neither a folder nor names one")
		}
		if git = filepath.FromSlash(dir); !filepath.IsAbs(git) {
			git = filepath.Join(r.root, git)
		}
		if text, err := disk.Read(filepath.Join(git, "commondir"), maxFile); err == nil {
			common := filepath.FromSlash(strings.TrimSpace(string(text)))
			if !filepath.IsAbs(common) {
				common = filepath.Join(git, common)
			}
			git = common
		}
	}
	text, err := disk.Read(filepath.Join(git, "config"), maxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usage("", "read .git/config: %w", disk.Cause(err))
	}
	remote, host, name := chooseRemote(string(text))
	if r.name == "" {
		r.name = name
	}
	if isOwnHost(host) {
		r.host = host
	}
	if head, err := disk.Read(filepath.Join(git, "refs", "remotes", remote, "HEAD"), maxFile); err == nil && remote != "" {
		branch, ok := strings.CutPrefix(strings.TrimSpace(string(head)), "ref: refs/remotes/"+remote+"/")
		if ok && branchName.MatchString(branch) {
			r.branch, r.known = branch, true
		}
	}
	return nil
}

var (
	remoteSection = lazy.MustCompile(`^\s*\[remote "([^"]+)"\]`)
	remoteURL     = lazy.MustCompile(`^\s*url\s*=\s*"?([^"\s]+)"?`)
	// gitHubURL matches https, ssh and scp forms; a user and a password before
	// the host are not kept.
	gitHubURL = lazy.MustCompile(`^(?:(?:https?|ssh|git)://(?:[^@/]*@)?(?:ssh\.)?([A-Za-z0-9.-]+)(?::[0-9]+)?/|` +
		`(?:[^@/:]+@)?([A-Za-z0-9.-]+):)` + `/?([^/]+/[^/]+?)(?:\.git)?/?$`)
)

// chooseRemote returns the remote that is the repository's home: `upstream` is
// that of a fork's checkout, else `origin`, else the only one.
func chooseRemote(config string) (remote, host, name string) {
	found, hosts := map[string]string{}, map[string]string{}
	var order []string
	section := ""
	for line := range strings.Lines(config) {
		if m := remoteSection.FindStringSubmatch(line); m != nil {
			section = m[1]
		} else if strings.HasPrefix(strings.TrimSpace(line), "[") {
			section = ""
		}
		m := remoteURL.FindStringSubmatch(line)
		if m == nil || section == "" || found[section] != "" {
			continue
		}
		if m = gitHubURL.FindStringSubmatch(m[1]); m != nil && repositoryName.MatchString(m[3]) && isGitHub(m[1]+m[2]) {
			found[section], hosts[section] = m[3], strings.ToLower(m[1]+m[2])
			order = append(order, section)
		}
	}
	for _, remote := range append([]string{"upstream", "origin"}, order...) {
		if found[remote] != "" {
			return remote, hosts[remote], found[remote]
		}
	}
	return "", "", ""
}

// isGitHub reports whether a host may be one of GitHub's, an Enterprise Server
// under a name of the company's own included.
func isGitHub(host string) bool {
	host = strings.ToLower(host)
	return !slices.ContainsFunc(otherForges, func(name string) bool { return strings.Contains(host, name) })
}

var otherForges = []string{"gitlab", "bitbucket", "azure", "visualstudio", "codecommit", "gitea", "codeberg", "sr.ht"}

const publicHost = "github.com"

// isOwnHost reports whether a host is a GitHub of a company's own: a host of
// data residency, or an Enterprise Server. A name without a dot, or that begins
// with github.com, is an alias of ssh's.
func isOwnHost(host string) bool {
	return strings.Contains(host, ".") && !strings.HasPrefix(host, publicHost) && host != "ssh."+publicHost
}

// issuer returns who signs the ID tokens of the repository's jobs, "" where
// that is GitHub's public one.
func (r *repository) issuer() string {
	switch {
	case r.host == publicHost:
		return ""
	case strings.HasSuffix(r.host, ".ghe.com"):
		return "https://token.actions." + r.host
	}
	return "https://" + r.host + "/_services/token"
}

// hasHostedRunners reports whether GitHub's own runners serve the repository: an
// Enterprise Server has none.
func (r *repository) hasHostedRunners() bool {
	return r.host == publicHost || strings.HasSuffix(r.host, ".ghe.com")
}

// refusePolicy returns an error where the repository has a policy.
func (r *repository) refusePolicy() error {
	for _, name := range []string{policyPath, ".github/oidc-dbt.yaml", testPath} {
		if _, err := os.Lstat(r.at(name)); err == nil {
			return usage("to check it: oidc-dbt lint; to see what it decides: oidc-dbt explain",
				"%s is there already, and init overwrites nothing", name)
		}
	}
	return nil
}

// at returns the absolute path of a file of the repository.
func (r *repository) at(name string) string { return filepath.Join(r.root, filepath.FromSlash(name)) }

// read returns a file of the repository by its path from the root. What is
// outside, by a symbolic link, is not read. An error of a file that is not
// there is an fs.ErrNotExist.
func (r *repository) read(name string) ([]byte, error) {
	if _, err := os.Lstat(r.at(name)); err != nil {
		return nil, err
	}
	if inside, err := disk.Within(r.at(name), r.root); err != nil {
		return nil, usage("", "read %s: %w", name, disk.Cause(err))
	} else if !inside {
		return nil, usage("", "read %s: a symbolic link leads out of the repository", name)
	}
	text, err := disk.Read(r.at(name), maxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, usage("", "read %s: a symbolic link leads to nothing", name)
	case err != nil:
		return nil, usage("", "read %s: %w", name, disk.Cause(err))
	}
	return text, nil
}

// has reports whether the repository has a file.
func (r *repository) has(name string) bool {
	_, err := os.Stat(r.at(name))
	return err == nil
}

// skipped are folders that hold what others wrote.
var skipped = map[string]bool{
	".git": true, "dbt_packages": true, "dbt_modules": true, "node_modules": true,
	"site-packages": true, "venv": true, ".venv": true,
	".tox": true, "__pycache__": true, ".terraform": true,
}

// find returns the folders, from the root and with /, that hold a file of a
// name. Symbolic links to folders are not followed.
func (r *repository) find(file string) (dirs []string, err error) {
	left := maxEntries
	err = filepath.WalkDir(r.root, func(at string, d fs.DirEntry, err error) error {
		if left--; left < 0 {
			return usage(
				"name the project: oidc-dbt init --project-dir DIR",
				"find %s: the repository has more than %d files",
				file,
				maxEntries,
			)
		}
		switch {
		case err != nil && at == r.root:
			return usage("", "read the repository: %w", disk.Cause(err))
		case err != nil:
			return nil // a folder of another user's
		case d.IsDir() && at != r.root && (skipped[d.Name()] || r.isVirtualenv(at)):
			return fs.SkipDir
		case d.Name() == file:
			rel, err := filepath.Rel(r.root, filepath.Dir(at))
			if err != nil {
				return err
			}
			dirs = append(dirs, filepath.ToSlash(rel))
		}
		return nil
	})
	return dirs, err
}

func (r *repository) isVirtualenv(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, "pyvenv.cfg"))
	return err == nil
}

// under returns a path relative to a folder of the repository, cleaned; what
// leaves the repository is "".
func under(dir, name string) string {
	joined := path.Join(dir, name)
	if path.IsAbs(name) || joined == ".." || strings.HasPrefix(joined, "../") {
		return ""
	}
	return joined
}

// callers tells of the jobs that call a reusable workflow of the repository: a
// called job has no permission that its caller lacks.
func (r *repository) callers(called string) (notes []string) {
	for _, place := range r.places(func(line string) bool { return strings.Contains(line, "uses: ./"+called) }) {
		notes = append(notes, place+" calls "+called+": its job needs `permissions: {contents: read, id-token: write}`")
	}
	return notes
}

// readers returns the places in workflows that read a secret.
func (r *repository) readers(secret string) []string {
	return r.places(func(line string) bool {
		found := secretName.FindAllStringSubmatch(line, -1)
		return slices.ContainsFunc(found, func(m []string) bool { return m[1] == secret })
	})
}

// places returns the lines of workflows that are meant.
func (r *repository) places(meant func(line string) bool) (places []string) {
	entries, _ := os.ReadDir(r.at(workflowDir))
	for _, e := range entries {
		text, err := r.read(workflowDir + "/" + e.Name())
		if err != nil {
			continue
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			if n++; meant(line) {
				places = append(places, fmt.Sprintf("%s/%s:%d", workflowDir, e.Name(), n))
			}
		}
	}
	return places
}
