package lint

import "strings"

var nameOnlyBinding = check{
	name:     "name-only-binding",
	severity: Warning,
	meaning: "A rule binds a repository or owner only by name: if the name is given up, its next owner gets " +
		"in.",
	find: func(in *files, found report) {
		in.eachRule(func(r rule) {
			if r.BindsNameOnly() {
				found(r.place(), "add "+strings.Join(r.IDs(), " or "),
					"%s binds only a name: if it is given up, its next owner gets in", r)
			}
		})
	},
}
