package trust

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// A gcpExport is what gcloud prints: a provider, a pool, or the policy of a
// service account, a project or a dataset. What we generate is a provider with
// members.
type gcpExport struct {
	Name      string            `json:"name"`
	State     string            `json:"state"`
	Disabled  bool              `json:"disabled"`
	Mapping   map[string]string `json:"attributeMapping"`
	Condition string            `json:"attributeCondition"`
	OIDC      *gcpOIDC          `json:"oidc"`
	AWS       json.RawMessage   `json:"aws"`
	SAML      json.RawMessage   `json:"saml"`
	X509      json.RawMessage   `json:"x509"`
	Members   []string          `json:"members"`
	Bindings  []gcpBinding      `json:"bindings"`
	ETag      string            `json:"etag"`
	file      string
}

type gcpBinding struct {
	Role      string   `json:"role"`
	Members   []string `json:"members"`
	Condition *struct {
		Title      string `json:"title"`
		Expression string `json:"expression"`
	} `json:"condition"`
}

func (e gcpExport) isProvider() bool {
	return e.Mapping != nil || e.OIDC != nil || e.AWS != nil || e.SAML != nil || e.X509 != nil
}

func (e gcpExport) isPool() bool {
	return !e.isProvider() && strings.Contains(e.Name, "/workloadIdentityPools/") && !strings.Contains(e.Name,
		"/providers/")
}

// dead says why nothing is exchanged there, "" where something is.
func (e gcpExport) dead() string {
	switch {
	case e.State != "" && e.State != "ACTIVE":
		return strings.ToLower(e.State)
	case e.Disabled:
		return "disabled"
	}
	return ""
}

const gcpWanted = "`gcloud iam workload-identity-pools providers list` or `describe`, and `gcloud iam " +
	"service-accounts get-iam-policy` " +
	"(without a service account `gcloud projects get-iam-policy`), each with `--format json`"

// gcpExports reads files, each with one export or a list of them.
func gcpExports(files []File) (list []gcpExport, err error) {
	for _, f := range files {
		some := make([]gcpExport, 1)
		into := any(&some[0])
		if bytes.HasPrefix(bytes.TrimSpace(f.Text), []byte("[")) {
			into = &some
		}
		if err := json.Unmarshal(f.Text, into); err != nil {
			return nil, usage("%s: want what these print: %s: %v", f.Name, gcpWanted, err)
		}
		for _, e := range some {
			if !e.isProvider() && !e.isPool() && e.Bindings == nil && e.ETag == "" {
				return nil, usage("%s: it is neither a provider, a pool nor an IAM policy: want what these print: %s",
					f.Name, gcpWanted)
			}
			e.file = f.Name
			list = append(list, e)
		}
	}
	return list, nil
}

// A gcpReading puts together what exports say.
type gcpReading struct {
	d         Demand
	pool      string // projects/N/locations/global/workloadIdentityPools/POOL
	own       string
	providers []*gcpReadProvider
	bindings  []gcpBinding
	policies  int // how many there were
	findings  []Finding
}

// A gcpReadProvider is a provider that was read.
type gcpReadProvider struct {
	gcpExport
	reader    *celReader
	condition *celNode // nil for none
	admits    logic.Formula
}

func readGCP(d Demand, files []File) (Reading, error) {
	exports, err := gcpExports(files)
	if err != nil {
		return Reading{}, err
	}
	r := &gcpReading{d: d, own: d.Get("workload_identity_provider")}
	r.pool, _, _ = strings.Cut(r.own, "/providers/")
	dead := ""
	for _, e := range exports {
		switch {
		case e.isProvider():
			if err := r.provider(e); err != nil {
				return Reading{}, err
			}
		case e.isPool() && e.Name == r.pool:
			dead = e.dead()
		default:
			r.policies++
			r.bindings = append(r.bindings, e.Bindings...)
		}
	}
	if len(r.providers) == 0 {
		return Reading{}, usage("no file has a provider of pool %s: want what these print: %s", r.pool, gcpWanted)
	}
	r.look()
	out := Reading{Admits: r.admits()}
	if dead != "" {
		r.find("disabled-provider", "warning", "pool %s is %s: nothing is exchanged there", r.pool, dead)
		out.Admits = logic.Never()
	}
	out.Findings = r.findings
	return out, nil
}

