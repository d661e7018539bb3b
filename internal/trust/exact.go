package trust

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// An exact is a subject of an issuer, for providers that compare whole texts.
type exact struct{ Issuer, Subject string }

// exacts returns the subjects of the rules for a provider that compares issuer,
// subject and audience and nothing else, with what that leaves open of each
// rule. provider is its name for a reader; limit, if not nil, refuses a list that is
// too long for it, before what is left open is looked for.
func (d Demand) exacts(provider string, limit func(list []exact) error) ([]exact, []RuleReport, error) {
	e := &exacter{d: d, provider: provider}
	for _, r := range d.Rules {
		if err := e.add(r); err != nil {
			return nil, nil, err
		}
	}
	if len(e.list) == 0 {
		return nil, nil, usage("target %q: %s compares whole subjects, and those of its rules cannot be listed: write values "+
			"without wildcards, or an environment, whose subject does not have the ref", d.Target.Name(), provider)
	}
	if limit != nil {
		if err := limit(e.list); err != nil {
			return nil, nil, err
		}
	}
	return e.list, e.reports(d.admitsExact(e.list)), nil
}

// admitsExact is met by the tokens that have one of the subjects, and the
// login's audience.
func (d Demand) admitsExact(list []exact) logic.Formula {
	parts := make([]logic.Formula, len(list))
	for i, x := range list {
		parts[i] = x.formula()
	}
	return logic.And(logic.Equals("aud", d.Audience()), logic.Or(parts...))
}

func (x exact) formula() logic.Formula {
	return logic.And(logic.Equals("iss", x.Issuer), logic.Equals("sub", x.Subject))
}

// An exacter lists subjects, and by rule which of them are its own and what
// cannot be listed.
type exacter struct {
	d        Demand
	provider string
	list     []exact
	own      []logic.Formula
	holds    [][]string // what the subjects are made of, where the search does not decide
	narrower [][]Gap
}

func (e *exacter) add(r Rule) error {
	s := e.d.subjects(r, false)
	if len(s.Patterns) == 0 {
		return usage("target %q, %s: %s compares whole subjects, and this one is not known: %s", e.d.Target.Name(), r.label(),
			e.provider, s.Unknown)
	}
	gaps := slices.Clone(s.Narrower)
	if s.Unknown != "" {
		gaps = append(gaps, Gap{"sub", "some subjects cannot be listed", s.Unknown})
	}
	var own []logic.Formula
	for _, p := range s.Patterns {
		if strings.Contains(p, "*") {
			gaps = append(gaps, e.unlisted(r, p))
			continue
		}
		x := exact{r.Identity.Issuer, p}
		if !slices.Contains(e.list, x) {
			e.list = append(e.list, x)
		}
		own = append(own, x.formula())
	}
	e.own = append(e.own, logic.Or(own...))
	e.holds = append(e.holds, s.Holds)
	e.narrower = append(e.narrower, gaps)
	return nil
}

// unlisted is the gap for a subject with a wildcard, by the claim that brings it.
func (e *exacter) unlisted(r Rule, pattern string) Gap {
	claim := "sub"
	for _, c := range r.Conditions {
		if _, ok := c.Literals(); !ok && slices.ContainsFunc(c.Patterns, func(p string) bool { return strings.Contains(pattern, p) }) {
			claim = c.Claim
		}
	}
	closes := "write each value of " + claim + " in the rule"
	if claim == "ref" {
		closes += ", or an environment, whose subject does not have the ref"
	}
	return Gap{claim, fmt.Sprintf("%s compares whole subjects, so those of %q cannot be listed", e.provider, pattern), closes}
}

// reports says of each rule what the subjects hold it to. It asks the same
// search that compares trust with policies.
func (e *exacter) reports(admits logic.Formula) (list []RuleReport) {
	find := newSearch(e.d, admits)
	denied := len(e.d.Deny) > 0 && find(logic.And(admits, e.d.DenyFormula())) != nil
	for i, r := range e.d.Rules {
		rep := report(r)
		own := logic.And(e.own[i], logic.Equals("aud", e.d.Audience()))
		if len(e.own[i].Claims()) > 0 { // else none is listed
			e.d.judge(&rep, r, own, e.holds[i], find, e.provider+" compares issuer, subject and audience only")
		}
		if denied {
			rep.wider("deny", e.provider+" has no rule that refuses", "")
		}
		for _, gap := range e.narrower[i] {
			rep.narrower(gap.Claim, gap.Why, gap.ClosesWith)
		}
		if len(rep.Narrower) == 0 {
			e.refused(&rep, r, admits, find)
		}
		list = append(list, rep)
	}
	return list
}

// refused says whether the rule admits tokens whose subjects are not listed.
func (e *exacter) refused(rep *RuleReport, r Rule, admits logic.Formula, find searcher) {
	token := find(logic.And(r.Formula(), logic.Equals("aud", e.d.Audience()), logic.Not(e.d.DenyFormula()),
		logic.Not(admits), e.d.known()))
	if token != nil {
		rep.narrower("sub", fmt.Sprintf("the rule also admits subjects that are not known, such as %q", token["sub"]),
			"name repository_id and repository_owner_id in the rule")
	}
}

// A searcher finds a token that meets a condition, nil for none.
type searcher func(logic.Formula) map[string]string

// newSearch returns a function that finds a token which meets a condition on
// what the trust and the policy ask about. It returns an empty token where
// that is not decided, so that nothing counts as enforced that is not.
func newSearch(d Demand, admits logic.Formula) searcher {
	finder := logic.NewFinder(logic.Vocabulary(admits, d.PolicyFormula(), d.known()), d.worlds())
	return func(f logic.Formula) map[string]string {
		token, decided := finder.Find(f)
		if token == nil && !decided {
			return map[string]string{}
		}
		return token
	}
}

