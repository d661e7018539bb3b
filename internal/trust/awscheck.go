package trust

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// readAWS reads roles and OIDC providers as the AWS CLI prints them, and bare
// trust policies.
func readAWS(d Demand, files []File) (Reading, error) {
	r := awsReader{d: d}
	for _, f := range files {
		if err := r.file(f); err != nil {
			return Reading{}, err
		}
	}
	return r.reading()
}

// An awsReader gathers what files say of a login.
type awsReader struct {
	d         Demand
	policies  []iamPolicy // of the first role
	second    []iamPolicy // of the role that it assumes
	providers []iamProvider
	findings  []Finding
}

// iamProvider is what `aws iam get-open-id-connect-provider` prints.
type iamProvider struct {
	URL          string `json:"Url"`
	ClientIDList []string
}

const awsWants = "want what `aws iam get-role` or `aws iam get-open-id-connect-provider` prints, or a trust policy"

func (r *awsReader) find(severity, name, format string, args ...any) {
	r.findings = append(r.findings, Finding{Name: name, Severity: severity, Message: fmt.Sprintf(format, args...)})
}

// file reads one file, by what is in it.
func (r *awsReader) file(f File) error {
	var doc struct {
		Role         *iamRole
		Statement    json.RawMessage
		ClientIDList *[]string
		iamRole
		iamProvider
	}
	if err := json.Unmarshal(f.Text, &doc); err != nil {
		return usage("%s: %s: %v", f.Name, awsWants, err)
	}
	switch {
	case doc.Role != nil:
		return r.role(f.Name, *doc.Role)
	case doc.AssumeRolePolicyDocument != nil:
		return r.role(f.Name, doc.iamRole)
	case doc.Statement != nil:
		return r.trust(f.Name, f.Text, &r.policies)
	case doc.ClientIDList != nil:
		r.providers = append(r.providers, iamProvider{doc.URL, *doc.ClientIDList})
		return nil
	}
	return usage("%s: %s", f.Name, awsWants)
}

func (r *awsReader) role(name string, role iamRole) error {
	text, err := role.policyText(name)
	if err != nil {
		return err
	}
	first, second := r.d.Get("role"), r.d.Get("then_assume.role")
	if role.Arn == second && second != "" {
		return r.trust(name, text, &r.second)
	}
	if role.Arn != first && role.Arn != "" {
		r.find("error", "other-role", "%s is of role %s, and target %q logs in by %s", name, role.Arn,
			r.d.Target.Name(), first)
	}
	if want := int(r.d.longestSession().Seconds()); role.MaxSessionDuration > 0 && role.MaxSessionDuration < want {
		r.find("error", "session-too-short",
			"%s: sessions of the role live at most %d s, and the target's lifetime is %d s: "+
				"aws iam update-role --max-session-duration %d", name, role.MaxSessionDuration, want, want)
	}
	return r.trust(name, text, &r.policies)
}

func (r *awsReader) trust(name string, text []byte, into *[]iamPolicy) error {
	p, err := parseIAM(name, text)
	if err != nil {
		return err
	}
	n := awsLength(string(text))
	if n > awsRaised {
		return usage("%s: the trust policy has %d characters without white space, and IAM stores %d at most: want %s",
			name, n, awsRaised, "what `aws iam get-role` prints")
	}
	if n > awsQuota && len(r.policies) == 0 {
		r.find("note", "over-limit",
			"%s: the trust policy has %d characters without white space, and IAM's quota is %d "+
				"unless it was raised (L-C07B4B0D, at most %d)", name, n, awsQuota, awsRaised)
	}
	*into = append(*into, p)
	return nil
}

