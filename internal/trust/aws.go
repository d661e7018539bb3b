package trust

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// awsLanguage is IAM's: the trust policy of the role, one statement a rule.
var awsLanguage = language{generate: generateAWS, read: readAWS, rotate: rotateAWS, revoke: revokeAWS}

var awsRoleARN = lazy.MustCompile(`^arn:(aws(?:-[a-z]+)*):iam::([0-9]{12}):role(/(?:[^/${}]+/)*)([^/${}]+)$`)

// An awsRole is a role's ARN in its parts.
type awsRole struct{ arn, partition, account, path, name string }

// roleOf takes the ARN under a key of the exchange apart.
func (d Demand) roleOf(key string) (awsRole, error) {
	m := awsRoleARN.FindStringSubmatch(d.Get(key))
	if m == nil {
		return awsRole{}, usage(
			"target %q: %s is %q, and AWS needs a trust policy for each role: name roles that a rule's "+
				"claims tell, not the number of a pull request", d.Target.Name(), key, d.Get(key))
	}
	return awsRole{m[0], m[1], m[2], m[3], m[4]}, nil
}

func (r awsRole) provider(issuer string) string {
	return "arn:" + r.partition + ":iam::" + r.account + ":oidc-provider/" + bare(issuer)
}

// An awsTrust is the trust of a login's first role in the making.
type awsTrust struct {
	d          Demand
	role       awsRole
	statements []awsStatement
	reports    []RuleReport
	notes      []string
}

func generateAWS(d Demand) (Wall, error) {
	t, err := d.awsTrust()
	if err != nil {
		return Wall{}, err
	}
	return t.wall(nil)
}

// awsTrust writes the statements of the role that takes the ID token.
func (d Demand) awsTrust() (*awsTrust, error) {
	role, err := d.roleOf("role")
	if err != nil {
		return nil, err
	}
	t := &awsTrust{d: d, role: role}
	for _, r := range d.Rules {
		if err := t.rule(r); err != nil {
			return nil, err
		}
	}
	t.deny()
	return t, nil
}

func (t *awsTrust) note(text string) {
	if !slices.Contains(t.notes, text) {
		t.notes = append(t.notes, text)
	}
}

// rule adds the statements of a rule: one, and more only where patterns with
// other numbers of `/` need them.
func (t *awsTrust) rule(r Rule) error {
	out := report(r)
	blocks := []awsBlock{{opEquals: {audienceKey(r): {awsText(t.d.Audience())}}}}
	subjects, err := t.subjects(r, &out)
	if err != nil {
		return err
	}
	blocks = crossed(blocks, subjects)
	for _, c := range r.Conditions {
		if tests, enforced := t.tests(r, c); enforced {
			blocks = crossed(blocks, tests)
			t.exact(r, c, tests, &out)
		} else {
			t.implied(r, c, &out)
		}
	}
	if r.Identity.Kind == "github" && r.Identity.Issuer != githubIssuer {
		t.note(
			fmt.Sprintf(
				"AWS does not say that it reads more than sub and aud of %s: every other claim is left to the subject",
				r.Identity.Issuer),
		)
	}
	for i, b := range blocks {
		t.statements = append(t.statements, t.statement(sidOfPart("Rule", r, i), "Allow", r, b))
	}
	t.reports = append(t.reports, out)
	return nil
}

// sidOfPart names the i-th statement of a rule.
func sidOfPart(kind string, r Rule, i int) string {
	if i == 0 {
		return fmt.Sprintf("%s%d", kind, r.Number)
	}
	return fmt.Sprintf("%s%dPart%d", kind, r.Number, i+1)
}

func (t *awsTrust) statement(sid, effect string, r Rule, b awsBlock) awsStatement {
	return awsStatement{
		sid: sid, effect: effect, issuer: r.Identity.Issuer, provider: t.role.provider(r.Identity.Issuer),
		source: t.d.providerName(r.Identity) + ".arn", actions: []string{webIdentity}, conditions: b,
	}
}

// providerName is the address of the issuer's provider in Terraform.
func (d Demand) providerName(id policy.Identity) string {
	kind := "data.aws_iam_openid_connect_provider."
	if d.Options.Values["oidc-provider"] == "create" {
		kind = "aws_iam_openid_connect_provider."
	}
	return kind + hclName(id.Name)
}

// audienceKey is the key that has the token's `aud`: `aud` itself is `azp`
// where the token has one.
func audienceKey(r Rule) string {
	if mayHaveAZP(r.Identity.Kind) {
		return "oaud"
	}
	return "aud"
}

// mayHaveAZP reports whether tokens of a kind may name an authorised party:
// those of identity providers, and Google's.
func mayHaveAZP(kind string) bool {
	return kind == "people" || kind == "google" || kind == "workload" || kind == "warp"
}