func (r *gcpReading) find(name, severity, format string, args ...any) {
	f := Finding{Name: name, Severity: severity, Message: fmt.Sprintf(format, args...)}
	same := func(have Finding) bool { return have.Name == f.Name && have.Message == f.Message }
	if !slices.ContainsFunc(r.findings, same) {
		r.findings = append(r.findings, f)
	}
}

// provider reads a provider of the pool; one of another pool is of no account.
func (r *gcpReading) provider(e gcpExport) error {
	if e.Name == "" {
		e.Name = r.own
	}
	if pool, _, _ := strings.Cut(e.Name, "/providers/"); pool != r.pool {
		r.find("other-pool", "note", "%s: provider %s is in another pool than the policy's: it was not looked at",
			e.file, e.Name)
		return nil
	}
	for _, member := range e.Members {
		r.policies++
		r.bindings = append(r.bindings, gcpBinding{Role: gcpUserRole, Members: []string{member}})
	}
	p := &gcpReadProvider{gcpExport: e, reader: &celReader{mapping: map[string]*celNode{},
		mapped: map[string]*celValue{}, objects: map[string]bool{}}}
	p.reader.github = e.OIDC != nil && p.kind(r.d) == "github"
	for _, key := range slices.Sorted(maps.Keys(e.Mapping)) {
		node, err := celParse(e.Mapping[key])
		if err != nil {
			return usage("%s: attributeMapping %s: %v", e.file, key, err)
		}
		p.reader.mapping[key] = node
		p.reader.learn(node)
	}
	if strings.TrimSpace(e.Condition) != "" {
		node, err := celParse(e.Condition)
		if err != nil {
			return usage("%s: attributeCondition: %v", e.file, err)
		}
		p.condition = node
		p.reader.learn(node)
	}
	p.admits = p.exchanges()
	r.providers = append(r.providers, p)
	return nil
}

// kind is the kind of the provider's issuer by the policy.
func (p *gcpReadProvider) kind(d Demand) string {
	for _, rule := range d.Rules {
		if rule.Identity.Issuer == p.OIDC.IssuerURI {
			return rule.Identity.Kind
		}
	}
	if strings.HasPrefix(p.OIDC.IssuerURI, "https://token.actions.githubusercontent.com") {
		return "github"
	}
	return ""
}

// audiences are those of the ID token; without a list it is the provider's name.
func (p *gcpReadProvider) audiences() []string {
	if p.OIDC != nil && len(p.OIDC.AllowedAudiences) > 0 {
		return p.OIDC.AllowedAudiences
	}
	return []string{"https://iam.googleapis.com/" + p.Name, "//iam.googleapis.com/" + p.Name}
}

// exchanges is met by the tokens that the provider exchanges: a mapping that
// fails refuses a token as the condition does.
func (p *gcpReadProvider) exchanges() logic.Formula {
	switch {
	case p.dead() != "":
		return logic.Never()
	case p.OIDC == nil:
		return logic.Never() // it takes no ID tokens
	}
	parts := []logic.Formula{logic.Equals("iss", p.OIDC.IssuerURI), logic.Equals("aud", p.audiences()...)}
	if p.condition != nil {
		parts = append(parts, p.reader.eval(p.condition).bool().yes)
	}
	for _, key := range slices.Sorted(maps.Keys(p.Mapping)) {
		switch v := p.reader.attribute(key); {
		case v.kind == celTextValue, v.kind == celListValue && key == "google.groups", v.kind == celUndecided:
			parts = append(parts, v.defined())
		default:
			parts = append(parts, logic.Never()) // it is mapped to what is no text
		}
	}
	return logic.And(parts...)
}

// admits is met by the tokens that a member of the bindings covers, by any
// provider of the pool.
func (r *gcpReading) admits() logic.Formula {
	var parts []logic.Formula
	for _, p := range r.providers {
		var members []logic.Formula
		for _, b := range r.bindings {
			for _, m := range b.Members {
				f := p.covers(r.pool, m)
				if b.Condition != nil && f.Form() != logic.FormNever {
					f = logic.And(f, logic.Undecided(fmt.Sprintf("the condition %q of a binding of %s",
						b.Condition.Expression, b.Role)))
				}
				if f.Form() != logic.FormNever && !r.actsAs(b.Role) {
					f = logic.And(f, logic.Undecided(fmt.Sprintf("whether %s lets its members act as %s", b.Role,
						r.d.Get("service_account"))))
				}
				members = append(members, f)
			}
		}
		if r.policies == 0 {
			members = append(members, logic.Undecided("who is bound: add what `"+r.bindingsCommand()+"` prints"))
		}
		parts = append(parts, logic.And(p.admits, logic.Or(members...)))
	}
	return logic.Or(parts...)
}

