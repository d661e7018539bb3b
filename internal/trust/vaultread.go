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

// vaultExport is what a check reads.
const vaultExport = "what `vault read -format=json auth/PATH/role/NAME` prints"

// A readVaultRole is a role as the server prints it, or as it is written.
type readVaultRole struct {
	RoleType        *string         `json:"role_type"`
	BoundAudiences  json.RawMessage `json:"bound_audiences"`
	BoundSubject    string          `json:"bound_subject"`
	BoundClaims     map[string]any  `json:"bound_claims"`
	BoundClaimsType string          `json:"bound_claims_type"`
	UserClaim       string          `json:"user_claim"`
	Program         *openbaoProgram `json:"cel_program"`
}

// A vaultReader reads roles of one login.
type vaultReader struct {
	d      Demand
	issuer policy.Identity
	file   string
	out    Reading
}

func (v *vaultReader) find(name, severity, format string, args ...any) {
	v.out.Findings = append(v.out.Findings, Finding{Name: name, Severity: severity, Message: v.file + ": " + fmt.Sprintf(format, args...)})
}

// readVault reads roles with bound claims, and the configuration of the method.
func readVault(d Demand, files []File) (Reading, error) {
	return readVaultFiles(d, files, vaultExport, func(v *vaultReader, role readVaultRole) (logic.Formula, error) {
		if role.RoleType == nil || role.Program != nil {
			return logic.Never(), usage("%s: no role_type: want %s", v.file, vaultExport)
		}
		return v.role(role), nil
	})
}

func readVaultFiles(d Demand, files []File, export string, read func(*vaultReader, readVaultRole) (logic.Formula, error)) (Reading, error) {
	v := &vaultReader{d: d, issuer: d.Rules[0].Identity}
	issuer := v.issuer.Issuer
	var roles []logic.Formula
	for _, f := range files {
		v.file = f.Name
		data, err := vaultData(f, export)
		if err != nil {
			return Reading{}, err
		}
		if bound, ok := vaultConfig(data); ok {
			if issuer = bound; issuer != v.issuer.Issuer {
				v.find("other-issuer", "error", "the auth method verifies the tokens of %q, and the policy's are of %q", bound, v.issuer.Issuer)
			}
			continue
		}
		var role readVaultRole
		if err := json.Unmarshal(data, &role); err != nil {
			return Reading{}, usage("%s: want %s: %v", f.Name, export, err)
		}
		admits, err := read(v, role)
		if err != nil {
			return Reading{}, err
		}
		roles = append(roles, admits)
	}
	if len(roles) == 0 {
		return Reading{}, usage("no file has a role: want %s", export)
	}
	v.out.Admits = logic.And(logic.Equals("iss", issuer), logic.Or(roles...))
	return v.out, nil
}

// vaultData is the data of a reply, or the document itself.
func vaultData(f File, export string) (json.RawMessage, error) {
	var reply map[string]json.RawMessage
	if err := json.Unmarshal(f.Text, &reply); err != nil {
		return nil, usage("%s: want %s: %v", f.Name, export, err)
	}
	if data, ok := reply["data"]; ok {
		return data, nil
	}
	return f.Text, nil
}

// vaultConfig returns the issuer of an auth method's configuration, as `vault
// read -format=json auth/PATH/config` prints it.
func vaultConfig(data json.RawMessage) (issuer string, ok bool) {
	var config struct {
		Discovery *string `json:"oidc_discovery_url"`
		Keys      *string `json:"jwks_url"`
		Bound     string  `json:"bound_issuer"`
	}
	if json.Unmarshal(data, &config) != nil || config.Discovery == nil && config.Keys == nil {
		return "", false
	}
	if config.Bound == "" && config.Discovery != nil {
		return *config.Discovery, true
	}
	return config.Bound, true
}

// role returns what a role with bound claims admits.
// (vault-plugin-auth-jwt, path_login.go and claims.go)
func (v *vaultReader) role(role readVaultRole) logic.Formula {
	if *role.RoleType != "jwt" {
		v.find("other-type", "error", "role_type is %q: no ID token of a job can log in; want jwt", *role.RoleType)
		return logic.Never()
	}
	audiences := v.audiences(role.BoundAudiences)
	if len(audiences) == 0 {
		v.find("missing-audience", "error", "no bound_audiences: Vault refuses every token that has an audience; set it to [%q]", v.d.Audience())
	}
	parts := []logic.Formula{logic.Equals("aud", audiences...)}
	if role.BoundSubject != "" {
		parts = append(parts, logic.Equals("sub", role.BoundSubject))
		if strings.Contains(role.BoundSubject, "*") {
			v.find("wildcard-under-exact-operator", "error", "bound_subject is compared as it is, in glob mode too, so %q matches nothing: "+
				"use bound_claims", role.BoundSubject)
		}
	}
	for _, claim := range slices.Sorted(maps.Keys(role.BoundClaims)) {
		parts = append(parts, v.bound(role, claim))
	}
	v.judge(role)
	return logic.And(parts...)
}

// audiences is a list, or a text that Vault splits at commas.
func (*vaultReader) audiences(raw json.RawMessage) (list []string) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		for _, part := range strings.Split(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		return list
	}
	_ = json.Unmarshal(raw, &list) // what is no list has no audience
	return list
}

