package wall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ryanuber/go-glob"
)

// vaultRole is a role of the JWT auth method, as `vault read` prints its data.
type vaultRole struct {
	RoleType             string            `json:"role_type"`
	BoundAudiences       commaTexts        `json:"bound_audiences"`
	BoundSubject         string            `json:"bound_subject"`
	BoundClaims          map[string]any    `json:"bound_claims"`
	BoundClaimsType      string            `json:"bound_claims_type"`
	UserClaim            string            `json:"user_claim"`
	UserClaimJSONPointer bool              `json:"user_claim_json_pointer"`
	GroupsClaim          string            `json:"groups_claim"`
	ClaimMappings        map[string]string `json:"claim_mappings"`
	TokenBoundCIDRs      commaTexts        `json:"token_bound_cidrs"`
	AllowedRedirectURIs  commaTexts        `json:"allowed_redirect_uris"`
}

// commaTexts is a list of strings, or a string that Vault splits at commas.
type commaTexts []string

func (t *commaTexts) UnmarshalJSON(raw []byte) error {
	var all texts
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	if bytes.HasPrefix(raw, []byte(`"`)) {
		all = strings.Split(all[0], ",")
	}
	*t = nil
	for _, a := range all {
		if a = strings.TrimSpace(a); a != "" {
			*t = append(*t, a)
		}
	}
	return nil
}

// Vault reads a role of type jwt, of Vault or OpenBao: the JSON of `vault
// write auth/PATH/role/NAME -`, or what `vault read -format=json` prints. The
// issuer is the auth method's and not the role's. Its error is what Vault refuses.
func Vault(role []byte) (Wall, error) {
	var r vaultRole
	if err := readVault(role, &r); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return func(claims map[string]any) (bool, error) {
		all, _ := plain(claims).(map[string]any)
		return r.admits(all), nil
	}, nil
}

// readVault takes a role by itself, or as the data of a response.
func readVault(doc []byte, into any) error {
	var response struct {
		Data json.RawMessage `json:"data"`
	}
	if err := read(doc, &response); err != nil {
		return err
	}
	if len(response.Data) > 0 {
		doc = response.Data
	}
	return read(doc, into)
}

// check is of pathRoleCreateUpdate in vault-plugin-auth-jwt.
func (r vaultRole) check() error {
	switch {
	case r.RoleType != "" && r.RoleType != "jwt" && r.RoleType != "oidc":
		return fmt.Errorf("invalid 'role_type': %s", r.RoleType)
	case r.BoundClaimsType != "" && r.BoundClaimsType != "string" && r.BoundClaimsType != "glob":
		return fmt.Errorf("invalid 'bound_claims_type': %s", r.BoundClaimsType)
	case r.UserClaim == "":
		return errors.New("a user claim must be defined on the role")
	case r.RoleType != "jwt" && len(r.AllowedRedirectURIs) == 0:
		return errors.New("'allowed_redirect_uris' must be set if 'role_type' is 'oidc' or unspecified")
	case len(r.BoundAudiences) == 0 && len(r.TokenBoundCIDRs) == 0 && r.BoundSubject == "" && len(r.BoundClaims) == 0:
		return errors.New("must have at least one bound constraint when creating/updating a role")
	}
	if r.BoundClaimsType != "glob" {
		return nil
	}
	for claim, bound := range r.BoundClaims {
		list, ok := vaultList(bound)
		if !ok {
			return fmt.Errorf("claim is not a string or list: %s", claim)
		}
		for _, v := range list {
			if _, ok := v.(string); !ok {
				return fmt.Errorf("claim is not a string: %v", v)
			}
		}
	}
	return nil
}

// admits is of pathLogin. Where a bound claim is absent, or of a kind that
// Vault does not compare, the login fails.
func (r vaultRole) admits(claims map[string]any) bool {
	audiences := values(claims["aud"])
	subject, _ := claims["sub"].(string)
	switch {
	case r.RoleType != "jwt":
		return false
	case len(r.BoundAudiences) == 0 && len(audiences) > 0:
		return false
	case len(r.BoundAudiences) > 0 && !anyIn(r.BoundAudiences, audiences):
		return false
	case r.BoundSubject != "" && r.BoundSubject != subject: // a literal in glob mode as well
		return false
	}
	for claim, bound := range r.BoundClaims {
		got, ok := vaultList(vaultClaim(claims, claim))
		want, wantOK := vaultList(bound)
		if !ok || !wantOK || !vaultMatch(want, got, r.BoundClaimsType == "glob") {
			return false
		}
	}
	user := claims[r.UserClaim]
	if r.UserClaimJSONPointer {
		user = vaultClaim(claims, r.UserClaim)
	}
	if _, ok := user.(string); !ok {
		return false
	}
	if _, ok := vaultList(vaultClaim(claims, r.GroupsClaim)); r.GroupsClaim != "" && !ok {
		return false
	}
	for claim := range r.ClaimMappings {
		got := vaultClaim(claims, claim)
		if _, ok := got.(string); got != nil && !ok {
			return false
		}
	}
	return true
}

func vaultMatch(want, got []any, globs bool) bool {
	for _, w := range want {
		for _, g := range got {
			pattern, isText := w.(string)
			value, gotText := g.(string)
			switch {
			case globs && isText && gotText && glob.Glob(pattern, value):
				return true
			case !globs && scalar(w) && scalar(g) && w == g:
				return true
			}
		}
	}
	return false
}

func scalar(v any) bool {
	switch v.(type) {
	case string, bool, json.Number, float64:
		return true
	}
	return false
}

// vaultClaim returns a claim, by a JSON pointer if the name begins with a
// slash. A number by itself becomes a json.Number, one in a list does not.
func vaultClaim(claims map[string]any, name string) any {
	var value any = claims
	if strings.HasPrefix(name, "/") {
		for _, step := range strings.Split(name[1:], "/") {
			step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
			switch at := value.(type) {
			case map[string]any:
				value = at[step]
			case []any:
				i, err := strconv.Atoi(step)
				if err != nil || i < 0 || i >= len(at) {
					return nil
				}
				value = at[i]
			default:
				return nil
			}
		}
	} else {
		value = claims[name]
	}
	if f, ok := value.(float64); ok {
		return json.Number(strconv.FormatFloat(f, 'f', -1, 64))
	}
	return value
}

// vaultList makes a list of a value of a kind that Vault compares.
func vaultList(value any) ([]any, bool) {
	switch value := value.(type) {
	case []any:
		return value, true
	case string, bool, json.Number:
		return []any{value}, true
	}
	return nil, false
}
