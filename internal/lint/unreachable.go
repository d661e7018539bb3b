package lint

import (
	"fmt"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

var unreachableRule = check{
	name:     "unreachable-rule",
	severity: Warning,
	meaning: "A rule has no effect: an earlier rule admits every token that it admits, `deny` refuses every " +
		"one, or it names a claim that no token has.",
	find: func(in *files, found report) {
		for _, f := range in.policies {
			if f.policy == nil {
				continue
			}
			shadows, skipped := f.policy.Shadows()
			for _, s := range shadows {
				if s.Denied {
					found(f.rule(s.Target, s.Rule), "remove it, or narrow the rule of deny",
						"%s has no effect: rule %d of deny (line %d) refuses every token that it admits",
						nameOf(s.Rule.Index, s.Target), s.By.Index+1, s.By.Line)
					continue
				}
				fix := "remove it, or narrow the earlier rule"
				if s.Guard != "" {
					fix = fmt.Sprintf("remove it, narrow the earlier rule, or put it before rule %d, whose guard is %s", s.By.Index+1, s.Guard)
				}
				found(f.rule(s.Target, s.Rule), fix,
					"%s has no effect: rule %d (line %d) admits every token that it admits",
					nameOf(s.Rule.Index, s.Target), s.By.Index+1, s.By.Line)
			}
			if skipped > 0 {
				found(place{f.file, 1, 1}, "use fewer wildcards in them",
					"up to %d pairs of rules are too many to decide whether one makes the other superfluous", skipped)
			}
		}
		for _, f := range in.policies {
			f.eachDenyRule(func(r policy.RuleView, at place) {
				for _, c := range r.UnknownClaims() {
					found(at, "name a claim that the tokens have", "rule %d of deny matches nothing: no token of kind %q has the claim %q",
						r.Index+1, r.Identity.Kind, c.Claim)
				}
			})
		}
		in.eachRule(func(r rule) {
			for _, c := range r.UnknownClaims() {
				fix := "remove the claim, or name one that the tokens have"
				if c.Meant != "" {
					fix = fmt.Sprintf("write %s", c.Meant)
				}
				found(r.claim(c.Claim), fix, "%s matches nothing: no token of kind %q has the claim %q",
					r, r.Identity.Kind, c.Claim)
			}
		})
	},
}
