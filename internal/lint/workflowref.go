package lint

import (
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

var mutableWorkflowRef = check{
	name:     "mutable-workflow-ref",
	severity: Warning,
	meaning:  "A rule admits a workflow at any branch or tag: anyone who can push one can change the workflow.",
	find: func(in *files, found report) {
		in.eachRule(func(r rule) {
			for _, claim := range r.Claims() {
				if !policy.IsWorkflowClaim(claim) {
					continue
				}
				for i, pattern := range r.Patterns(claim) {
					if policy.OpenRef(pattern) {
						found(r.pattern(claim, i), "name the ref after the @, such as @refs/tags/v3",
							"%s admits %s at any ref: anyone who can push one can change the workflow", r, claim)
					}
				}
			}
		})
	},
}

// ours is the owner of a public reusable workflow.
const ours = "oidc-dbt"

var foreignWorkflow = check{
	name:     "foreign-workflow",
	severity: Warning,
	meaning: "A rule trusts a reusable workflow in another owner's repository: that owner can change it, and " +
		"anyone can call a public one with their own inputs.",
	find: func(in *files, found report) {
		for _, f := range in.policies {
			owners := append(f.owners(), in.owners...)
			for _, t := range f.targets() {
				for _, r := range t.rules() {
					r.foreign(owners, found)
				}
			}
		}
	},
}

func (r rule) foreign(owners []string, found report) {
	if !r.isGitHub() {
		return
	}
	for i, pattern := range r.Patterns("job_workflow_ref") {
		owner, _, _ := strings.Cut(pattern, "/")
		is := func(other string) bool { return strings.EqualFold(other, owner) }
		if !isLiteral(owner) || slices.ContainsFunc(owners, is) || len(owners) == 0 && !is(ours) {
			continue
		}
		fix := "copy the workflow into your own repository, or allow the owner with `--owner " + owner + "`"
		found(r.pattern("job_workflow_ref", i), fix,
			"%s trusts a workflow of %s, an owner that the policy does not bind: that owner can change it, and anyone can "+
				"call it", r, owner)
	}
}

// owners returns the owners that the policy's rules bind by name.
func (f *policyFile) owners() (list []string) {
	add := func(owner string) {
		if isLiteral(owner) && owner != "" && !slices.Contains(list, owner) {
			list = append(list, owner)
		}
	}
	for _, t := range f.targets() {
		for _, r := range t.Rules() {
			for _, owner := range r.Patterns("repository_owner") {
				add(owner)
			}
			for _, repository := range r.Patterns("repository") {
				owner, _, _ := strings.Cut(repository, "/")
				add(owner)
			}
			for _, sub := range r.Patterns("sub") {
				if rest, ok := strings.CutPrefix(sub, "repo:"); ok {
					owner, _, _ := strings.Cut(rest, "/")
					name, _, _ := strings.Cut(owner, "@")
					add(name)
				}
			}
		}
	}
	return list
}