// judge says which conditions of a rule the tokens in own all meet, and which
// they do not: those that the policy does not admit by another rule are wider.
// Where no such token is known, only what the subjects are made of counts.
func (d Demand) judge(rep *RuleReport, r Rule, own logic.Formula, holds []string, find searcher, why string) {
	var open []Condition
	real := find(own) != nil
	for _, c := range r.Conditions {
		missed := logic.And(own, logic.Not(r.Condition(c)))
		switch {
		case slices.Contains(holds, c.Claim):
			rep.enforces(c.Claim)
		case !real, find(logic.And(missed, logic.Not(d.PolicyFormula()), logic.Not(d.DenyFormula()))) != nil:
			open = append(open, c)
		case find(missed) == nil:
			rep.enforces(c.Claim)
		}
	}
	for _, c := range open {
		text := why + ", so it does not see " + c.Claim
		if c.Implied {
			text += fmt.Sprintf("; the rule admits %s", strings.Join(c.Patterns, ", "))
		}
		rep.wider(c.Claim, text, d.closes(r, c, open))
	}
}

// closes says how a subject of one's own holds a claim, where GitHub can put it there.
func (d Demand) closes(r Rule, c Condition, open []Condition) string {
	if r.Identity.Kind != "github" || slices.Contains(derivedClaims, c.Claim) || c.Claim == "sub" {
		return ""
	}
	keys := slices.DeleteFunc(slices.Clone(d.Options.SubTemplate), func(k string) bool { return k == "repo" || k == "context" })
	for _, o := range open {
		_, literal := o.Literals()
		if (literal || o.Claim == c.Claim) && !slices.Contains(derivedClaims, o.Claim) && o.Claim != "sub" && !slices.Contains(keys, o.Claim) {
			keys = append(keys, o.Claim)
		}
	}
	if _, literal := c.Literals(); !literal {
		return "each value of " + c.Claim + " in the rule, and " + customise(keys...)
	}
	return customise(keys...)
}

// derivedClaims are the policy's own, which no token has.
var derivedClaims = []string{"actor_kind", "pull_number"}

var (
	// dashForm is how GitHub's announcement of April 2026 wrote ids in a subject.
	dashForm  = lazy.MustCompile(`^repo:[A-Za-z0-9-]+-[0-9]+/[A-Za-z0-9._-]+-[0-9]+:`)
	namedForm = lazy.MustCompile(`^repo:[A-Za-z0-9-]+/[A-Za-z0-9._-]+:`)
	fullForm  = lazy.MustCompile(`^repo:[A-Za-z0-9-]+@[0-9]+/[A-Za-z0-9._-]+@[0-9]+:`)
)

// subjectFindings says what is wrong with a subject that is compared as a whole.
func (d Demand) subjectFindings(where, issuer, subject string) (list []Finding) {
	add := func(name, severity, format string, args ...any) {
		list = append(list, Finding{Name: name, Severity: severity, Message: where + ": " + fmt.Sprintf(format, args...)})
	}
	if strings.ContainsAny(subject, "*?") {
		add("wildcard-under-exact-operator", "warning", "the subject %q is compared as it is, so its wildcard matches "+
			"nothing: write each subject",
			subject)
	}
	if !d.github(issuer) {
		return list
	}
	switch {
	case fullForm.MatchString(subject):
	case dashForm.MatchString(subject) && !namedForm.MatchString(d.knownPrefix(subject)):
		add("old-subject-form", "error", "the subject %q has ids behind dashes, which no token has: write repo:OWNER@ID/REPOSITORY@ID", subject)
	case namedForm.MatchString(subject):
		add("name-only", "note", "the subject %q names the repository without its id: who gets the name after a deletion or a renaming "+
			"has the login, and a repository created, renamed or transferred after 15 July 2026 has another subject", subject)
	case strings.HasPrefix(subject, "repo:") && strings.ContainsAny(subject, "*?"): // a wildcard, which was meant as one
	default:
		add("customised-subject", "error", "the subject %q does not begin with the repository, so any repository can have it: begin with "+
			"the keys repo,context", subject)
	}
	if strings.HasSuffix(subject, ":pull_request") && !d.admitsPulls() {
		add("pull-request-subject", "warning", "the subject %q is that of every pull request, whose author chooses what runs", subject)
	}
	return list
}

// admitsPulls reports whether a rule is for pull requests.
func (d Demand) admitsPulls() bool {
	return slices.ContainsFunc(d.Rules, func(r Rule) bool {
		return slices.Contains(r.Of("event_name").Patterns, pullEvent) ||
			slices.ContainsFunc(r.Of("sub").Patterns, func(p string) bool { return strings.HasSuffix(p, ":"+pullEvent) })
	})
}

// knownPrefix returns the subject's repository where a rule names it.
func (d Demand) knownPrefix(subject string) string {
	for _, r := range d.Rules {
		for _, full := range r.Of("repository").Patterns {
			if prefix := "repo:" + full + ":"; strings.HasPrefix(subject, prefix) {
				return prefix
			}
		}
	}
	return ""
}

// github reports whether an issuer is one of GitHub's.
func (d Demand) github(issuer string) bool {
	for _, r := range d.Rules {
		if r.Identity.Issuer == issuer {
			return r.Identity.Kind == "github"
		}
	}
	return strings.HasPrefix(issuer, "https://token.actions.githubusercontent.com")
}
