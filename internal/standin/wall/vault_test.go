package wall

import (
	"fmt"
	"testing"
)

func TestVault(t *testing.T) {
	t.Parallel()
	noEnvironment := map[string]any{"environment": nil}
	for _, tt := range []struct {
		name, role string // what is next to role_type, user_claim and bound_audiences
		changes    map[string]any
		want       bool
		err        string
	}{
		// The example of GitHub's page on Vault.
		{"documented", `"bound_subject":"repo:acme/analytics:environment:production"`, nil, true, ""},
		{"documented, claims", `"bound_claims":{"sub":"repo:acme/analytics:*"},"bound_claims_type":"glob"`, nil, true, ""},
		{"another audience", `"bound_subject":"repo:acme/analytics:environment:production"`, map[string]any{"aud": "x"}, false, ""},
		{"one of the audiences", `"bound_claims":{}`, map[string]any{"aud": []any{"x", "vault"}}, true, ""},
		{"the subject is never a glob", `"bound_subject":"repo:acme/*","bound_claims_type":"glob"`, nil, false, ""},
		{"claims are an and", `"bound_claims":{"ref":"refs/heads/main","event_name":"schedule"}`, nil, false, ""},
		{"lists are an or", `"bound_claims":{"ref":["refs/heads/dev","refs/heads/main"],"event_name":["push","schedule"]}`, nil, true, ""},
		{"the cross product", `"bound_claims":{"ref":["refs/heads/dev","refs/heads/main"],"environment":["dev","production"]}`, map[string]any{"ref": "refs/heads/dev"}, true, ""},
		{"an absent claim", `"bound_claims":{"environment":"production"}`, noEnvironment, false, ""},
		{"an absent claim, *", `"bound_claims":{"environment":"*"},"bound_claims_type":"glob"`, noEnvironment, false, ""},
		{"* is a text in string mode", `"bound_claims":{"ref":"refs/heads/*"}`, nil, false, ""},
		{"* over /", `"bound_claims":{"ref":"refs/*"},"bound_claims_type":"glob"`, nil, true, ""},
		{"* over nothing", `"bound_claims":{"ref":"refs/heads/main*"},"bound_claims_type":"glob"`, nil, true, ""},
		{"* in the middle", `"bound_claims":{"sub":"repo:acme/*:production"},"bound_claims_type":"glob"`, nil, true, ""},
		{"? is a text", `"bound_claims":{"ref":"refs/heads/mai?"},"bound_claims_type":"glob"`, nil, false, ""},
		{"all of it", `"bound_claims":{"ref":"heads/main"},"bound_claims_type":"glob"`, nil, false, ""},
		{"a comma is a text", `"bound_claims":{"ref":"refs/heads/main,x"}`, nil, false, ""},
		{"a list-valued claim", `"bound_claims":{"groups":"b"}`, map[string]any{"groups": []any{"a", "b"}}, true, ""},
		{"a number", `"bound_claims":{"n":7}`, map[string]any{"n": 7}, true, ""},
		{"a number is no text", `"bound_claims":{"n":"7"}`, map[string]any{"n": 7}, false, ""},
		{"a bool", `"bound_claims":{"b":true}`, map[string]any{"b": true}, true, ""},
		{"an object", `"bound_claims":{"o":"x"}`, map[string]any{"o": map[string]any{}}, false, ""},
		{"a pointer", `"bound_claims":{"/o/a~1b/0":"x"}`, map[string]any{"o": map[string]any{"a/b": []any{"x"}}}, true, ""},
		{"a pointer to nothing", `"bound_claims":{"/o/x":"x"}`, map[string]any{"o": map[string]any{}}, false, ""},
		{"no groups", `"groups_claim":"groups"`, nil, false, ""},
		{"a mapping to no text", `"claim_mappings":{"n":"n"}`, map[string]any{"n": 7}, false, ""},
		{"a mapping to nothing", `"claim_mappings":{"n":"n"}`, nil, true, ""},
		{"a glob that is no text", `"bound_claims":{"n":7},"bound_claims_type":"glob"`, nil, false, "claim is not a string: 7"},
		{"type", `"bound_claims_type":"regex"`, nil, false, "invalid 'bound_claims_type': regex"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wall, err := Vault(fmt.Appendf(nil, `{"role_type":"jwt","user_claim":"repository","bound_audiences":"vault, other",%s}`, tt.role))
			if message(err) != tt.err {
				t.Fatalf("got %q, want %q", message(err), tt.err)
			}
			if err == nil {
				wantWall(t, wall, gitHubClaims(with(map[string]any{"aud": "vault"}, tt.changes)), tt.want, "")
			}
		})
	}
}

// TestVaultRoles is about roles as a whole.
func TestVaultRoles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, role string
		want       bool
		err        string
	}{
		{"as vault read prints it", `{"request_id":"x","data":{"role_type":"jwt","user_claim":"actor","bound_audiences":["vault"],"bound_claims":null,"bound_subject":""}}`, true, ""},
		{"no audiences", `{"role_type":"jwt","user_claim":"actor","bound_subject":"repo:acme/analytics:environment:production"}`, false, ""},
		{"a user claim that is not there", `{"role_type":"jwt","user_claim":"email","bound_audiences":"vault"}`, false, ""},
		{"oidc", `{"role_type":"oidc","user_claim":"actor","bound_audiences":"vault","allowed_redirect_uris":["https://x"]}`, false, ""},
		{"no type", `{"user_claim":"actor","bound_audiences":"vault"}`, false, "'allowed_redirect_uris' must be set if 'role_type' is 'oidc' or unspecified"},
		{"another type", `{"role_type":"cel"}`, false, "invalid 'role_type': cel"},
		{"no user claim", `{"role_type":"jwt","bound_audiences":"vault"}`, false, "a user claim must be defined on the role"},
		{"no constraint", `{"role_type":"jwt","user_claim":"actor"}`, false, "must have at least one bound constraint when creating/updating a role"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wall, err := Vault([]byte(tt.role))
			if message(err) != tt.err {
				t.Fatalf("got %q, want %q", message(err), tt.err)
			}
			if err == nil {
				wantWall(t, wall, gitHubClaims(map[string]any{"aud": "vault"}), tt.want, "")
			}
		})
	}
}
