package trust

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
)

// vaultLanguage is a role of the JWT auth method. Its bound claims have a list
// of values each, and every combination is admitted: what several rules say
// together it can say only where they differ in one claim.
// (Vault API: auth/jwt; vault-plugin-auth-jwt, path_role.go and claims.go)
var vaultLanguage = language{nested: true, generate: generateVault, read: readVault, rotate: rotateVault, revoke: revokeVault}

// orCEL closes what bound claims cannot say.
const orCEL = ", or log in by a CEL role (OpenBao): `auth: cel`"

// A vaultRole is the role as `vault write` takes it.
type vaultRole struct {
	RoleType        string              `json:"role_type"`
	UserClaim       string              `json:"user_claim"`
	ClaimMappings   map[string]string   `json:"claim_mappings,omitempty"`
	BoundAudiences  []string            `json:"bound_audiences"`
	BoundClaimsType string              `json:"bound_claims_type"`
	BoundClaims     map[string][]string `json:"bound_claims"`
	TokenPolicies   []string            `json:"token_policies"`
	TokenType       string              `json:"token_type"`
	TokenTTL        string              `json:"token_ttl"`
	TokenMaxTTL     string              `json:"token_max_ttl"`
}

func generateVault(d Demand) (Wall, error) {
	w := Wall{}
	s, err := newVaultServer(d, "vault")
	if err != nil {
		return w, err
	}
	role, err := d.vaultRole(s, &w)
	if err != nil {
		return w, err
	}
	w.Documents = []Document{{"vault.json", asJSON(role)}, s.policyDocument()}
	w.Terraform = s.terraform(role)
	w.Script = s.script(w.Documents[0].Text)
	w.Notes = append(w.Notes, s.notes()...)
	return w, nil
}

// vaultRole makes the role of a login, and reports what it does not say.
func (d Demand) vaultRole(s vaultServer, w *Wall) (vaultRole, error) {
	globs := slices.ContainsFunc(d.Rules, func(r Rule) bool {
		return slices.ContainsFunc(r.Conditions, func(c Condition) bool { _, ok := c.Literals(); return !ok })
	})
	boxes := make([][]box, len(d.Rules))
	var all []box
	for i, r := range d.Rules {
		out := report(r)
		if r.Identity.Issuer != s.issuer.Issuer {
			out.narrower("iss", s.otherIssuer(), "a target of its own for that identity, with another auth_path")
		} else {
			boxes[i] = d.boxesOf(r, globs, &out)
			all = append(all, boxes[i]...)
		}
		w.Rules = append(w.Rules, out)
	}
	all = merged(all)
	bound := hull(all)
	if err := d.binds(s, bound, len(all)); err != nil {
		return vaultRole{}, err
	}
	w.Admits = logic.And(logic.Equals("iss", s.issuer.Issuer), logic.Equals("aud", d.Audience()), globbed(bound))
	m := &mixer{d: d, bound: bound, boxes: all, admits: w.Admits, issuer: s.issuer}
	m.report(boxes, w.Rules)
	for i := range d.Rules {
		if len(d.Deny) > 0 && boxes[i] != nil {
			w.Rules[i].wider("deny", "bound claims cannot exclude a value", "a CEL role (OpenBao): `auth: cel`")
		}
	}
	mode := "string"
	if globs {
		mode = "glob"
	}
	return vaultRole{
		RoleType: "jwt", UserClaim: s.userClaim(), ClaimMappings: s.mappings(), BoundAudiences: []string{d.Audience()},
		BoundClaimsType: mode, BoundClaims: pointers(bound), TokenPolicies: s.policies,
		TokenType: "service", TokenTTL: s.ttl, TokenMaxTTL: s.maxTTL,
	}, nil
}

