package lint

import (
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// chosenKeys are keys of a customised subject whose values a repository's
// members choose, so that another repository can choose the same.
var chosenKeys = []string{
	"environment", "ref", "workflow", "context", "head_ref", "base_ref", "actor", "event_name", "ref_type",
	"job_workflow_ref", "workflow_ref",
}

// repositoryKeys are those that say which repository a token is of.
var repositoryKeys = []string{"repo", "repository", "repository_id"}

var chosenSubject = check{
	name:     "chosen-subject",
	severity: Warning,
	meaning: "A customised subject begins with a key whose value any repository can choose, or does not " +
		"contain the repository: a warehouse that compares only the subject accepts other repositories.",
	find: func(in *files, found report) {
		in.eachRule(func(r rule) {
			if !r.isGitHub() {
				return
			}
			for i, pattern := range r.Patterns("sub") {
				if policy.IsSubjectForm(pattern) {
					continue
				}
				key, _, _ := strings.Cut(pattern, ":")
				switch fix := "customise the subject to begin with the repository, as the keys `repo`, `context`, `ref` do"; {
				case slices.Contains(chosenKeys, key):
					found(r.pattern("sub", i), fix, "the subject of %s begins with %s, which any repository can choose", r, key)
				case !slices.ContainsFunc(repositoryKeys, func(k string) bool { return strings.Contains(":"+pattern, ":"+k+":") }):
					found(r.pattern("sub", i), fix, "the subject of %s does not contain the repository", r)
				}
			}
		})
	},
}