// tests returns what holds a rule's condition at AWS; enforced is false where
// AWS has no key for it. The subject has its own.
func (t *awsTrust) tests(r Rule, c Condition) (list []awsBlock, enforced bool) {
	github := r.Identity.Kind == "github" && awsReads(r.Identity.Issuer, "repository")
	switch {
	case c.Claim == "sub", c.Claim == "aud":
		return nil, false
	case github && c.Claim == "repository_owner" && !r.Names("repository"):
		return awsTests("repository", suffixed(c.Patterns, "/*"), true), true
	case github && c.Claim == "pull_number":
		return awsTests("ref", suffixed(prefixed("refs/pull/", c.Patterns), "/merge"), true), true
	case github && c.Claim == "actor_kind":
		return r.actorTests(c.Patterns), true
	case awsReads(r.Identity.Issuer, c.Claim):
		return awsTests(c.Claim, c.Patterns, true), true
	}
	return nil, false
}

func suffixed(list []string, suffix string) (out []string) {
	for _, text := range list {
		out = append(out, text+suffix)
	}
	return out
}

func prefixed(prefix string, list []string) (out []string) {
	for _, text := range list {
		out = append(out, prefix+text)
	}
	return out
}

// actorTests tell agents, bots and people by the account.
func (r Rule) actorTests(kinds []string) (list []awsBlock) {
	agents := make([]string, len(r.actors.AgentNames))
	for i, a := range r.actors.AgentNames {
		agents[i] = awsText(a)
	}
	ids := r.actors.AgentIDs
	for _, kind := range kinds {
		switch kind {
		case "agent":
			list = append(list, awsBlock{opIgnoreCase: {"actor": agents}}, awsBlock{opEquals: {"actor_id": ids}})
		case "bot":
			list = append(list, awsBlock{opLike: {"actor": {"*[bot]"}}, opNotIgnoring: {"actor": agents}, opNotEquals: {"actor_id": ids}})
		default:
			list = append(list, awsBlock{opLike: {"actor": {"*"}}, opNotLike: {"actor": {"*[bot]"}}, opNotIgnoring: {"actor": agents},
				opNotEquals: {"actor_id": ids}})
		}
	}
	return list
}

// exact notes that a condition is enforced, or that IAM's wildcards admit more
// than the policy's.
func (t *awsTrust) exact(r Rule, c Condition, tests []awsBlock, out *RuleReport) {
	wild := false
	var inexact []string
	for _, p := range c.Patterns {
		wild = wild || strings.Contains(p, "*")
		if !exactLimits(c.Claim, p) {
			inexact = append(inexact, p)
		}
	}
	if wild {
		t.note("AWS's wildcards also match control characters, U+2028 and U+2029, which the policy's do not")
	}
	if inexact != nil && t.differs(r, c, tests) {
		out.wider(c.Claim,
			fmt.Sprintf("AWS has one wildcard for `*` and `**`, which matches any characters, so that %s also "+
				"matches values that the policy refuses", quotedList(inexact)),
			"a pattern with only one kind of wildcard")
		return
	}
	out.enforces(c.Claim)
}

// differs reports whether a token of the issuer's meets the tests and not the condition.
func (t *awsTrust) differs(r Rule, c Condition, tests []awsBlock) bool {
	parts := make([]logic.Formula, len(tests))
	for i, b := range tests {
		parts[i] = b.formula(r.Identity)
	}
	admitted, meant := logic.Or(parts...), r.Condition(c)
	worlds := []logic.World{{Always: []string{c.Claim}, Domain: githubDomains}}
	if c.Claim == "sub" || c.Claim == "ref" {
		worlds = Demand{Rules: []Rule{r}, Options: t.d.Options}.worlds()
	}
	token, decided := logic.NewFinder(logic.Vocabulary(admitted, meant), worlds).
		Find(logic.And(admitted, logic.Not(meant)))
	return token != nil || !decided
}

func quotedList(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = fmt.Sprintf("%q", text)
	}
	return strings.Join(quoted, ", ")
}

// implied reports on a claim without a key: other conditions may hold it.
func (t *awsTrust) implied(r Rule, c Condition, out *RuleReport) {
	switch {
	case slices.Contains(out.Enforced, c.Claim):
	case slices.ContainsFunc(out.WiderBy, func(g Gap) bool { return g.Claim == c.Claim }):
	case r.implies(c):
		out.enforces(c.Claim)
	case r.Identity.Issuer == githubIssuer:
		why := "AWS has no condition key for it"
		if c.Implied {
			why += ": it admits all other events, too"
		}
		out.wider(c.Claim, why, r.closing(c.Claim))
	default:
		out.wider(c.Claim, "AWS reads only sub and aud of this issuer", r.closing(c.Claim))
	}
}

// closing is what closes the gap of a claim, "" for nothing.
func (r Rule) closing(claim string) string {
	if r.Identity.Kind != "github" || !policy.InSubject(claim) {
		return ""
	}
	return customise(claim)
}

// implies reports whether a claim of GitHub's follows from the other
// conditions of the rule, which AWS enforces.
func (r Rule) implies(c Condition) bool {
	if r.Identity.Issuer != githubIssuer {
		return false
	}
	switch c.Claim {
	case "repository_owner":
		return r.Names("repository") && r.ownersAre(r.Of("repository").Patterns)
	case "ref_type":
		return everyOne(r.Of("ref").Patterns, func(ref string) bool {
			kind := ""
			switch {
			case strings.HasPrefix(ref, "refs/tags/"):
				kind = "tag"
			case strings.HasPrefix(ref, "refs/heads/"), strings.HasPrefix(ref, "refs/pull/"):
				kind = "branch"
			}
			return slices.Contains(c.Patterns, kind)
		})
	}
	return false
}