func (r *awsReader) reading() (Reading, error) {
	if len(r.policies) != 1 {
		return Reading{}, usage("%d trust policies of the role, want one: that of %s", len(r.policies), r.d.Get("role"))
	}
	ids := r.issuers(r.policies[0])
	admits := r.policies[0].admits(ids)
	for _, p := range r.providers {
		for _, id := range ids {
			if bare(id.Issuer) != bare(p.URL) {
				continue
			}
			others := logic.Not(logic.Equals("iss", id.Issuer))
			admits = logic.And(admits, logic.Or(others, logic.Equals("aud", p.ClientIDList...)))
			if !slices.Contains(p.ClientIDList, r.d.Audience()) {
				r.find("error", "audience-not-listed",
					"the provider of %s takes the audiences %s, and the tokens have %q: "+
						"aws iam add-client-id-to-open-id-connect-provider", id.Issuer, quotedList(p.ClientIDList),
					r.d.Audience())
			}
		}
	}
	r.statements(r.policies[0])
	for _, p := range r.second {
		r.chain(p)
	}
	return Reading{Admits: admits, Findings: r.findings}, nil
}

// statements looks for what is wrong with a trust policy on its own, whatever
// the policy says.
func (r *awsReader) statements(p iamPolicy) {
	var checked []iamChecks
	for _, s := range p.statements {
		if len(s.others) > 0 && !s.deny {
			r.find("warning", "other-principal", "%s also lets %s use %s, without an ID token", s.label,
				strings.Join(s.others, ", "), strings.Join(s.actions, ", "))
		}
		if s.deny {
			continue
		}
		if s.anyone || s.notThese {
			r.find("error", "any-principal", "%s is for every principal, any issuer of the account among them: "+
				"name the OIDC provider as Federated", s.label)
		}
		if !s.web {
			continue
		}
		for _, issuer := range s.issuers {
			c := iamChecks{s: s, id: r.identity(issuer), variables: p.variables}
			r.conditions(c)
			r.audience(c)
			r.subject(c)
			checked = append(checked, c)
		}
	}
	r.separate(checked)
}

// issuers are those of the rules, and the others that a trust policy names.
func (r *awsReader) issuers(p iamPolicy) (list []policy.Identity) {
	list = r.d.issuers()
	for _, s := range p.statements {
		for _, issuer := range s.issuers {
			if !slices.ContainsFunc(list, func(id policy.Identity) bool { return bare(id.Issuer) == issuer }) {
				list = append(list, r.identity(issuer))
			}
		}
	}
	return list
}

// identity is the policy's identity of an issuer, else one that is named after it.
func (r *awsReader) identity(issuer string) policy.Identity {
	for _, id := range r.d.issuers() {
		if bare(id.Issuer) == issuer {
			return id
		}
	}
	id := policy.Identity{Issuer: "https://" + issuer}
	if strings.HasPrefix(id.Issuer, githubIssuer) {
		id.Kind = "github"
	}
	return id
}

// iamChecks are a statement's conditions as those of one issuer.
type iamChecks struct {
	s         iamStatement
	id        policy.Identity
	variables bool
}

// held returns the conditions that hold a claim: only tokens that have it, with
// one of their values, meet them.
func (c iamChecks) held(claim string) (list []iamCondition) {
	for _, cond := range c.s.conditions {
		name, _ := cond.claim(c.id.Issuer)
		op, known := iamOperators[cond.operator]
		if name == claim && known && !op.negated && !cond.ifExists && cond.set != "ForAllValues" {
			list = append(list, cond)
		}
	}
	return list
}

func (c iamChecks) holds(claims ...string) bool {
	return slices.ContainsFunc(claims, func(claim string) bool { return len(c.held(claim)) > 0 })
}

// conditions looks at each condition on its own.
func (r *awsReader) conditions(c iamChecks) {
	for _, cond := range c.s.conditions {
		claim, foreign := cond.claim(c.id.Issuer)
		op := iamOperators[cond.operator]
		vacuous := cond.ifExists || cond.set == "ForAllValues" || op.negated
		switch {
		case foreign || cond.operator == "Null":
			continue
		case claim == "" && vacuous:
			r.find("error", "key-not-read", "%s: AWS has no value for %s, so %s is always met: nothing is checked",
				c.s.label, cond.key, cond.name)
			continue
		case claim == "":
			r.find("error", "key-not-read", "%s: AWS has no value for %s, so the statement admits no token of %s",
				c.s.label, cond.key, c.id.Issuer)
			continue
		case vacuous && !c.holds(claim):
			severity := "error"
			if slices.Contains(githubAlways, claim) && !op.negated {
				severity = "warning"
			}
			r.find(severity, "ignored-operator",
				"%s: %s on %s is also met by tokens without the claim%s: use StringEquals or StringLike", c.s.label,
				cond.name, cond.key, map[bool]string{true: ", and by every other value", false: ""}[op.negated])
		}
		if wild := wildcardIn(cond.values); wild != "" && strings.HasPrefix(cond.operator, "StringEquals") {
			r.find("error", "wildcard-under-exact-operator",
				"%s: %s of %s has %q, and compares it as it is: use StringLike", c.s.label, cond.name, cond.key, wild)
		}
	}
}

