package lint

import (
	"fmt"
	"slices"
)

var anyRunner = check{
	name:     "any-runner",
	severity: Note,
	meaning: "Rules admit jobs on self-hosted runners, where a token can leak to other jobs of the same " +
		"machine.",
	find: func(in *files, found report) {
		for _, f := range in.policies {
			var first rule
			count := 0
			for _, t := range f.targets() {
				for _, r := range t.rules() {
					if !r.isGitHub() || slices.Contains(r.Claims(), "runner_environment") {
						continue
					}
					if count++; count == 1 {
						first = r
					}
				}
			}
			if count > 0 {
				more := ""
				if count > 1 {
					more = fmt.Sprintf(", like %s", plural(count-1, "other rule"))
				}
				found(first.place(), "add `runner_environment: github-hosted` if no job needs another runner",
					"%s admits jobs on self-hosted runners%s: a credential can leak there to other jobs", first, more)
			}
		}
	},
}