// pointers names claims as bound claims do: those inside objects, and those
// whose names begin with a slash, by a JSON pointer. (RFC 6901;
// vault-plugin-auth-jwt, claims.go)
func pointers(bound map[string][]string) map[string][]string {
	out := make(map[string][]string, len(bound))
	for claim, values := range bound {
		if inside(claim) || strings.HasPrefix(claim, "/") {
			claim = "/" + strings.ReplaceAll(strings.NewReplacer("~", "~0", "/", "~1").Replace(claim), ">", "/")
		}
		out[claim] = values
	}
	return out
}

// A mixer says by which claims a role's bound claims admit more than its rules.
type mixer struct {
	d      Demand
	bound  map[string][]string
	boxes  []box // what the rules admit
	admits logic.Formula
	issuer policy.Identity
	finder *logic.Finder // made when it is first asked
}

// report adds the gaps of each rule, whose boxes are in the same place.
func (m *mixer) report(boxes [][]box, reports []RuleReport) {
	suspects, confirmed := make([][]string, len(boxes)), make([][]string, len(boxes))
	for i := range boxes {
		out := &reports[i]
		for _, b := range boxes[i] {
			for _, claim := range m.d.crosses(b) {
				out.wider(claim, "`*` is any run of characters in a glob of Vault, `/`, `:` and `@` too", "name the values without `*`"+orCEL)
			}
			for _, claim := range b.mixed(m.bound, m.boxes) {
				suspects[i] = append(suspects[i], b.from[claim])
				if m.possible(b, claim) {
					confirmed[i] = append(confirmed[i], b.from[claim])
				}
			}
		}
	}
	if !m.explained(confirmed, reports) {
		confirmed = suspects
	}
	for i, claims := range confirmed {
		for _, claim := range claims {
			m.gap(claim, &reports[i])
		}
		reports[i].Enforced = slices.DeleteFunc(reports[i].Enforced, func(claim string) bool {
			return slices.ContainsFunc(reports[i].WiderBy, func(g Gap) bool { return g.Claim == claim })
		})
	}
}

func (m *mixer) gap(claim string, out *RuleReport) {
	why := fmt.Sprintf("a role has one list of values for each claim: it also admits the other rules' %s with the rest of this one", claim)
	if m.bound[claim] == nil {
		why = fmt.Sprintf("another rule does not name %s, and a role has one list of values for each claim", claim)
	}
	out.wider(claim, why, m.d.roleOfItsOwn(claim)+orCEL)
}

// possible reports whether there can be a token that differs from a box in a
// claim only: the claims that a subject, or a repository's name, is made of
// follow each other.
func (m *mixer) possible(b box, claim string) bool {
	if !m.follow(b) {
		return true
	}
	rest := b.clone()
	delete(rest.claims, claim)
	return m.found(globbed(rest.claims))
}

// follow reports whether a box has claims that follow each other.
func (m *mixer) follow(b box) bool {
	return b.claims["sub"] != nil || b.claims["repository_owner"] != nil
}

// found reports whether the role admits a token that meets a condition and that
// the policy does not admit, as far as that is decided.
func (m *mixer) found(condition logic.Formula) bool {
	if m.finder == nil {
		m.finder = logic.NewFinder(logic.Vocabulary(m.admits, m.d.PolicyFormula()), m.d.loose(m.issuer))
	}
	token, decided := m.finder.Find(logic.And(m.admits, condition, logic.Not(m.d.PolicyFormula())))
	return token != nil || !decided
}

// explained reports whether the gaps cover all that the role admits and the
// policy does not: where claims follow each other, only two of them together
// may lead out of a rule.
func (m *mixer) explained(claims [][]string, reports []RuleReport) bool {
	if !slices.ContainsFunc(m.boxes, m.follow) {
		return true
	}
	parts := make([]logic.Formula, len(claims))
	for i, r := range m.d.Rules {
		gaps := slices.Clone(claims[i])
		for _, g := range reports[i].WiderBy {
			gaps = append(gaps, g.Claim)
		}
		parts[i] = r.Without(gaps...).Formula()
	}
	return !m.found(logic.Not(logic.Or(parts...)))
}

