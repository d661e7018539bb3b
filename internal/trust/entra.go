package trust

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// entraLanguage is the federated identity credentials of an application or a
// managed identity in Microsoft Entra ID.
var entraLanguage = language{generate: generateEntra, read: readEntra, rotate: rotateEntra, revoke: revokeEntra}

// Limits of Microsoft Entra ID. (Important considerations and restrictions for
// federated identity credentials)
const (
	maxEntraCredentials = 20
	maxEntraText        = 600 // characters of issuer, subject and audience; the page has none for expressions
	maxEntraName        = 120
)

// flexibleIssuer is the only one of GitHub's whose tokens a flexible credential
// may match: not that of an enterprise, of a server or of ghe.com.
const flexibleIssuer = "https://token.actions.githubusercontent.com"

// An entraCredential is a federatedIdentityCredential of Microsoft Graph. It
// has either a subject or, if it is a flexible one, an expression.
type entraCredential struct {
	Name       string           `json:"name"`
	Issuer     string           `json:"issuer"`
	Subject    string           `json:"subject,omitempty"`
	Expression *entraExpression `json:"claimsMatchingExpression,omitempty"`
	Audiences  []string         `json:"audiences"`

	parts entraComparisons // of the expression
}

// An entraExpression is what a flexible credential has in place of a subject.
type entraExpression struct {
	Value   string `json:"value"`
	Version int    `json:"languageVersion"`
}

// entraComparisons are the parts of an expression, all of which a token must meet.
type entraComparisons []entraComparison

// An entraComparison is one of them: `eq` compares the text, and `matches` a pattern
// in which `*` is any run of characters and `?` is one.
type entraComparison struct{ claim, operator, text string }

// entraCompared is the comparison of a claim with a pattern in the policy's form.
func entraCompared(claim, pattern string) entraComparison {
	if !strings.Contains(pattern, "*") {
		return entraComparison{claim, "eq", pattern}
	}
	for strings.Contains(pattern, "**") {
		pattern = strings.ReplaceAll(pattern, "**", "*")
	}
	return entraComparison{claim, "matches", pattern}
}

func (list entraComparisons) String() string {
	parts := make([]string, len(list))
	for i, c := range list {
		parts[i] = fmt.Sprintf("claims['%s'] %s '%s'", c.claim, c.operator, c.text)
	}
	return strings.Join(parts, " and ")
}

func (list entraComparisons) formula() logic.Formula {
	parts := make([]logic.Formula, len(list))
	for i, c := range list {
		if c.operator == "matches" {
			parts[i] = logic.Is(c.claim, logic.Glob(c.text, true))
		} else {
			parts[i] = logic.Equals(c.claim, c.text)
		}
	}
	return logic.And(parts...)
}

// formula is met by the tokens that the credential lets in.
func (c entraCredential) formula() logic.Formula {
	claims := logic.Equals("sub", c.Subject)
	if c.Expression != nil {
		claims = c.parts.formula()
	}
	return logic.And(logic.Equals("iss", c.Issuer), logic.Equals("aud", c.Audiences...), claims)
}

// entraAdmits is met by the tokens that any of the credentials lets in.
func entraAdmits(list []entraCredential) logic.Formula {
	parts := make([]logic.Formula, len(list))
	for i, c := range list {
		parts[i] = c.formula()
	}
	return logic.Or(parts...)
}

// An entraIdentity is what logs in, and how its credentials are written.
type entraIdentity struct {
	d        Demand
	managed  bool
	flexible string // auto, never, always
	cloud    entraCloud
}

// An entraCloud is one of Azure's clouds. (Microsoft Graph: National cloud
// deployments; az cloud list)
type entraCloud struct{ authority, name, graph, terraform string }

// entraClouds are the clouds, the public one first.
var entraClouds = []entraCloud{
	{"https://login.microsoftonline.com", "AzureCloud", "https://graph.microsoft.com", "public"},
	{"https://login.microsoftonline.us", "AzureUSGovernment", "https://graph.microsoft.us", "usgovernment"},
	{"https://login.partner.microsoftonline.cn", "AzureChinaCloud", "https://microsoftgraph.chinacloudapi.cn", "china"},
	{"https://login.chinacloudapi.cn", "AzureChinaCloud", "https://microsoftgraph.chinacloudapi.cn", "china"},
}

func (d Demand) entraIdentity() (entraIdentity, error) {
	e := entraIdentity{d: d, flexible: "auto", cloud: entraClouds[0]}
	for _, c := range entraClouds {
		if strings.TrimSuffix(d.Get("authority"), "/") == c.authority {
			e.cloud = c
		}
	}
	switch kind := d.Options.Values["identity"]; kind {
	case "", "application":
	case "managed":
		e.managed = true
	default:
		return e, usage("--set identity=%s: want application or managed", kind)
	}
	if mode := d.Options.Values["flexible"]; mode != "" {
		if !slices.Contains([]string{"auto", "never", "always"}, mode) {
			return e, usage("--set flexible=%s: want auto, never or always", mode)
		}
		e.flexible = mode
	}
	if e.managed && e.flexible == "always" {
		return e, usage("--set flexible=always: flexible credentials are for applications, not for managed identities")
	}
	return e, nil
}

