package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// gcpLanguage is a provider of a workload identity pool and the members that
// are bound by it.
//
// Members name the pool and not the provider, so a second provider of the pool
// could give any token the subject, or the claims, that a member asks for. What
// is bound is therefore the decision itself, as an attribute that only our
// provider maps. A provider has one mapping and one condition: all logins of the
// policy that name it are written together.
var gcpLanguage = language{nested: true, generate: generateGCP, read: readGCP, rotate: rotateGCP, revoke: revokeGCP}

// Limits of a provider. (IAM API: projects.locations.workloadIdentityPools.providers)
const (
	gcpConditionLimit  = 4096 // characters
	gcpMappingLimit    = 2048 // characters of one expression
	gcpSubjectLimit    = 127  // bytes
	gcpAttributeLimit  = 50
	gcpKeyLimit        = 100
	gcpAudiencesLimit  = 10
	gcpAudienceLimit   = 256
	gcpNone            = "none" // the attribute of a token that a target does not admit
	gcpAttributePrefix = "oidc_dbt_"
)

// A gcpProvider is what one provider is told, for all logins that name it.
type gcpProvider struct {
	name       string  // projects/N/locations/global/workloadIdentityPools/POOL/providers/PROVIDER
	own, next  *Demand // while it changes: what one of the logins becomes
	logins     []Demand
	issuer     policy.Identity
	audiences  []string
	subjects   celCode // how the subject begins, "true" where nothing is known
	holds      logic.Formula
	attributes []gcpAttribute
	subject    string // the expression of google.subject
	long       bool   // the token's own subject may be too long
}

// A gcpAttribute is the decision about one target: its value is the login.
type gcpAttribute struct{ target, key, expression string }

// gcpDocument is the provider as the API has it, with the members of the
// binding.
type gcpDocument struct {
	Name      string            `json:"name"`
	Mapping   map[string]string `json:"attributeMapping"`
	Condition string            `json:"attributeCondition"`
	OIDC      gcpOIDC           `json:"oidc"`
	Members   []string          `json:"members"`
}

type gcpOIDC struct {
	IssuerURI        string   `json:"issuerUri"`
	AllowedAudiences []string `json:"allowedAudiences"`
}

// gcpName takes the provider's name apart.
type gcpName struct{ project, pool, provider string }

func (d Demand) gcpName() gcpName {
	parts := strings.Split(d.Get("workload_identity_provider"), "/")
	return gcpName{project: parts[1], pool: parts[5], provider: parts[7]}
}

// sharing returns all logins of the policy that have the same provider, in the
// order of the policy, this one as it is.
func (d Demand) sharing() (list []Demand) {
	for _, name := range d.Policy.Targets() {
		t, err := d.Policy.Target(name)
		if err != nil {
			continue
		}
		for _, other := range Demands(d.Policy, t, d.Options) {
			switch {
			case other.Provider() != "gcp":
			case name == d.Target.Name() && other.Name() == d.Name():
				list = append(list, d)
			case other.Get("workload_identity_provider") == d.Get("workload_identity_provider"):
				if told, err := other.told(); err == nil { // else nothing is generated for it
					list = append(list, told)
				}
			}
		}
	}
	return list
}

// newGCPProvider returns the provider for all logins that share it. Where next is
// given, it lets in what the login is and what it becomes.
func newGCPProvider(d Demand, next *Demand) (*gcpProvider, error) {
	p := &gcpProvider{name: d.Get("workload_identity_provider"), own: &d, next: next, logins: d.sharing()}
	p.issuer = p.logins[0].Rules[0].Identity
	for _, l := range p.logins {
		for _, a := range p.audiencesOf(l) {
			if !slices.Contains(p.audiences, a) {
				p.audiences = append(p.audiences, a)
			}
		}
	}
	if n := len(p.audiences); n > gcpAudiencesLimit {
		return nil, usage("provider %s: the targets that name it have %d audiences, Google allows %d: give some "+
			"targets another provider",
			p.name, n, gcpAudiencesLimit)
	}
	for _, a := range p.audiences {
		if n := utf8.RuneCountInString(a); n > gcpAudienceLimit {
			return nil, usage("provider %s: audience %q has %d characters, Google allows %d", p.name, a, n,
				gcpAudienceLimit)
		}
	}
	if err := p.decide(); err != nil {
		return nil, err
	}
	p.begin(true)
	if utf8.RuneCountInString(p.condition()) > gcpConditionLimit {
		p.begin(false)
	}
	if n := utf8.RuneCountInString(p.condition()); n > gcpConditionLimit {
		return nil, usage("provider %s: the attribute condition has %d characters, Google allows %d: shorten "+
			"`deny`, or give some of the "+
			"targets %q another provider", p.name, n, gcpConditionLimit, p.targets())
	}
	return p, nil
}

