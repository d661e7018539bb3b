package source

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// A Job is what a CI system says of the job that this process is part of. It
// decides only which files are trusted, and only towards less.
type Job struct {
	Kind      string // of the system; UnknownCI for another CI, "" where this is none
	Workspace string // the checkout, "" where that is not known
	// Foreign says why the checkout may be of an author who has no say in the
	// repository, "" where it is the repository's own.
	Foreign string
}

// UnknownCI is the kind of a job whose system is not known.
const UnknownCI = "unknown"

// jobs are the CI systems other than GitHub's kind, whose events the policy knows.
var jobs = map[string]struct {
	workspace string
	foreign   func(getenv func(string) string) string
}{
	"gitlab": {"CI_PROJECT_DIR", func(getenv func(string) string) string {
		switch {
		case getenv("CI_PIPELINE_SOURCE") == "merge_request_event":
			return "the job is for a merge request"
		case getenv("CI_PIPELINE_SOURCE") == "external_pull_request_event":
			return "the job is for an external pull request"
		}
		return ""
	}},
	"circleci": {"CIRCLE_WORKING_DIRECTORY", func(getenv func(string) string) string {
		if getenv("CIRCLE_PR_USERNAME") != "" || getenv("CIRCLE_PR_REPONAME") != "" { // set for forks only
			return "the job is for a pull request of a fork"
		}
		return ""
	}},
	"buildkite": {"BUILDKITE_BUILD_CHECKOUT_PATH", func(getenv func(string) string) string {
		repo, fork := getenv("BUILDKITE_REPO"), getenv("BUILDKITE_PULL_REQUEST_REPO")
		if fork != "" && fork != repo {
			return "the job is for a pull request of " + fork
		}
		return ""
	}},
	"azure_pipelines": {"BUILD_SOURCESDIRECTORY", func(getenv func(string) string) string {
		if strings.EqualFold(getenv("SYSTEM_PULLREQUEST_ISFORK"), "true") {
			return "the job is for a pull request of a fork"
		}
		return ""
	}},
	"bitbucket": {"BITBUCKET_CLONE_DIR", func(getenv func(string) string) string {
		// Pipelines of pull requests run for branches of the repository itself;
		// a fork's run in the fork.
		return ""
	}},
}

// JobOf says which CI system's job this is. dir is the working directory.
func JobOf(getenv func(string) string, dir string) Job {
	kinds := present(getenv)
	if len(kinds) == 0 {
		if !isSet("CI")(getenv) {
			return Job{}
		}
		kinds = []string{UnknownCI}
	}
	j := Job{Kind: kinds[0]}
	for _, kind := range kinds { // of several, each may say that the checkout is foreign
		system, known := jobs[kind]
		switch {
		case j.Foreign != "" || policy.LikeGitHub(kind): // of GitHub's, the event decides
		case known:
			j.Foreign = system.foreign(getenv)
		default:
			j.Foreign = "this CI system is not known to oidc-dbt, and the job may be for a fork"
		}
	}
	if policy.LikeGitHub(j.Kind) {
		j.Workspace = getenv("GITHUB_WORKSPACE")
	} else {
		j.Workspace = absolute(getenv(jobs[j.Kind].workspace), getenv("HOME"), dir)
	}
	if j.Workspace == "" {
		j.Workspace = CheckoutOf(dir)
	}
	return j
}

// absolute resolves a path that may begin with the home folder (CircleCI's do).
func absolute(path, home, dir string) string {
	if rest, ok := strings.CutPrefix(path, "~"); ok && home != "" {
		return filepath.Join(home, rest)
	}
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// CheckoutOf returns the nearest folder upwards that is a checkout of Git's, "" for none.
func CheckoutOf(dir string) string {
	for {
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}