func generateEntra(d Demand) (Wall, error) {
	e, err := d.entraIdentity()
	if err != nil {
		return Wall{}, err
	}
	list, reports, err := e.credentials()
	if err != nil {
		return Wall{}, err
	}
	w := Wall{Rules: reports, Admits: entraAdmits(list), Notes: e.notes(list)}
	w.Documents = []Document{{"entra.json", asJSON(list)}}
	w.Terraform = e.terraform(list)
	w.Script = e.script(list)
	return w, nil
}

// credentials returns the credentials for the rules, and what they leave open.
func (e entraIdentity) credentials() ([]entraCredential, []RuleReport, error) {
	x := &exacter{d: e.d, provider: "Entra ID"}
	var list []entraCredential
	for _, r := range e.d.Rules {
		before := len(x.list)
		made, err := []entraCredential(nil), error(nil)
		if e.wantsFlexible(r) {
			made, err = e.addFlexible(x, r)
		} else if err = x.add(r); err == nil {
			for _, subject := range x.list[before:] {
				made = append(made, entraCredential{Issuer: subject.Issuer, Subject: subject.Subject})
			}
		}
		if err != nil {
			return nil, nil, err
		}
		for _, c := range made {
			c.Audiences = []string{e.d.Audience()}
			c.Name = e.name(c)
			if !slices.ContainsFunc(list, func(have entraCredential) bool { return have.Name == c.Name }) {
				list = append(list, c)
			}
		}
	}
	if err := e.within(list); err != nil {
		return nil, nil, err
	}
	reports := x.reports(entraAdmits(list))
	e.explain(reports)
	return list, reports, nil
}

// canFlexible reports whether a flexible credential can hold a rule: it must
// compare an id.
func (e entraIdentity) canFlexible(r Rule) bool {
	return !e.managed && e.flexible != "never" && r.Identity.Issuer == flexibleIssuer && len(entraIDs(r)) > 0
}

// entraIDs are the claims of a rule with ids that can be compared.
func entraIDs(r Rule) (claims []string) {
	for _, claim := range []string{"repository_owner_id", "repository_id"} {
		if _, literal := r.Of(claim).Literals(); literal {
			claims = append(claims, claim)
		}
	}
	return claims
}

// wantsFlexible reports whether a rule gets flexible credentials: where they
// hold more of it than standard ones, or those cannot be listed.
func (e entraIdentity) wantsFlexible(r Rule) bool {
	if !e.canFlexible(r) || e.flexible == "always" {
		return e.canFlexible(r)
	}
	if r.Names("job_workflow_ref") && !slices.Contains(e.d.Options.SubTemplate, "job_workflow_ref") {
		return true
	}
	patterns := e.d.subjects(r, false).Patterns
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return strings.Contains(p, "*") })
}

// addFlexible returns a credential for each alternative of a rule: an
// expression has no `or`.
func (e entraIdentity) addFlexible(x *exacter, r Rule) (list []entraCredential, err error) {
	var own []logic.Formula
	var gaps []Gap
	for _, one := range alternatives(r, append(entraIDs(r), "job_workflow_ref")...) {
		s := e.d.subjectsOnly(one)
		gaps = s.Narrower
		for _, p := range s.Patterns {
			c := entraCredential{Issuer: r.Identity.Issuer, parts: entraComparisons{entraCompared("sub", p)}}
			for _, claim := range append(entraIDs(r), "job_workflow_ref") {
				if one.Names(claim) {
					c.parts = append(c.parts, entraCompared(claim, one.Of(claim).Patterns[0]))
				}
			}
			if err := e.quotable(r, c.parts); err != nil {
				return nil, err
			}
			c.Expression = &entraExpression{Value: c.parts.String(), Version: 1}
			list = append(list, c)
			own = append(own, logic.And(logic.Equals("iss", c.Issuer), c.parts.formula()))
		}
	}
	x.own = append(x.own, logic.Or(own...))
	x.holds = append(x.holds, nil)
	x.narrower = append(x.narrower, gaps)
	return list, nil
}

// quotable refuses texts with a quote: how an expression escapes it is not
// specified.
func (e entraIdentity) quotable(r Rule, list entraComparisons) error {
	for _, c := range list {
		if strings.Contains(c.text, "'") {
			return usage("target %q, %s: %q of a flexible credential has a single quote, and Entra ID does not say how it is written: "+
				"use another name, or --set flexible=never", e.d.Target.Name(), r.label(), c.text)
		}
	}
	return nil
}