// forms are a login as it is, and as it becomes. A subject's template is the
// repository's, so that all logins change with it.
func (p *gcpProvider) forms(l Demand) []Demand {
	switch {
	case p.next == nil:
		return []Demand{l}
	case l.Target.Name() == p.own.Target.Name() && l.Name() == p.own.Name():
		return []Demand{l, *p.next}
	}
	return []Demand{l, l.To("", p.next.Options.SubTemplate)}
}

func (p *gcpProvider) audiencesOf(l Demand) (list []string) {
	for _, form := range p.forms(l) {
		list = append(list, form.Audience())
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// targets are the names of the targets that share the provider.
func (p *gcpProvider) targets() (names []string) {
	for _, l := range p.logins {
		if !slices.Contains(names, l.Target.Name()) {
			names = append(names, l.Target.Name())
		}
	}
	return names
}

// writer writes claims of the provider's issuer.
func (p *gcpProvider) writer() celWriter {
	sure := []string{"iss", "sub", "aud"}
	if p.issuer.Kind == "github" {
		sure = append(sure, "actor", "actor_id", "event_name", "job_workflow_ref", "ref", "ref_type", "repository",
			"repository_id",
			"repository_owner", "repository_owner_id", "workflow")
	}
	return celWriter{
		root: "assertion",
		sure: func(claim string) bool { return slices.Contains(sure, claim) },
		list: func(claim string) bool { return policy.MayBeList(p.issuer.Kind, claim) },
	}
}

// decide writes the attributes: one a target, since a token may be admitted by
// several.
func (p *gcpProvider) decide() error {
	keys := gcpKeys(p.targets())
	for _, target := range p.targets() {
		if target == gcpNone {
			return usage("target %q: at Google this name means that no target admits a token: rename the target",
				target)
		}
		a := gcpAttribute{target: target, key: "attribute." + keys[target], expression: celText(gcpNone)}
		var names []string
		for _, l := range slices.Backward(p.logins) {
			if l.Target.Name() != target {
				continue
			}
			if slices.Contains(names, l.Name()) {
				return usage("target %q: two of its logins are called %q, so that one could get the other's grants: "+
					"change the values",
					target, l.Name())
			}
			names = append(names, l.Name())
			if decision := p.decision(l); decision != celFalse {
				a.expression = celIf(decision, celText(l.Name()), a.expression).text
			}
		}
		if n := utf8.RuneCountInString(a.expression); n > gcpMappingLimit {
			return usage("target %q: the decision as an attribute mapping has %d characters, Google allows %d: "+
				"split the target in two, "+
				"or bind its rules by repository_owner_id and job_workflow_ref in place of lists", target, n,
				gcpMappingLimit)
		}
		p.attributes = append(p.attributes, a)
	}
	if n := len(p.attributes); n > gcpAttributeLimit {
		return usage("provider %s: %d targets name it, one attribute each, Google allows %d: give some targets "+
			"another provider",
			p.name, n, gcpAttributeLimit)
	}
	return nil
}

// gcpKeys names the attribute of each target: lower case, digits and _, with a
// part of a hash where that is not enough to tell two targets apart.
func gcpKeys(targets []string) map[string]string {
	plain := func(target string) string {
		return gcpAttributePrefix + strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '_'
		}, strings.ToLower(target))
	}
	count := map[string]int{}
	for _, t := range targets {
		count[plain(t)]++
	}
	keys := map[string]string{}
	for _, t := range targets {
		key := plain(t)
		if count[key] > 1 || len(key) > gcpKeyLimit {
			sum := sha256.Sum256([]byte(t))
			key = key[:min(len(key), gcpKeyLimit-9)] + "_" + hex.EncodeToString(sum[:4])
		}
		keys[t] = key
	}
	return keys
}

