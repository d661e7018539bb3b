package lint

import "slices"

// holdRefs are claims that keep other branches away from an environment.
var holdRefs = []string{"ref", "ref_protected", "workflow_ref", "job_workflow_ref"}

var environmentWithoutRef = check{
	name:     "environment-without-ref",
	severity: Warning,
	meaning: "A rule names an environment and no ref: unless the environment restricts branches, a workflow of any " +
		"branch can use it.",
	find: func(in *files, found report) {
		in.eachRule(func(r rule) {
			if !r.isGitHub() || !r.Restricts("environment") || slices.ContainsFunc(holdRefs, r.Restricts) {
				return
			}
			found(r.claim("environment"), "add the ref that deploys, such as `ref: refs/heads/main`",
				"%s names an environment and no ref: unless GitHub restricts the environment to branches, a workflow of any "+
					"branch can use it", r)
		})
	},
}
