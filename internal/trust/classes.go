package trust

import (
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// classes names what every provider's trust may have wrong in the same way, by
// what it admits: where its reader did not name it by how it is written.
func (c *Checked) classes(d Demand, admits, possible logic.Formula) {
	c.subjects(d, admits, possible)
	c.width(d, admits, possible)
}

func (c *Checked) has(names ...string) bool {
	return slices.ContainsFunc(c.Findings, func(f Finding) bool { return slices.Contains(names, f.Name) })
}

// subjects names what is wrong with subjects that are compared as a whole, where
// nothing is admitted by them, or what the policy does not ask for.
func (c *Checked) subjects(d Demand, admits, possible logic.Formula) {
	issuers := admits.Literals("iss")
	if len(issuers) != 1 {
		return // whose subjects they are is not told apart
	}
	own := possible.Literals("sub")
	for _, text := range admits.Literals("sub") {
		if slices.Contains(own, text) || strings.ContainsAny(text, "*?") {
			continue
		}
		if slices.ContainsFunc(d.Rules, func(r Rule) bool { return slices.Contains(r.Of("sub").Patterns, text) }) {
			continue // the policy's own, which lint judges
		}
		for _, f := range d.subjectFindings("the trust", issuers[0], text) {
			if f.Severity != "note" && f.Name != "wildcard-under-exact-operator" && !c.has(f.Name) {
				c.Findings = append(c.Findings, f)
			}
		}
	}
}

// wideNames are findings that say already that other repositories get in.
var wideNames = []string{
	"wide-subject", "missing-subject", "missing-condition", "customised-subject", "account-wide-policy", "other-subject-claim",
	"unanchored-expression",
}

// width names trust that tokens of other owners, or of other repositories of
// the same ones, get in by: where the policy names all of its repositories.
func (c *Checked) width(d Demand, admits, possible logic.Formula) {
	owners, repositories, ok := d.named()
	if !ok || c.has(wideNames...) {
		return
	}
	var ids []string
	for _, r := range d.Rules {
		ids = append(ids, r.Of("repository_id").Patterns...)
	}
	byID := logic.Equals("repository_id", ids...) // whatever the repository is called now
	named := logic.Or(byID, logic.Equals("repository", repositories...), logic.Equals("repository_owner", owners...))
	find := newSearch(d, logic.Or(admits, possible, named))
	more := logic.And(admits, logic.Not(possible), logic.Not(byID), logic.Equals("aud", d.Audience()))
	owned := logic.Equals("repository_owner", owners...)
	for _, class := range []struct {
		f                 logic.Formula
		severity, message string
	}{
		{logic.And(more, logic.Not(owned)), "error",
			"repositories of other owners than the policy's get in: name the repository, by its id where the provider reads it"},
		{logic.And(more, logic.Not(logic.Equals("repository", repositories...))), "warning",
			"other repositories of the same owner get in, and any workflow in them: name the repository"},
	} {
		if token := find(class.f); len(token) > 0 {
			c.Findings = append(c.Findings, Finding{Name: "wide-subject", Severity: class.severity, Message: class.message,
				Witness: shown(token, []string{"repository", "repository_owner", "sub"})})
			return
		}
	}
}

// named are the owners and repositories of the policy; ok is false unless each
// rule is GitHub's and names its repositories by literals.
func (d Demand) named() (owners, repositories []string, ok bool) {
	for _, r := range d.Rules {
		names, literal := r.Of("repository").Literals()
		if !literal || r.Identity.Kind != "github" {
			return nil, nil, false
		}
		for _, full := range names {
			owner, _, _ := strings.Cut(full, "/")
			owners, repositories = append(owners, owner), append(repositories, full)
		}
	}
	return owners, repositories, len(d.Rules) > 0
}
