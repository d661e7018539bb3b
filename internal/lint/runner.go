package lint

import (
	"fmt"
	"slices"
)

var anyRunner = check{
	name:     "any-runner",
	severity: Note,
	meaning: "Rules admit jobs on any runner: on a self-hosted one, which may be used by others or be kept from job to " +
		"job, a token can leak.",
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
					more = fmt.Sprintf(", as do other rules (%d)", count-1)
				}
				found(first.place(), "add `runner_environment: github-hosted` where no job needs another runner",
					"%s admits jobs on self-hosted runners%s: who controls such a runner gets the credential", first, more)
			}
		}
	},
}