// decision writes who gets a login. What all its rules ask for is written once.
func (p *gcpProvider) decision(l Demand) celCode {
	w := p.writer()
	var rules [][]celCode
	for _, r := range l.Rules {
		if r.Identity.Issuer != p.issuer.Issuer {
			continue
		}
		var terms []celCode
		for _, c := range r.Conditions {
			terms = append(terms, w.write(r.Condition(c)))
		}
		rules = append(rules, terms)
	}
	if len(rules) == 0 {
		return celFalse
	}
	common := slices.DeleteFunc(slices.Clone(rules[0]), func(t celCode) bool {
		return slices.ContainsFunc(rules, func(terms []celCode) bool { return !slices.Contains(terms, t) })
	})
	alternatives := make([]celCode, len(rules))
	for i, terms := range rules {
		alternatives[i] = celAll(slices.DeleteFunc(terms, func(t celCode) bool {
			return slices.Contains(common,
				t)
		})...)
	}
	parts := append(common, celAnyOf(alternatives...))
	if len(p.audiences) > 1 {
		parts = append(parts, w.write(logic.Equals("aud", p.audiencesOf(l)...)))
	}
	return celAll(parts...)
}

// condition is the attribute condition: how subjects begin, who is denied, and
// that any target admits the token.
func (p *gcpProvider) condition() string {
	admitted := make([]celCode, len(p.attributes))
	for i, a := range p.attributes {
		admitted[i] = celAtom(a.key + " != " + celText(gcpNone))
	}
	return celAll(p.subjects, celNot(p.writer().write(p.deny())), celAnyOf(admitted...)).text
}

// deny is met by the tokens of the issuer that the policy keeps out of every target.
func (p *gcpProvider) deny() logic.Formula {
	var parts []logic.Formula
	for _, r := range p.logins[0].Deny {
		if r.Identity.Issuer != p.issuer.Issuer {
			continue
		}
		conditions := make([]logic.Formula, len(r.Conditions))
		for i, c := range r.Conditions {
			conditions[i] = r.Condition(c)
		}
		parts = append(parts, logic.And(conditions...))
	}
	return logic.Or(parts...)
}

// begin writes how the subjects of the rules begin. The decision already implies
// it: it is there for the reader, and for tools that look for the subject. Where
// that is too long, whole is false and only owners are named.
func (p *gcpProvider) begin(whole bool) {
	p.subjects, p.holds, p.subject = celTrue, logic.Always(), "assertion.sub"
	if p.issuer.Kind != "github" {
		p.shortSubject()
		return
	}
	var literals, prefixes []string
	for _, pattern := range p.patterns() {
		p.long = p.long || gcpBytes(pattern) > gcpSubjectLimit
		prefix, _, wild := strings.Cut(pattern, "*")
		switch {
		case !whole:
			prefixes = append(prefixes, prefix[:strings.IndexAny(prefix, "/@")+1])
		case wild:
			prefixes = append(prefixes, prefix[:strings.LastIndexAny(prefix, "/:@")+1])
		default:
			literals = append(literals, pattern)
		}
	}
	p.began(literals, prefixes)
	p.long = p.long || !whole
	if p.long {
		p.subject = gcpShort["github"]
	}
}

// patterns are the subjects of all rules that the provider has the issuer of.
// What only the options know of names and ids is left out: the decision is made
// by other claims, and must not depend on it.
func (p *gcpProvider) patterns() (list []string) {
	for _, l := range p.logins {
		for _, form := range p.forms(l) {
			form.Options = Options{SubTemplate: form.Options.SubTemplate}
			for _, r := range form.Rules {
				if r.Identity.Issuer == p.issuer.Issuer {
					list = append(list, form.subjects(r, true).Patterns...)
				}
			}
		}
	}
	return list
}

// began notes the subjects, and those that begin with a text.
func (p *gcpProvider) began(literals, prefixes []string) {
	var parts []celCode
	var formulas []logic.Formula
	if len(literals)+len(prefixes) == 0 || slices.Contains(prefixes, "") {
		return
	}
	for _, text := range literals {
		parts = append(parts, celAtom("assertion.sub == "+celText(text)))
		formulas = append(formulas, logic.Equals("sub", text))
	}
	prefixes = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(prefixes))), func(text string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return p != text && strings.HasPrefix(text, p) })
	})
	for _, text := range prefixes {
		parts = append(parts, celAtom("assertion.sub.startsWith("+celText(text)+")"))
		formulas = append(formulas, logic.Is("sub", beginning(text)))
	}
	p.subjects, p.holds = celAnyOf(parts...), logic.Or(formulas...)
}

// gcpBytes is how long a subject of a pattern may be; ids have up to 20 digits.
func gcpBytes(pattern string) int {
	rest := strings.ReplaceAll(pattern, "@*", "@"+strings.Repeat("9", 20))
	if strings.Contains(rest, "*") {
		return gcpSubjectLimit + 1
	}
	return len(rest)
}