func everyOne(list []string, ok func(string) bool) bool {
	return len(list) > 0 && !slices.ContainsFunc(list, func(text string) bool { return !ok(text) })
}

// subjects returns the tests of `sub`. Every statement has one: IAM refuses a
// new or changed trust policy for GitHub and other shared issuers without it.
func (t *awsTrust) subjects(r Rule, out *RuleReport) ([]awsBlock, error) {
	c := r.Of("sub")
	if c.Claim != "" && len(t.d.Options.SubTemplate) > 0 && r.Identity.Kind == "github" {
		return nil, usage("target %q, %s names `sub`, which --sub-template changes: name the claims in it instead",
			t.d.Target.Name(), r.label())
	}
	if r.Identity.Kind == "github" && c.Claim != "" {
		return t.givenSubjects(r, c, out), nil
	}
	s := t.d.subjects(r, true)
	if s.Unknown != "" {
		if r.Identity.Kind != "github" && r.Names("email") {
			return []awsBlock{{}}, nil
		}
		return nil, usage(
			"target %q, %s: AWS reads only sub and aud of %s: name `sub` in the rule, or any token of the issuer "+
				"would be admitted", t.d.Target.Name(), r.label(), r.Identity.Issuer)
	}
	own := r.Identity.Issuer == githubIssuer && len(t.d.Options.SubTemplate) == 0
	if slices.ContainsFunc(s.Patterns, func(p string) bool { return strings.HasPrefix(p, "repo:*/") }) {
		t.note("the subject has no owner's name, and IAM may refuse that: give --repository ID=OWNER/REPOSITORY")
	}
	for _, claim := range s.Holds {
		if !awsReads(r.Identity.Issuer, claim) || claim == "sub" {
			out.enforces(claim)
		}
	}
	out.Narrower = append(out.Narrower, s.Narrower...)
	tests := awsTests("sub", s.Patterns, !own)
	if r.Identity.Kind != "github" {
		t.exact(r, c, tests, out)
	}
	return tests, nil
}

// givenSubjects are those that the rule names, and the same in the other form
// of GitHub's: with any ids where it has none, else with its ids as claims.
func (t *awsTrust) givenSubjects(r Rule, c Condition, out *RuleReport) (list []awsBlock) {
	var patterns []string
	for _, p := range c.Patterns {
		s, ok := policy.SubjectOf(p)
		if !ok || s.OwnerID == "" {
			patterns = append(patterns, p)
			if ok {
				patterns = append(patterns, "repo:"+s.Owner+"@*/"+s.Repo+"@*:"+s.Rest)
			}
			continue
		}
		list = append(list, awsTests("sub", []string{p}, true)...)
		if !awsReads(r.Identity.Issuer, "repository_id") {
			out.narrower("sub",
				"AWS does not read the ids of this issuer's tokens, so that the subject without ids is left out", "")
			continue
		}
		plain := awsTests("sub", []string{"repo:" + s.Owner + "/" + s.Repo + ":" + s.Rest}, true)
		plain = crossed(plain, awsTests("repository_owner_id", []string{s.OwnerID}, true))
		list = append(list, crossed(plain, awsTests("repository_id", []string{s.RepoID}, true))...)
	}
	if patterns != nil {
		list = append(awsTests("sub", patterns, true), list...)
	}
	t.exact(r, c, list, out)
	return list
}

// deny adds a statement for each rule of `deny`. A rule that AWS cannot read
// wholly is a gap of every rule: as a statement it would keep out others.
func (t *awsTrust) deny() {
	for _, r := range t.d.Deny {
		blocks := []awsBlock{{}}
		out := report(r)
		for _, c := range r.Conditions {
			var tests []awsBlock
			enforced := true
			if c.Claim == "sub" {
				tests = t.givenSubjects(r, c, &out)
			} else if tests, enforced = t.tests(r, c); enforced {
				t.exact(r, c, tests, &out)
			}
			if enforced {
				blocks = crossed(blocks, tests)
			} else {
				t.implied(r, c, &out)
			}
		}
		if len(out.WiderBy) > 0 || len(out.Narrower) > 0 {
			why := fmt.Sprintf("AWS cannot read all of deny rule %d (line %d)", r.Number, r.Line)
			if len(out.WiderBy) > 0 {
				why += ": " + out.WiderBy[0].Claim
			}
			for i := range t.reports {
				t.reports[i].wider("deny", why, "")
			}
			continue
		}
		for i, b := range blocks {
			t.statements = append(t.statements, t.statement(sidOfPart("Deny", r, i), "Deny", r, b))
		}
	}
}

// longest is how long a session of the first role must live.
func (d Demand) longestSession() time.Duration {
	if d.Get("then_assume.role") != "" || d.Provider() != "aws" {
		return 0
	}
	if life := d.Target.Lifetime(); life > time.Hour {
		return life
	}
	return 0
}
