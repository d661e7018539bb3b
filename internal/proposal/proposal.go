// Package proposal proposes what a repository needs to adopt the action, from its own dbt projects, profiles,
// workflows and remote: a policy, its tests, a workflow and a list of what is left to do. It writes no secret.
package proposal

import (
	"fmt"
	"slices"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// A Request is what a proposal is made from, in addition to the repository's files.
type Request struct {
	Dir  string // the working directory, in the repository
	Home string // where `.dbt/profiles.yml` is looked for, "" for nowhere

	// What the user said; "" is found out or guessed.
	Provider     string
	Type         string
	Repository   string // OWNER/NAME
	RepositoryID string
	Environment  string
	ProjectDir   string // the only project to look at, relative to Dir
	Platform     string // OWNER/NAME of the repository whose reusable workflow is called
	PlatformDir  string // a checkout of that repository, relative to Dir; "" for none

	Catalog policy.Catalog
}

// A Proposal is what a repository needs. Its texts hold no secret.
type Proposal struct {
	Repository string
	Files      []File // that are not there yet
	Diffs      []Diff // of workflows that are there
	Entry      string // with a platform: what its policy needs for this repository
	Left       []Step // what is left to do, in order

	root     string
	entryFor string // what Entry is added to
}

// A File is a new file.
type File struct {
	Path string `json:"path"` // from the repository's root, with /
	Text string `json:"text"`
}

// A Diff is a change to a file that is there, as `git apply` takes it.
type Diff struct {
	Path string `json:"path"`
	Text string `json:"diff"`
}

// A Step is one thing that is left to do.
type Step struct {
	Text     string   `json:"text"`
	Details  []string `json:"details,omitempty"`
	Commands []string `json:"commands,omitempty"`
	Page     string   `json:"page,omitempty"`
}

// The files that are proposed.
const (
	policyPath = ".github/oidc-dbt.yml"
	testPath   = ".github/oidc-dbt.test.yml"
	patchPath  = ".github/oidc-dbt.patch"
)

// Propose reads the repository and proposes. It changes nothing and asks no
// network. Errors are of class Usage.
func Propose(req Request) (*Proposal, error) {
	repo, err := openRepository(req)
	if err != nil {
		return nil, err
	}
	if req.Platform == "" {
		if err := repo.refusePolicy(); err != nil {
			return nil, err
		}
	}
	projects, err := repo.projects(req.ProjectDir)
	if err != nil {
		return nil, err
	}
	workflows, err := repo.workflows()
	if err != nil {
		return nil, err
	}
	targets, err := chooseTargets(req, repo, projects, workflows)
	if err != nil {
		return nil, err
	}
	p := &Proposal{Repository: repo.name, root: repo.root}
	if req.Platform != "" {
		return p, p.platform(req, repo, targets, workflows)
	}
	text := policyText(repo, targets)
	if _, err := policy.Parse(policyPath, []byte(text), req.Catalog); err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("propose a policy: %w", err),
			"these values are from the profiles.yml: correct them there, or write the policy by hand")
	}
	p.Files = append(p.Files, File{policyPath, text}, File{testPath, testText(repo, targets)})
	var notes []string
	if file, ok := newWorkflow(repo, targets, workflows); ok {
		p.Files = append(p.Files, file)
	}
	var removed []secretUse
	for _, w := range workflows {
		diff, edited := w.diff(targets)
		if w.starts("workflow_call") {
			notes = append(notes, repo.callers(w.path)...)
		}
		notes = append(notes, edited.notes...)
		removed = append(removed, edited.secrets...)
		if diff != "" {
			p.Diffs = append(p.Diffs, Diff{w.path, diff})
		}
	}
	p.Left = leftToDo(repo, targets, p, notes, removed)
	return p, nil
}

// names returns the targets' names, in their order.
func names(targets []*target) (list []string) {
	for _, t := range targets {
		if !slices.Contains(list, t.name) {
			list = append(list, t.name)
		}
	}
	return list
}
