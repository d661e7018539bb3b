package lint

import "strings"

var nameOnlyBinding = check{
	name:     "name-only-binding",
	severity: Warning,
	meaning:  "A rule binds a repository or owner by name only; whoever takes the name once it is given up gets in.",
	find: func(in *files, found report) {
		in.eachRule(func(r rule) {
			if r.BindsNameOnly() {
				found(r.place(), "add "+strings.Join(r.IDs(), " or "),
					"%s binds by name only: anyone who takes the name once it is given up gets in", r)
			}
		})
	},
}