// alternatives returns the rule once for each pattern of some claims that it
// names, in each combination.
func alternatives(r Rule, claims ...string) []Rule {
	list := []Rule{r}
	for _, claim := range claims {
		if !r.Names(claim) {
			continue
		}
		var longer []Rule
		for _, one := range list {
			for _, p := range r.Of(claim).Patterns {
				longer = append(longer, one.with(Condition{Claim: claim, Patterns: []string{p}}))
			}
		}
		list = longer
	}
	return list
}

// with returns the rule with another condition on a claim.
func (r Rule) with(c Condition) Rule {
	r.Conditions = slices.Clone(r.Conditions)
	for i, have := range r.Conditions {
		if have.Claim == c.Claim {
			r.Conditions[i] = c
		}
	}
	return r
}

// name is the credential's.
func (e entraIdentity) name(c entraCredential) string {
	text := c.Subject
	if c.Expression != nil {
		text = c.parts[0].text
	}
	return named(e.d.Name(), text, maxEntraName, c.Issuer, c.Subject, c.parts.String(), c.Audiences[0])
}

// slug writes a text by letters, digits and hyphens.
func slug(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
	return strings.Join(words, "-")
}

// within checks Entra ID's limits.
func (e entraIdentity) within(list []entraCredential) error {
	target := e.d.Target.Name()
	switch {
	case len(list) == 0:
		return usage("target %q: Entra ID's standard credentials compare whole subjects, and those of its rules cannot be listed: write "+
			"values without wildcards, or give each rule a literal repository_id or repository_owner_id, with which an application's "+
			"flexible credential can match wildcards", target)
	case len(list) > maxEntraCredentials:
		return usage("target %q: its rules come to %d federated credentials, and an application or managed identity has at most %d: "+
			"name fewer alternatives, leave a key out of --sub-template, or use several identities by a ${claim} in `client_id`",
			target, len(list), maxEntraCredentials)
	}
	for _, c := range list {
		texts := []struct{ what, text string }{{"issuer", c.Issuer}, {"subject", c.Subject}, {"audience", c.Audiences[0]},
			{"expression", c.parts.String()}}
		for _, t := range texts {
			if n := utf8.RuneCountInString(t.text); n > maxEntraText {
				return usage("target %q: the %s %q has %d characters, and Entra ID takes %d: use shorter names or fewer keys in "+
					"--sub-template", target, t.what, t.text, n, maxEntraText)
			}
		}
	}
	return nil
}

// explain says of gaps what a flexible credential would do about them.
func (e entraIdentity) explain(reports []RuleReport) {
	for i, r := range e.d.Rules {
		rep, flexible := &reports[i], e.wantsFlexible(r)
		for j := range rep.WiderBy {
			g := &rep.WiderBy[j]
			_, literal := r.Of(g.Claim).Literals()
			switch {
			case flexible && !literal && r.Names(g.Claim) && strings.Contains(g.Why, "does not see"):
				g.Why = "in Entra ID's patterns `*` also matches `/` and `:`, and control characters"
				g.ClosesWith = "each value in the rule"
			case flexible && r.Names(g.Claim):
				g.Why = strings.Replace(g.Why, "Entra ID compares issuer, subject and audience only",
					"a flexible credential compares sub, the ids and job_workflow_ref only", 1)
			case !flexible && slices.Contains([]string{"repository_id", "repository_owner_id", "job_workflow_ref"}, g.Claim):
				g.ClosesWith = either(e.byFlexible(r), g.ClosesWith)
			}
		}
		for j := range rep.Narrower {
			if g := &rep.Narrower[j]; !flexible && strings.Contains(g.Why, "cannot be listed") {
				g.ClosesWith = either(g.ClosesWith, e.byFlexible(r))
			}
		}
	}
}

// byFlexible is how a rule gets a flexible credential, "" where it cannot.
func (e entraIdentity) byFlexible(r Rule) string {
	switch {
	case e.managed || r.Identity.Issuer != flexibleIssuer:
		return ""
	case e.flexible == "never":
		return "a flexible credential: without --set flexible=never"
	case len(entraIDs(r)) == 0:
		return "a flexible credential, for which the rule must name repository_id or repository_owner_id"
	}
	return "a flexible credential: --set flexible=always"
}

func either(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; or " + b
}

// notes are what the owner must know before.
func (e entraIdentity) notes(list []entraCredential) (notes []string) {
	flexible := slices.ContainsFunc(list, func(c entraCredential) bool { return c.Expression != nil })
	if flexible {
		notes = append(notes, "flexible credentials are a preview, in the beta version of Microsoft Graph: --set "+
			"flexible=never does without them")
	}
	if e.managed {
		notes = append(notes, "flexible credentials are not used for managed identities, which Entra ID refused for GitHub's tokens")
	}
	return append(notes,
		"a new credential takes some minutes to spread: until then logins fail with AADSTS70021 or AADSTS700213",
		"every credential of an application or identity logs in to all of it: give each target its own")
}
