package lint

import (
	"slices"

	"github.com/oidc-dbt/oidc-dbt/internal/trust"
)

var unenforceableClaim = check{
	name:     "unenforceable-claim",
	severity: Note,
	meaning: "A rule names a claim that the target's provider cannot see: only the policy holds the job to it, and the " +
		"provider's trust is wider.",
	find: func(in *files, found report) {
		in.eachTarget(func(t target) {
			byRule, _ := trust.Unenforced(t.policy, t.Target)
			for _, r := range t.rules() {
				for _, claim := range r.Claims() {
					if slices.Contains(byRule[r.Index+1], claim) {
						found(r.claim(claim), "see `oidc-dbt trust generate`: a customised subject may carry it",
							"%s names %s, which provider %q cannot see", r, claim, t.Provider())
					}
				}
			}
		})
	},
}
