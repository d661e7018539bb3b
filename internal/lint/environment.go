package lint

import (
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// holdRefs are claims that can restrict a job in an environment to a branch or tag.
var holdRefs = []string{"ref", "ref_protected", "workflow_ref", "job_workflow_ref"}

var environmentWithoutRef = check{
	name:     "environment-without-ref",
	severity: Warning,
	meaning: "A rule names an environment but no ref: unless the environment is restricted to branches, a " +
		"workflow on any branch can use it.",
	find: func(in *files, found report) {
		in.eachRule(func(r rule) {
			claim := "environment"
			if slices.ContainsFunc(r.Patterns("sub"), namesEnvironment) {
				claim = "sub"
			}
			if !r.isGitHub() || !r.Restricts(claim) || slices.ContainsFunc(holdRefs, r.Restricts) {
				return
			}
			found(r.claim(claim), "add the branch that deploys, such as `ref: refs/heads/main`",
				"%s names an environment but no ref: unless the environment is restricted to branches, a workflow on any "+
					"branch can use it", r)
		})
	},
}

// namesEnvironment reports whether a subject is that of jobs in an environment.
func namesEnvironment(sub string) bool {
	return policy.IsSubjectForm(sub) && strings.Contains(sub, ":environment:")
}
