package explain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/trust"
)

// A Provider is what the provider would decide of the same claims if its trust
// were what `oidc-dbt trust generate` writes.
type Provider struct {
	// Verdict is "same"; "wider", where the provider would admit what the
	// policy denies; "narrower" the other way round; "unknown" where that
	// cannot be told.
	Verdict string   `json:"verdict"`
	WiderBy []string `json:"wider_by,omitempty"` // claims that the provider does not see
	Why     string   `json:"why,omitempty"`
}

// AskProviders adds to each target what its provider would decide of the claims
// that were explained. A step's summary does not show it, and a run need not
// pay for it.
func (r *Report) AskProviders(p *policy.Policy, claims policy.ClaimSet) {
	for i, t := range r.Targets {
		r.Targets[i].Provider = providerOf(p, t.Target, claims, t.Decision == "allowed")
	}
}

// providerOf returns what the provider would decide of claims, of which the
// policy decides as allowed says.
func providerOf(p *policy.Policy, name string, claims policy.ClaimSet, allowed bool) Provider {
	t, err := p.Target(name)
	if err != nil || len(t.Rules()) > trust.MaxRules {
		return Provider{Verdict: "unknown", Why: fmt.Sprintf("the target has more than %d rules", trust.MaxRules)}
	}
	token := map[string]string{}
	for _, claim := range claims.Names() {
		if claims.Unknown(claim) {
			return Provider{Verdict: "unknown", Why: "not all claims are known"}
		}
		if text, ok := claims.String(claim); ok {
			token[claim] = text
		}
	}
	options := trust.Options{OwnerIDs: map[string]string{}, Repositories: map[string]string{}}
	if id := token["repository_owner_id"]; id != "" {
		options.OwnerIDs[token["repository_owner"]] = id
	}
	if id := token["repository_id"]; id != "" {
		options.Repositories[id] = token["repository"]
	}
	out := Provider{Verdict: "same"}
	for _, d := range trust.Demands(p, t, options) {
		w, err := trust.Generate(d)
		if err != nil {
			return Provider{Verdict: "unknown", Why: err.Error()}
		}
		for _, claim := range d.PolicyFormula().Claims() { // those inside objects, too
			if text, ok := claims.String(claim); ok {
				token[claim] = text
			}
		}
		token["aud"] = d.Audience()
		switch seen := d.Sees(w, token); {
		case seen.Unknown:
			return Provider{Verdict: "unknown", Why: "the provider's trust cannot be evaluated on these claims"}
		case seen.Admitted && !allowed:
			out.Verdict = "wider"
			for _, claim := range d.Missed(token) {
				if !slices.Contains(out.WiderBy, claim) {
					out.WiderBy = append(out.WiderBy, claim)
				}
			}
		case seen.Admitted && allowed:
			return Provider{Verdict: "same"}
		case allowed && out.Verdict == "same":
			out = Provider{Verdict: "narrower", Why: seen.Why}
		}
	}
	return out
}

// text says what the provider would decide, where that is another thing than
// what the policy does.
func (p Provider) text(b *strings.Builder) {
	switch p.Verdict {
	case "wider":
		cannot := ""
		if len(p.WiderBy) > 0 { // else the policy denies it for another reason than its claims
			cannot = "it cannot see " + strings.Join(p.WiderBy, ", ") + "; "
		}
		fmt.Fprintf(b, "  provider: would admit this token: %sonly the policy keeps it out\n", cannot)
	case "narrower":
		fmt.Fprintf(b, "  provider: the policy allows this token, and the provider would refuse it%s\n", because(p.Why))
	case "unknown":
		fmt.Fprintf(b, "  provider: not known%s\n", because(p.Why))
	}
}

func because(why string) string {
	if why == "" {
		return ""
	}
	if strings.ContainsFunc(why, func(r rune) bool { return !unicode.IsPrint(r) }) {
		why = strconv.Quote(why)
	}
	return ": " + why
}
