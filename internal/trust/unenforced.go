package trust

import (
	"slices"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// Unenforced returns, by the number of the rule, the claims that the target's
// provider cannot hold a token to as GitHub makes subjects by default. known is
// false where no trust can be generated.
func Unenforced(p *policy.Policy, t *policy.Target) (byRule map[int][]string, known bool) {
	byRule = map[int][]string{}
	if len(t.Rules()) > MaxRules {
		return byRule, false
	}
	for _, d := range Demands(p, t, Options{}) {
		w, err := Generate(d)
		if err != nil {
			return byRule, false
		}
		for _, r := range w.Rules {
			for _, g := range r.WiderBy {
				if !slices.Contains(byRule[r.Rule], g.Claim) {
					byRule[r.Rule] = append(byRule[r.Rule], g.Claim)
				}
			}
		}
	}
	return byRule, true
}

// MaxRules limits the rules of a target that are looked at where nobody asked
// for its trust: no provider holds more.
const MaxRules = 200

// UnenforcedOf returns the claims of all rules, sorted.
func UnenforcedOf(p *policy.Policy, t *policy.Target) (claims []string) {
	byRule, _ := Unenforced(p, t)
	for _, list := range byRule {
		claims = append(claims, list...)
	}
	slices.Sort(claims)
	return slices.Compact(claims)
}