func wildcardIn(values []string) string {
	i := slices.IndexFunc(values,
		func(v string) bool { return strings.Contains(strings.ReplaceAll(v, "${*}", ""), "*") })
	if i < 0 {
		return ""
	}
	return values[i]
}

func (r *awsReader) audience(c iamChecks) {
	if !c.holds("aud", "oaud") {
		r.find("warning", "missing-audience",
			"%s does not check the audience: a token of %s that is for another service of the "+
				"provider's client ids is taken, too; add StringEquals %s:aud = %q", c.s.label, c.id.Issuer,
			bare(c.id.Issuer), r.d.Audience())
	}
}

// repositoryKeys hold a token of GitHub's to a repository, or to an owner.
var repositoryKeys = []string{"repository", "repository_id", "repository_owner_id"}

// subject looks at who a statement is for.
func (r *awsReader) subject(c iamChecks) {
	conds := c.held("sub")
	github := c.id.Kind == "github"
	switch {
	case len(conds) > 0:
	case github && c.holds(repositoryKeys...):
		r.find("warning", "missing-subject",
			"%s has no condition on sub: IAM refuses to create or change such a trust policy for a shared issuer",
			c.s.label)
	case c.holds("email"):
	default:
		r.find("error", "missing-subject",
			"%s has no condition on sub: every token of %s is admitted, whoever asked for it; "+
				"name the repository", c.s.label, c.id.Issuer)
	}
	ids := c.holds("repository_id", "repository_owner_id")
	old := ""
	for _, cond := range conds {
		for _, v := range cond.values {
			if !github {
				if strings.HasPrefix(v, "*") && iamOperators[cond.operator].wild {
					r.find("error", "wide-subject", "%s: sub %q begins with a wildcard: any token of %s may match",
						c.s.label, v, c.id.Issuer)
				}
				continue
			}
			r.githubSubject(c, v, iamOperators[cond.operator].wild)
			if s, ok := policy.SubjectOf(v); ok && s.OwnerID == "" {
				old = v
			} else if ok && strings.Trim(s.OwnerID+s.RepoID, "0123456789") == "" {
				ids = true
			}
		}
	}
	if github && old != "" && !ids {
		severity := "note"
		if slices.ContainsFunc(r.d.Rules,
			func(rule Rule) bool { return rule.Names("repository_id") || rule.Names("repository_owner_id") }) {
			severity = "warning"
		}
		r.find(severity, "name-only",
			"%s binds %q by its name, which another repository may have one day: add repository_id "+
				"or repository_owner_id", c.s.label, old)
	}
}

var awsDashForm = lazy.MustCompile(`^repo:[^/@:]+-[0-9]+/[^/@:]+-[0-9]+:`)

// chosenKeys begin subjects that any repository can have.
var chosenKeys = []string{
	"environment", "ref", "workflow", "context", "head_ref", "base_ref", "event_name", "actor", "workflow_ref", "ref_type",
}

// ownKeys begin subjects that say whose repository it is.
var ownKeys = []string{"repo", "repository", "repository_id", "repository_owner", "repository_owner_id"}