// actsAs reports whether a role is known to give what the login needs: to act as
// the service account, where the policy names one.
func (r *gcpReading) actsAs(role string) bool {
	return r.d.Get("service_account") == "" || slices.Contains([]string{gcpUserRole, gcpTokenRole, "roles/owner"}, role)
}

func (r *gcpReading) bindingsCommand() string {
	if account := r.d.Get("service_account"); account != "" {
		return command("gcloud", "iam", "service-accounts", "get-iam-policy", account, "--format", "json")
	}
	return "gcloud projects get-iam-policy PROJECT --format json"
}

// gcpMember takes a member of the pool apart; ok is false for any other.
func gcpMember(pool, member string) (set bool, kind, value string, ok bool) {
	scheme, rest, found := strings.Cut(member, "://iam.googleapis.com/"+pool+"/")
	if !found || scheme != "principal" && scheme != "principalSet" {
		return false, "", "", false
	}
	kind, value, _ = strings.Cut(rest, "/")
	return scheme == "principalSet", kind, value, true
}

// covers is met by the tokens that are the member after an exchange here.
func (p *gcpReadProvider) covers(pool, member string) logic.Formula {
	if member == "allUsers" || member == "allAuthenticatedUsers" {
		return logic.Always()
	}
	set, kind, value, ok := gcpMember(pool, member)
	switch {
	case !ok:
		return logic.Never()
	case set && kind == "*":
		return logic.Always()
	case set && kind == "group":
		return p.reader.in(celLiteral(value), p.reader.attribute("google.groups")).yes
	case set && strings.HasPrefix(kind, "attribute."):
		return p.reader.equal(celLiteral(value), p.reader.attribute(kind)).yes
	case !set && kind == "subject":
		return p.reader.equal(celLiteral(value), p.reader.attribute("google.subject")).yes
	}
	return logic.Never()
}

