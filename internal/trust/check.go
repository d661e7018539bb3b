package trust

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// A Verdict is how the provider's side stands to the policy.
type Verdict string

// The verdicts. Unknown is that of trust that cannot be evaluated wholly, where
// no difference was found: it is never called the same.
const (
	Same      Verdict = "same"
	Wider     Verdict = "wider"
	Narrower  Verdict = "narrower"
	Different Verdict = "different"
	Unknown   Verdict = "unknown"
)

// A Checked is the result of a check of one login.
type Checked struct {
	Target   string      `json:"target"`
	Provider string      `json:"provider"`
	Verdict  Verdict     `json:"verdict"`
	Rules    []RuleCheck `json:"rules"`
	Findings []Finding   `json:"findings"`
	// Said are the gaps that the provider cannot close, which count as the same.
	Said []RuleReport `json:"-"`
}

// A RuleCheck is the verdict of one rule.
type RuleCheck struct {
	Rule    int     `json:"rule"`
	Line    int     `json:"line"`
	Verdict Verdict `json:"verdict"`
}

// OK reports whether nothing is to be done: the two sides are the same, but for
// what the provider cannot enforce, and there is no error or warning.
func (c Checked) OK() bool {
	return c.Verdict == Same && !slices.ContainsFunc(c.Findings, func(f Finding) bool { return f.Severity != "note" })
}

// Check compares what the provider has with what the policy asks for. An error
// is of class Usage: a file that is not what the provider's tool exports.
func Check(d Demand, files []File) (Checked, error) {
	name, err := languageOf(d)
	if err != nil {
		return Checked{}, err
	}
	out := Checked{Target: d.Name(), Provider: name, Rules: []RuleCheck{}, Findings: []Finding{}}
	var exported []File
	for _, f := range files {
		if f, err = readable(f); err != nil {
			return out, err
		}
		if !isEnvironment(f.Text) {
			exported = append(exported, f)
			continue
		}
		found, err := d.checkEnvironment(f)
		if err != nil {
			return out, err
		}
		out.Findings = append(out.Findings, found...)
	}
	if len(exported) == 0 {
		return out, usage("no file says what %s trusts: see docs/trust.md for the command that exports it", name)
	}
	reading, err := languages[name].read(d, exported)
	if err != nil {
		return out, err
	}
	out.Findings = append(out.Findings, reading.Findings...)
	w, err := Generate(d)
	if err != nil {
		return out, err
	}
	out.Said = w.Rules
	out.compare(d, reading.Admits, w.Admits)
	return out, nil
}

// compare fills in the verdicts. What the generated trust would admit, and what
// it would not, is what the provider can do: that is no difference.
func (c *Checked) compare(d Demand, admits, possible logic.Formula) {
	comparison := d.compare(admits, possible, possible)
	asked := logic.Or(admits, d.PolicyFormula()).Claims()
	wider, narrower := map[int]bool{}, map[int]bool{}
	for _, diff := range comparison.Differences {
		witness := shown(diff.Witness, asked)
		if diff.Wider {
			wider[diff.Rule.Number] = true
			if iss := diff.Witness["iss"]; !d.trusts(iss) {
				c.Findings = append(c.Findings, Finding{Name: string(Wider), Severity: "error", Witness: witness, whole: diff.Witness,
					Message: fmt.Sprintf("the provider admits tokens of the issuer %q, which no rule of target %q names: remove it there",
						iss, d.Target.Name())})
				continue
			}
			c.Findings = append(c.Findings, Finding{Name: string(Wider), Severity: "error", Witness: witness, whole: diff.Witness,
				Message: fmt.Sprintf("the provider admits tokens that %s refuses by %s", diff.Rule.label(), strings.Join(diff.Claims, ", "))})
			continue
		}
		narrower[diff.Rule.Number] = true
		c.Findings = append(c.Findings, Finding{Name: string(Narrower), Severity: "warning", Witness: witness, whole: diff.Witness,
			Message: fmt.Sprintf("the provider refuses tokens that %s admits", diff.Rule.label())})
	}
	for _, why := range comparison.Undecided {
		c.Findings = append(c.Findings, Finding{Name: "undecided", Severity: "warning", Message: "not evaluated: " + why})
	}
	undecided := len(comparison.Undecided) > 0
	for _, r := range d.Rules {
		c.Rules = append(c.Rules, RuleCheck{r.Number, r.Line, verdict(wider[r.Number], narrower[r.Number], undecided)})
	}
	c.classes(d, admits, possible)
	c.Verdict = verdict(len(wider) > 0, len(narrower) > 0, undecided)
}

func verdict(wider, narrower, undecided bool) Verdict {
	switch {
	case wider && narrower:
		return Different
	case wider:
		return Wider
	case narrower:
		return Narrower
	case undecided:
		return Unknown
	}
	return Same
}