// githubSubject looks at one value of `sub`.
func (r *awsReader) githubSubject(c iamChecks, value string, wild bool) {
	key, rest, _ := strings.Cut(value, ":")
	switch {
	case slices.Contains(chosenKeys, key):
		r.find("error", "customised-subject",
			"%s: sub %q begins with %s, which other repositories can choose: begin with repo", c.s.label, value, key)
		return
	case !wild || !strings.ContainsAny(key, "*?"):
		if !slices.Contains(ownKeys, key) && !c.holds(repositoryKeys...) {
			r.find("error", "customised-subject",
				"%s: sub %q begins with %s, which does not say whose repository it is: begin with repo", c.s.label, value, key)
			return
		}
	}
	if awsDashForm.MatchString(value) {
		r.find("warning", "old-subject-form",
			"%s: sub %q looks like the form that GitHub announced and did not keep: ids are "+
				"behind @, as in repo:acme@9919/analytics@487920697:…", c.s.label, value)
	}
	if !wild || !strings.ContainsAny(value, "*?") {
		return
	}
	fixed := value[:strings.IndexAny(value, "*?")]
	owner, hasOwner := strings.CutPrefix(fixed, "repo:")
	repository, context, _ := strings.Cut(rest, ":")
	_, name, _ := strings.Cut(repository, "/")
	switch {
	case !hasOwner && key != "*" && strings.Contains(fixed, ":"):
	case !strings.ContainsAny(owner, "/@") || !hasOwner:
		severity := "error"
		if c.holds(repositoryKeys...) {
			severity = "note" // the other key says whose it is
		}
		r.find(severity, "wide-subject",
			"%s: the wildcard in sub %q is before the owner's name ends: repositories of other owners match",
			c.s.label, value)
	case strings.ContainsAny(name, "*?") && !strings.Contains(repository, "@") &&
		!c.holds(append(repositoryKeys, "job_workflow_ref")...):
		r.find("warning", "wide-subject",
			"%s: sub %q admits other repositories of the owner, and any workflow in them: "+
				"name the repository, or job_workflow_ref", c.s.label, value)
	case context == "*" && !c.holds("environment", "ref", "job_workflow_ref"):
		r.find("warning", "wide-subject",
			"%s: sub %q admits every branch, pull request and environment of the repository: "+
				"name the environment or the ref", c.s.label, value)
	}
}

// separate looks for statements that were meant to be one: each checks what the
// other leaves open.
func (r *awsReader) separate(list []iamChecks) {
	for i, a := range list {
		for _, b := range list[:i] {
			x, y := a.checkedClaims(), b.checkedClaims()
			if a.id.Issuer != b.id.Issuer || len(x) == 0 || len(y) == 0 ||
				slices.ContainsFunc(x, func(claim string) bool { return slices.Contains(y, claim) }) {
				continue
			}
			r.find("error", "separate-statements",
				"%s checks only %s, and %s only %s: statements are alternatives, so a token "+
					"needs to meet one; put the conditions into one statement", b.s.label, strings.Join(y, ", "),
				a.s.label, strings.Join(x, ", "))
		}
	}
}

func (c iamChecks) checkedClaims() (list []string) {
	for _, claim := range slices.Concat(awsKeys, awsGitHubKeys, []string{"oaud"}) {
		if c.holds(claim) {
			list = append(list, claim)
		}
	}
	return list
}

// chain looks at the trust of the second role.
func (r *awsReader) chain(p iamPolicy) {
	first, found := r.d.Get("role"), false
	for _, s := range p.statements {
		if s.deny {
			continue
		}
		bound := slices.ContainsFunc(s.conditions, func(c iamCondition) bool {
			return strings.EqualFold(c.key, "aws:PrincipalArn") && slices.Contains(c.values, first)
		})
		wide := s.anyone ||
			slices.ContainsFunc(s.others,
				func(o string) bool { return strings.HasSuffix(o, ":root") || !strings.HasPrefix(o, "arn:") })
		found = found || slices.Contains(s.others, first) || wide
		if wide && !bound {
			r.find("warning", "account-wide-policy",
				"then_assume, %s: every principal of the account that may assume roles is trusted: name %s",
				s.label, first)
		}
		external := slices.ContainsFunc(s.conditions,
			func(c iamCondition) bool { return strings.EqualFold(c.key, "sts:ExternalId") })
		if r.d.Get("then_assume.external_id") != "" && !external {
			r.find("warning", "missing-external-id",
				"then_assume, %s does not ask for the external id that the policy has", s.label)
		}
	}
	if !found {
		r.find("error", "chain-broken", "then_assume: the second role does not trust %s", first)
	}
}