// look notes what is wrong.
func (r *gcpReading) look() {
	found := false
	for _, p := range r.providers {
		found = found || p.Name == r.own
		if p.OIDC == nil || p.dead() != "" {
			if p.Name == r.own {
				r.find("disabled-provider", "warning", "%s: provider %s exchanges no ID token: it is %s", p.file,
					p.Name, orElse(p.dead(), "not for OIDC"))
			}
			continue
		}
		r.lookLimits(p)
		r.lookCondition(p)
	}
	if !found {
		r.find("missing-provider", "error", "no file has provider %s, which the policy names", r.own)
	}
	r.lookMembers()
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// lookLimits notes what Google refuses to store, or tokens of which it refuses.
func (r *gcpReading) lookLimits(p *gcpReadProvider) {
	over := func(what string, n, limit int) {
		if n > limit {
			r.find("over-limit", "error", "%s: %s: %d, Google allows %d", p.file, what, n, limit)
		}
	}
	over("characters of attributeCondition", utf8.RuneCountInString(p.Condition), gcpConditionLimit)
	over("audiences", len(p.OIDC.AllowedAudiences), gcpAudiencesLimit)
	for _, a := range p.OIDC.AllowedAudiences {
		over(fmt.Sprintf("characters of audience %q", a), utf8.RuneCountInString(a), gcpAudienceLimit)
	}
	custom := 0
	for _, key := range slices.Sorted(maps.Keys(p.Mapping)) {
		over("characters of attributeMapping "+key, utf8.RuneCountInString(p.Mapping[key]), gcpMappingLimit)
		if strings.HasPrefix(key, "attribute.") {
			custom++
			over("characters of the attribute "+key, len(key)-len("attribute."), gcpKeyLimit)
		}
	}
	over("custom attributes", custom, gcpAttributeLimit)
	w := &gcpProvider{logins: []Demand{r.d}}
	w.issuer = r.d.Rules[0].Identity
	w.begin(true)
	if p.Mapping["google.subject"] == "assertion.sub" && w.long {
		r.find("long-subject", "note", "%s: google.subject is the token's subject: Google refuses a token whose "+
			"subject has more than %d bytes, "+
			"such as one of a long branch", p.file, gcpSubjectLimit)
	}
}

// lookMembers notes whom bindings cover beyond one provider's decision.
func (r *gcpReading) lookMembers() {
	for _, b := range r.bindings {
		for _, m := range b.Members {
			set, kind, value, ok := gcpMember(r.pool, m)
			switch {
			case m == "allUsers" || m == "allAuthenticatedUsers":
				r.find("public-binding", "error", "%s has %s: everyone; remove the binding", b.Role, m)
			case !ok && (b.Role == gcpUserRole || b.Role == gcpTokenRole):
				r.find("other-member", "note", "%s has %s as well, which is no token of the policy", b.Role, m)
			case set && kind == "*":
				r.find("pool-wide-binding", "error", "%s has %s: every token that any provider of the pool "+
					"exchanges; bind what the policy decides: "+
					"principalSet://iam.googleapis.com/%s/attribute.…", b.Role, m, r.pool)
			case ok:
				r.lookMember(b, m, kind, value)
			}
		}
	}
}

// lookMember notes which other providers could make the member of a token.
func (r *gcpReading) lookMember(b gcpBinding, member, kind, _ string) {
	key := map[string]string{"subject": "google.subject", "group": "google.groups"}[kind]
	if key == "" {
		key = kind
	}
	mapped := false
	for _, p := range r.providers {
		_, has := p.Mapping[key]
		mapped = mapped || has
		if !has || p.Name == r.own || p.dead() != "" || p.covers(r.pool, member).Form() == logic.FormNever {
			continue
		}
		r.find("pool-wide-binding", "error", "%s has %s, which provider %s of the same pool can give to its tokens "+
			"as well: members name the "+
			"pool and not the provider; move that provider to a pool of its own, or bind an attribute that only %s "+
			"maps",
			b.Role, member, p.Name, r.own)
	}
	if !mapped {
		r.find("key-not-read", "warning", "%s has %s, but no provider that was read maps %s: it covers no token",
			b.Role, member, key)
	}
}

// gcpIdentity are claims that say whose repository or project a token is from.
func gcpIdentity(kind string) []string {
	if kind == "github" {
		return []string{"sub", "repository", "repository_id", "repository_owner", "repository_owner_id",
			"job_workflow_ref", "workflow_ref"}
	}
	return nil
}

// lookCondition notes what the condition forgets.
func (r *gcpReading) lookCondition(p *gcpReadProvider) {
	claims := compared(p.admits)
	if p.Name == r.own {
		claims = append(claims, compared(r.admits())...)
	}
	kind := p.kind(r.d)
	asks := func(list ...string) bool {
		return slices.ContainsFunc(list, func(c string) bool { return slices.Contains(claims, c) })
	}
	switch {
	case p.condition == nil || !p.condition.reads():
		r.find("missing-condition", "error", "%s: provider %s has no condition on claims: it exchanges every token "+
			"of %s; set the condition that "+
			"`oidc-dbt trust generate` prints", p.file, p.Name, p.OIDC.IssuerURI)
	case kind == "github" && !asks(gcpIdentity(kind)...):
		r.find("missing-subject", "error", "%s: neither condition nor binding asks for sub, the repository or its "+
			"owner: every repository at GitHub "+
			"can have such a token", p.file)
	case kind == "github" && !asks("repository_id", "repository_owner_id") &&
		!slices.ContainsFunc(p.literals("sub"), hasID):
		r.find("name-only", "warning", "%s: owner and repository are bound by name only, and a name that is given "+
			"up can be taken by others: "+
			"add repository_id or repository_owner_id", p.file)
	}
	c := &celCritic{reading: r, provider: p, kind: kind}
	c.expressions()
}

// compared are the claims of which the values count.
func compared(f logic.Formula) (claims []string) {
	if f.Form() == logic.FormIs {
		claims = append(claims, f.Claim())
	}
	for _, part := range f.Parts() {
		claims = append(claims, compared(part)...)
	}
	return claims
}

func hasID(subject string) bool { s, ok := policy.SubjectOf(subject); return ok && s.OwnerID != "" }