// bound is one bound claim.
func (v *vaultReader) bound(role readVaultRole, claim string) logic.Formula {
	globs := role.BoundClaimsType == "glob"
	var parts []logic.Formula
	texts := boundTexts(role.BoundClaims[claim])
	claim, known := pointed(claim)
	if !known {
		return logic.Undecided("the JSON pointer " + claim)
	}
	for _, text := range texts {
		if globs {
			parts = append(parts, logic.Is(claim, logic.Glob(text, false)))
		} else {
			parts = append(parts, logic.Equals(claim, text))
		}
		if !globs && strings.Contains(text, "*") {
			v.find("wildcard-under-exact-operator", "error", "%s: %q matches only itself: set bound_claims_type to glob", claim, text)
		}
		if claim == "sub" {
			v.subject(text, globs)
		}
	}
	v.commas(claim, texts)
	if v.issuer.Kind == "github" && !policy.HasClaim("github", claim) {
		v.find("key-not-read", "error", "no token of GitHub's has the claim %s: the role admits nobody", claim)
	}
	return logic.Or(parts...)
}

// pointed returns the claim that a bound claim is about, by its name or a JSON
// pointer, and whether it can be said as one: the place in a list cannot.
func pointed(name string) (claim string, ok bool) {
	if !strings.HasPrefix(name, "/") {
		return name, true
	}
	members := strings.Split(name[1:], "/")
	for i, m := range members {
		if strings.Trim(m, "0123456789") == "" && i > 0 || strings.Contains(m, ">") {
			return name, false
		}
		members[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(m)
	}
	return strings.Join(members, ">"), true
}

// boundTexts are the texts of a bound claim. Every claim of a job is a text, and
// a number or a bool is never equal to one.
func boundTexts(value any) (texts []string) {
	switch value := value.(type) {
	case string:
		return []string{value}
	case []any:
		for _, v := range value {
			if text, ok := v.(string); ok {
				texts = append(texts, text)
			}
		}
	}
	return texts
}

// commas finds a value that was split at its commas, and a list that is one text.
func (v *vaultReader) commas(claim string, texts []string) {
	for _, r := range v.d.Rules {
		want := r.Of(claim).Patterns
		for _, text := range want {
			pieces := strings.Split(text, ",")
			if len(pieces) > 1 && !slices.Contains(texts, text) && !slices.ContainsFunc(pieces, func(p string) bool {
				return !slices.Contains(texts, strings.TrimSpace(p))
			}) {
				v.find("comma-split", "error", "%s: %q was split at its commas, as Terraform's vault_jwt_auth_backend_role does: "+
					"write the role by vault_generic_endpoint, or by `vault write … -`", claim, text)
				return
			}
		}
		for _, text := range texts {
			pieces := strings.Split(text, ",")
			if len(pieces) > 1 && !slices.ContainsFunc(pieces, func(p string) bool { return !slices.Contains(want, strings.TrimSpace(p)) }) {
				v.find("comma-split", "error", "%s: %q is one value, which no token has: write a list", claim, text)
				return
			}
		}
	}
}

// subject looks at how a subject is written.
func (v *vaultReader) subject(text string, globs bool) {
	if v.issuer.Kind != "github" {
		return
	}
	owner, rest, slash := strings.Cut(strings.TrimPrefix(text, "repo:"), "/")
	repo, _, colon := strings.Cut(rest, ":")
	owner, _, _ = strings.Cut(owner, "@") // behind it is the owner's number
	if _, _, ids := strings.Cut(repo, "@"); ids {
		repo = ""
	}
	switch {
	case globs && (!strings.HasPrefix(text, "repo:") || !slash || strings.Contains(owner, "*")):
		v.find("wide-subject", "error", "the subject %q has a wildcard before its owner ends: other owners' jobs match; "+
			"begin with repo:OWNER/REPO:", text)
	case globs && (!colon && strings.Contains(rest, "*") || strings.HasSuffix(repo, "*")):
		v.find("wide-subject", "warning", "the subject %q matches other repositories as well: end the name with `:`", text)
	case globs && strings.HasSuffix(text, ":*") && strings.Count(text, ":") == 2:
		v.find("wide-subject", "warning", "the subject %q matches every branch, event and environment", text)
	}
}

// chosenClaims are written by the author of a workflow.
var chosenClaims = []string{"workflow", "actor", "head_ref", "base_ref", "ref", "environment", "sha", "workflow_ref"}

// judge looks at a role as a whole.
func (v *vaultReader) judge(role readVaultRole) {
	names := slices.Collect(maps.Keys(role.BoundClaims))
	if role.BoundSubject != "" {
		names = append(names, "sub")
	}
	has := func(claims ...string) bool {
		return slices.ContainsFunc(claims, func(c string) bool { return slices.Contains(names, c) })
	}
	if slices.Contains(chosenClaims, role.UserClaim) {
		v.find("chosen-user-claim", "warning", "user_claim is %s, which the author of a workflow chooses: the login is "+
			"another entity then; use %s",
			role.UserClaim, vaultServer{issuer: v.issuer}.userClaim())
	}
	if v.issuer.Kind != "github" {
		return
	}
	switch {
	case !has(binding...):
		v.find("missing-subject", "error", "neither the subject nor the repository is bound: jobs of any repository can "+
			"log in; bind repository_id")
	case !has("repository_id", "repository_owner_id") && !v.subjectIDs(role):
		v.find("name-only", "warning", "only names are bound: who gets the name of an owner or repository that was given "+
			"up can log in; bind repository_id")
	}
}

// subjectIDs reports whether every bound subject has the ids in it.
func (*vaultReader) subjectIDs(role readVaultRole) bool {
	texts := boundTexts(role.BoundClaims["sub"])
	if role.BoundSubject != "" {
		texts = append(texts, role.BoundSubject)
	}
	return len(texts) > 0 && !slices.ContainsFunc(texts, func(text string) bool {
		owner, _, _ := strings.Cut(text, "/")
		return !strings.Contains(owner, "@")
	})
}
