package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

var wideMatcher = check{
	name:     "wide-matcher",
	severity: Warning,
	meaning:  "A rule restricts only the repository, or its patterns match any branch or environment.",
	find: func(in *files, found report) {
		in.eachRule(func(r rule) {
			free, open := r.Open()
			if r.writesRecords() || !open || slices.ContainsFunc(free, isChosen) || slices.ContainsFunc(free, policy.IsWorkflowClaim) {
				return // author-chosen-claim and mutable-workflow-ref have those
			}
			at, which := r.place(), ""
			for _, claim := range free {
				if which == "" && !slices.ContainsFunc(r.Patterns(claim), isLiteral) {
					at, which = r.claim(claim), fmt.Sprintf(" (%s restricts nothing)", claim)
				}
			}
			found(at, "add a literal environment with a literal ref, or job_workflow_ref",
				"%s restricts only the repository%s: anyone who can push a branch to it gets in", r, which)
		})
	},
}

// writesRecords reports whether the rule is of the target that writes the audit
// bucket: it lets the records of denied requests in, too.
func (r rule) writesRecords() bool { return r.Name() == r.policy.Audit().Bucket.Target }

// chosenClaims are claims whose values depend on who wrote the workflow or
// started the run.
var chosenClaims = []string{"workflow", "actor", "actor_id", "actor_kind", "head_ref", "base_ref"}

func isChosen(claim string) bool { return slices.Contains(chosenClaims, claim) }

var authorChosenClaim = check{
	name:     "author-chosen-claim",
	severity: Warning,
	meaning: "A rule relies on a claim that the author of a workflow chooses (workflow, actor, head_ref, " +
		"base_ref …), which restricts nothing.",
	find: func(in *files, found report) {
		in.eachRule(func(r rule) {
			free, open := r.Open()
			i := slices.IndexFunc(free, isChosen)
			if !open || i < 0 {
				return
			}
			found(r.claim(free[i]), "add a literal environment with a literal ref, or job_workflow_ref",
				"%s is restricted only by %s, which the author of a workflow chooses: anyone who can push a branch gets in",
				r, strings.Join(slices.DeleteFunc(free, func(c string) bool { return !isChosen(c) }), ", "))
		})
	},
}
