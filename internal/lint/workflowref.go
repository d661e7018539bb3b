package lint

import (
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

var mutableWorkflowRef = check{
	name:     "mutable-workflow-ref",
	severity: Warning,
	meaning:  "A rule admits a workflow on any branch or any tag: anyone who may push one there writes the workflow.",
	find: func(in *files, found report) {
		in.eachRule(func(r rule) {
			for _, claim := range r.Claims() {
				if !policy.IsWorkflowClaim(claim) {
					continue
				}
				for i, pattern := range r.Patterns(claim) {
					if policy.OpenRef(pattern) {
						found(r.pattern(claim, i), "write the ref behind the @ out, such as @refs/tags/v3",
							"%s admits %s at any ref: anyone who may push one there writes the workflow", r, claim)
					}
				}
			}
		})
	},
}

// oursAlone is the owner of the reusable workflow that everybody may call.
const oursAlone = "oidc-dbt"

var foreignWorkflow = check{
	name:     "foreign-workflow",
	severity: Warning,
	meaning: "A rule trusts a reusable workflow of another owner's repository, who can change it; anyone may call " +
		"a public one with inputs of their own.",
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
		if !isLiteral(owner) || slices.ContainsFunc(owners, is) || len(owners) == 0 && !is(oursAlone) {
			continue
		}
		fix := "copy the workflow into a repository of your own, or give the owner by `--owner " + owner + "`"
		found(r.pattern("job_workflow_ref", i), fix,
			"%s trusts a workflow of %s, an owner that the policy binds nowhere: that owner can change it, and anyone may "+
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
