package trust

import (
	"maps"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// A Difference is tokens that one side admits and the other does not.
type Difference struct {
	Wider   bool // the provider admits them, the policy does not
	Rule    Rule // the rule that comes nearest
	Claims  []string
	Witness map[string]string
}

// A Comparison is how a provider's trust stands to a login's rules.
type Comparison struct {
	Differences []Difference
	// Undecided says why there may be others: what of the trust cannot be evaluated.
	Undecided []string
}

// Same reports that no token is told apart.
func (c Comparison) Same() bool { return len(c.Differences) == 0 && len(c.Undecided) == 0 }

// maxDifferences bounds how many are looked for.
const maxDifferences = 24

// Compare finds the tokens that a provider's trust admits and the policy does
// not, by the claims that keep them out of the nearest rule, and for each rule
// a token that the trust does not admit. said is met by tokens that are known
// to be admitted although the policy refuses them.
func (d Demand) Compare(admits, said logic.Formula) Comparison {
	return d.compare(admits, said, d.known())
}

// compare is Compare; of what the rules admit, only tokens that meet owed count
// as missing.
func (d Demand) compare(admits, said, owed logic.Formula) Comparison {
	c := &comparer{d: d, admits: admits}
	c.finder = logic.NewFinder(logic.Vocabulary(admits, d.PolicyFormula(), said, owed),
		slices.Concat(d.worlds(), d.strangers(admits)))
	c.possible = around(logic.Vocabulary(admits, d.PolicyFormula()).Claims())
	wider := logic.And(admits, logic.Not(d.PolicyFormula()), logic.Not(said))
	for _, r := range d.Rules {
		c.single(r, wider)
	}
	for _, diff := range c.out.Differences {
		wider = logic.And(wider, logic.Not(d.explained(diff)))
	}
	for range maxDifferences {
		token := c.find(wider)
		if token == nil {
			break
		}
		diff := c.nearest(token)
		c.out.Differences = append(c.out.Differences, diff)
		wider = logic.And(wider, logic.Not(d.explained(diff)))
	}
	for _, r := range d.Rules {
		f := logic.And(r.Formula(), logic.Equals("aud", d.Audience()), logic.Not(d.DenyFormula()), logic.Not(admits), owed)
		if token := c.find(f); token != nil {
			c.out.Differences = append(c.out.Differences, Difference{Rule: r, Witness: token})
		}
	}
	return c.out
}

type comparer struct {
	d      Demand
	finder *logic.Finder
	admits logic.Formula
	// possible is met by the tokens that there can be.
	possible logic.Formula
	out      Comparison
}

// around is met by the tokens in which what a claim is inside of is there, too.
func around(claims []string) logic.Formula {
	var parts []logic.Formula
	for _, claim := range claims {
		for i, c := range claim {
			if c == '>' && slices.Contains(claims, claim[:i]) {
				parts = append(parts, logic.Or(logic.Not(logic.Has(claim)), logic.Has(claim[:i])))
			}
		}
	}
	return logic.And(parts...)
}

// single notes the claims of a rule that the trust does not hold it to: tokens
// that differ from what the rule admits in this claim only. All of them together
// are one difference.
func (c *comparer) single(r Rule, wider logic.Formula) {
	diff := Difference{Wider: true, Rule: r}
	for _, cond := range r.Conditions {
		f := logic.And(r.Without(cond.Claim).Formula(), logic.Not(r.Condition(cond)), logic.Equals("aud", c.d.Audience()),
			logic.Not(c.d.DenyFormula()), wider)
		if token := c.find(f); token != nil {
			diff.Claims = append(diff.Claims, cond.Claim)
			if diff.Witness == nil {
				diff.Witness = token
			}
		}
	}
	if diff.Claims != nil {
		c.out.Differences = append(c.out.Differences, diff)
	}
}

// find returns a token that meets a condition, and notes what is not decided.
func (c *comparer) find(f logic.Formula) map[string]string {
	token, decided := c.finder.Find(logic.And(f, c.possible))
	if !decided && token == nil {
		reasons := c.admits.Reasons()
		if len(reasons) == 0 {
			reasons = []string{"there are too many alternatives to compare"}
		}
		for _, why := range reasons {
			if !slices.Contains(c.out.Undecided, why) {
				c.out.Undecided = append(c.out.Undecided, why)
			}
		}
	}
	return token
}

// nearest describes a token that the trust admits by the rule that comes nearest.
func (c *comparer) nearest(token map[string]string) Difference {
	switch {
	case !c.d.trusts(token["iss"]):
		return Difference{Wider: true, Claims: []string{"iss"}, Witness: token, Rule: c.first()}
	case logic.Equals("aud", c.d.Audience()).Eval(token) != logic.True:
		return Difference{Wider: true, Claims: []string{"aud"}, Witness: token, Rule: c.first()}
	case c.d.DenyFormula().Eval(token) == logic.True:
		return Difference{Wider: true, Claims: []string{"deny"}, Witness: token, Rule: c.first()}
	}
	best := Difference{Wider: true, Witness: token}
	for i, r := range c.d.Rules {
		var claims []string
		if token["iss"] != r.Identity.Issuer {
			claims = append(claims, "iss")
		}
		for _, cond := range r.Conditions {
			if r.Condition(cond).Eval(token) != logic.True {
				claims = append(claims, cond.Claim)
			}
		}
		if i == 0 || len(claims) < len(best.Claims) {
			best.Rule, best.Claims = r, claims
		}
	}
	return best
}

// explained is met by the tokens that a difference stands for.
func (d Demand) explained(diff Difference) logic.Formula {
	switch {
	case !d.trusts(diff.Witness["iss"]):
		return logic.Equals("iss", diff.Witness["iss"])
	case slices.Equal(diff.Claims, []string{"aud"}):
		return logic.Not(logic.Equals("aud", d.Audience()))
	case slices.Equal(diff.Claims, []string{"deny"}):
		return d.DenyFormula()
	}
	f := diff.Rule.Without(diff.Claims...).Formula()
	if slices.Contains(diff.Claims, "aud") {
		return f
	}
	return logic.And(f, logic.Equals("aud", d.Audience()))
}

func (c *comparer) first() Rule {
	if len(c.d.Rules) == 0 {
		return Rule{}
	}
	return c.d.Rules[0]
}

// shown returns the claims of a witness that a reader needs: those that either
// side asks about.
func shown(witness map[string]string, asked []string) map[string]string {
	out := maps.Clone(witness)
	maps.DeleteFunc(out, func(claim, _ string) bool {
		object := slices.ContainsFunc(asked, func(c string) bool { return strings.HasPrefix(c, claim+">") })
		return claim != "sub" && !slices.Contains(asked, claim) || object
	})
	return out
}
