package lint

import "slices"

var limitNotEnforced = check{
	name:     "limit-not-enforced",
	severity: Note,
	meaning: "A guard limits statements where the server does not hold a session to that, or admits statements that are " +
		"not understood and may change the limit.",
	find: func(in *files, found report) {
		in.eachTarget(func(t target) {
			for _, r := range t.rules() {
				g := r.Guard()
				if g == nil || g.Limits.StatementTimeout == 0 && g.Limits.Scan == 0 {
					continue
				}
				at := r.limits()
				switch held := t.Unheld(); {
				case held != "":
					found(at, held,
						"target %q limits statements, and the server lets a session change its limit: the guard denies the statement for "+
							"that, but not what a function does", t.Name())
				case slices.Contains(g.Admits(), "unknown"):
					found(at, "admit no more than the run needs: `unknown` of `also`, and `statements: any`, let everything pass",
						"target %q limits statements, and admits those that are not understood, which may change the limit", t.Name())
				}
			}
		})
	},
}

// limits is where the rule, its target or the policy's defaults give limits.
func (r rule) limits() place {
	if key, _ := pair(get(r.node, "guard"), "limits"); key != nil {
		return r.at(key)
	}
	if key := r.find("guard", "limits"); key != nil {
		return r.at(key)
	}
	return r.place()
}
