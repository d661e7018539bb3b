package lint

import "github.com/oidc-dbt/oidc-dbt/internal/policy"

var overlappingTargets = check{
	name:     "overlapping-targets",
	severity: Warning,
	meaning: "One token matches rules of two targets: the job itself chooses the credential, and a step " +
		"without `target` fails.",
	find: func(in *files, found report) {
		for _, f := range in.policies {
			if f.policy == nil {
				continue
			}
			overlaps, undecided := f.policy.Overlaps()
			for _, o := range overlaps {
				first, second := nameOf(o.Rules[0].Index, o.Targets[0]), nameOf(o.Rules[1].Index, o.Targets[1])
				const fix = "add a claim that distinguishes them, such as a literal environment, or remove one of the rules"
				found(f.rule(o.Targets[1], o.Rules[1]), fix,
					"%s and %s (line %d) match the same token: the job chooses which credential it gets",
					second, first, o.Rules[0].Line).Witness = o.Witness
			}
			if undecided > 0 {
				found(place{f.file, 1, 1}, "use fewer wildcards in them",
					"up to %d pairs of rules are too complex to decide whether one token matches both", undecided)
			}
		}
	},
}

// rule returns where a rule starts.
func (f *policyFile) rule(target string, r policy.Rule) place {
	list := items(get(f.root, "targets", target, "allow"))
	if r.Index < len(list) {
		return f.at(list[r.Index])
	}
	return place{f.file, r.Line, 1}
}