// roleOfItsOwn is what keeps rules apart: the name of a role has no `/` or `:`.
func (d Demand) roleOfItsOwn(claim string) string {
	if slices.Contains([]string{"sub", "repository", "ref", "job_workflow_ref", "workflow_ref", "pull_number", "base_ref",
		"head_ref"}, claim) {
		return "a target for each rule, with a role of its own"
	}
	return fmt.Sprintf("one role for each value: `role: %s-${%s}`", d.Get("role"), claim)
}

// binding are claims that say whose jobs a token is of.
var binding = []string{
	"sub", "repository", "repository_id", "repository_owner", "repository_owner_id", "job_workflow_ref", "workflow_ref",
	"enterprise", "enterprise_id",
}

// binds refuses a role that would let in anybody's jobs.
func (d Demand) binds(s vaultServer, bound map[string][]string, parts int) error {
	if s.issuer.Kind != "github" && len(bound) > 0 {
		return nil
	}
	if slices.ContainsFunc(binding, func(claim string) bool { return bound[claim] != nil }) {
		return nil
	}
	return usage("target %q: its rules come to %d combinations of bound claims, and they have no claim in common that "+
		"says whose jobs may log in: "+
		"a role of Vault would admit everybody's; name the repository in each rule, give each its own role (`role: …-${claim}`), "+
		"or use a CEL role of OpenBao (`auth: cel`)", d.Target.Name(), parts)
}

// terraform is the role for Terraform. The provider splits the values of
// bound_claims at commas; where one has a comma, the role is written as it is.
// (terraform-provider-vault, resource_jwt_auth_backend_role.go)
func (s vaultServer) terraform(role vaultRole) string {
	t := newTerraform()
	name := hclName(s.role)
	s.terraformMethod(t)
	s.terraformPolicy(t, name)
	for _, values := range role.BoundClaims {
		if slices.ContainsFunc(values, func(v string) bool { return strings.ContainsAny(v, ", ") }) {
			s.terraformEndpoint(t, name, "role/"+s.role, role)
			return t.String()
		}
	}
	b := t.block("resource", "vault_jwt_auth_backend_role", name)
	s.terraformNamespace(b)
	b.set("backend", hclRef("data.vault_auth_backend."+hclName(s.method)+".path"))
	b.set("role_name", s.role)
	b.set("role_type", role.RoleType)
	b.set("user_claim", role.UserClaim)
	if len(role.ClaimMappings) > 0 {
		b.set("claim_mappings", hclMap(role.ClaimMappings))
	}
	b.set("bound_audiences", role.BoundAudiences)
	b.set("bound_claims_type", role.BoundClaimsType)
	joined := map[string]string{}
	for claim, values := range role.BoundClaims {
		joined[claim] = strings.Join(values, ",")
	}
	b.comment("The provider splits these at the commas.")
	b.set("bound_claims", hclMap(joined))
	b.set("token_policies", s.terraformPolicies(name))
	b.set("token_type", role.TokenType)
	b.set("token_ttl", hclRef(s.seconds(role.TokenTTL)))
	b.set("token_max_ttl", hclRef(s.seconds(role.TokenMaxTTL)))
	return t.String()
}

func hclMap(texts map[string]string) (object hclObject) {
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		object = append(object, hclField{key, texts[key]})
	}
	return object
}

// hclJSON is a document of ours as an object of Terraform.
func hclJSON(document any) any {
	var v any
	if err := json.Unmarshal([]byte(asJSON(document)), &v); err != nil {
		panic(err) // our own text
	}
	return hclAny(v)
}

func hclAny(v any) any {
	switch v := v.(type) {
	case map[string]any:
		object := hclObject{}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			object = append(object, hclField{key, hclAny(v[key])})
		}
		return object
	case []any:
		list := make(hclList, len(v))
		for i := range v {
			list[i] = hclAny(v[i])
		}
		return list
	}
	return v
}