// gcpShort are subjects of at most 127 bytes that name the run, by kind. (Each
// CI system: OpenID Connect claims)
var gcpShort = map[string]string{
	"github":   "'repository:' + assertion.repository_id + ':run:' + assertion.run_id",
	"gitlab":   "'project:' + assertion.project_id + ':pipeline:' + assertion.pipeline_id",
	"circleci": "'project:' + assertion['oidc.circleci.com/project-id']",
}

// shortSubject chooses the subject of another issuer than GitHub.
func (p *gcpProvider) shortSubject() {
	for _, l := range p.logins {
		for _, r := range l.Rules {
			subjects, ok := r.Of("sub").Literals()
			p.long = p.long || !ok || slices.ContainsFunc(subjects,
				func(s string) bool { return len(s) > gcpSubjectLimit })
		}
	}
	if short, ok := gcpShort[p.issuer.Kind]; ok && p.long {
		p.subject = short
	}
}

// mapping is the attribute mapping.
func (p *gcpProvider) mapping() map[string]string {
	m := map[string]string{"google.subject": p.subject}
	for _, a := range p.attributes {
		m[a.key] = a.expression
	}
	return m
}

// member is who gets a login: what the provider has decided so.
func (p *gcpProvider) member(d Demand) string {
	pool, _, _ := strings.Cut(p.name, "/providers/")
	i := slices.IndexFunc(p.attributes, func(a gcpAttribute) bool { return a.target == d.Target.Name() })
	return "principalSet://iam.googleapis.com/" + pool + "/" + p.attributes[i].key + "/" + d.Name()
}

// admits is met by the tokens that get the login.
func (p *gcpProvider) admits(d Demand) logic.Formula {
	var rules []logic.Formula
	for _, r := range d.Rules {
		if r.Identity.Issuer == p.issuer.Issuer {
			rules = append(rules, r.Formula())
		}
	}
	return logic.And(logic.Equals("iss", p.issuer.Issuer), logic.Equals("aud", d.Audience()), p.holds,
		logic.Not(p.deny()),
		logic.Or(rules...))
}

func generateGCP(d Demand) (Wall, error) {
	p, err := newGCPProvider(d, nil)
	if err != nil {
		return Wall{}, err
	}
	w := Wall{Admits: p.admits(d), Notes: p.notes(d), Script: p.script(d), Terraform: p.terraform(d)}
	w.Documents = []Document{{"gcp.json", asJSON(gcpDocument{
		Name: p.name, Mapping: p.mapping(), Condition: p.condition(), OIDC: gcpOIDC{p.issuer.Issuer, p.audiences},
		Members: []string{p.member(d)},
	})}}
	for _, r := range d.Rules {
		w.Rules = append(w.Rules, p.report(r))
	}
	return w, nil
}

func (p *gcpProvider) report(r Rule) RuleReport {
	out := report(r)
	if r.Identity.Issuer != p.issuer.Issuer {
		out.narrower("iss", "a provider of Google's has one issuer, and this one has "+p.issuer.Issuer,
			fmt.Sprintf("a target of its own with another provider for identity %q", r.Identity.Name))
		return out
	}
	for _, c := range r.Conditions {
		out.enforces(c.Claim)
		if _, literal := c.Literals(); !literal && p.writer().list(c.Claim) {
			out.narrower(c.Claim, "where the claim is a list, Google compares its values with literals only",
				"literals in place of wildcards")
		}
	}
	return out
}

func (p *gcpProvider) notes(d Demand) (notes []string) {
	if names := p.targets(); len(names) > 1 {
		notes = append(notes, fmt.Sprintf("targets %q share this provider, which has one mapping and one condition: "+
			"they are written for all of "+
			"them; generate anew after a change of any", names))
	}
	switch {
	case p.long && p.subject != "assertion.sub":
		notes = append(notes, fmt.Sprintf("google.subject is at most %d bytes, and the token's subject may be "+
			"longer: it is %s, which is what "+
			"Google's logs show", gcpSubjectLimit, p.subject))
	case p.long:
		notes = append(notes, fmt.Sprintf("a token whose subject has more than %d bytes is refused by Google",
			gcpSubjectLimit))
	}
	if life := d.Target.Lifetime(); life > time.Hour {
		notes = append(notes, fmt.Sprintf("lifetime %s: more than 1h requires that the organisation policy "+
			"constraints/iam.allowServiceAccountCredentialLifetimeExtension lists %s", life, d.Get("service_account")))
	}
	if p.issuer.JWKS != "" {
		notes = append(notes, fmt.Sprintf("if Google cannot reach %s, give its keys to the provider with "+
			"--jwk-json-path", p.issuer.Issuer))
	}
	return notes
}
