package wall

import (
	"strings"
	"testing"
)

// The policy of Databricks' page on GitHub Actions.
const databricksPolicyGitHub = `{"name":"accounts/11111111-2222-3333-4444-555555555555/servicePrincipals/7/federationPolicies/p",
	"oidc_policy":{"issuer":"https://token.actions.githubusercontent.com","audiences":["https://github.com/acme"],"subject":"repo:acme/analytics:environment:production"}}`

func TestDatabricks(t *testing.T) {
	t.Parallel()
	good := databricksPolicyGitHub
	byWorkflow := strings.Replace(good, `"subject":"repo:acme/analytics:environment:production"`, `"subject":"acme/platform/.github/workflows/dbt.yml@refs/tags/v3","subject_claim":"job_workflow_ref"`, 1)
	noAudience := strings.Replace(good, `"audiences":["https://github.com/acme"],`, "", 1)
	for _, tt := range []struct {
		name, doc string
		changes   map[string]any
		want      bool
		err       string
	}{
		{"good", "[" + good + "]", nil, true, ""},
		{"as the API prints it", `{"policies":[` + good + `]}`, nil, true, ""},
		{"another subject", "[" + good + "]", map[string]any{"sub": "repo:acme/analytics:environment:staging"}, false, ""},
		{"another issuer", "[" + good + "]", map[string]any{"iss": "https://gitlab.com"}, false, ""},
		{"another audience", "[" + good + "]", map[string]any{"aud": "x"}, false, ""},
		{"one of the audiences", "[" + good + "]", map[string]any{"aud": []any{"x", "https://github.com/acme"}}, true, ""},
		{"no wildcards", "[" + strings.Replace(good, ":production", ":*", 1) + "]", nil, false, ""},
		{"another subject claim checks nothing else", "[" + byWorkflow + "]", map[string]any{"repository": "evil/x", "sub": "repo:evil/x:ref:refs/heads/x"}, true, ""},
		{"a subject claim that is not there", "[" + byWorkflow + "]", map[string]any{"job_workflow_ref": nil}, false, ""},
		{"policies are an or", "[" + strings.Replace(good, "production", "x", 1) + "," + good + "]", nil, true, ""},
		{"the account's id", "[" + noAudience + "]", map[string]any{"aud": "11111111-2222-3333-4444-555555555555"}, true, ""},
		{"none", `{"policies":[]}`, nil, false, ""},
		{"no list", `{"value":[]}`, nil, false, `invalid JSON: neither a list nor an object with "policies"`},
		{"no account's id", "[" + strings.Replace(noAudience, "accounts/", "", 1) + "]", nil, false, "federation policy 1: no audiences, and no name that says which account's id is the default"},
		{"no subject", "[" + strings.Replace(good, "repo:acme/analytics:environment:production", "", 1) + "]", nil, false, "federation policy 1: a service principal's policy needs a subject"},
		{"no policy", `[{}]`, nil, false, "federation policy 1: no oidc_policy"},
		{"http", "[" + strings.Replace(good, "https://token", "http://token", 1) + "]", nil, false, `federation policy 1: issuer "http://token.actions.githubusercontent.com" is no https URL`},
		{"twenty-one", "[" + strings.Repeat(good+",", 20) + good + "]", nil, false, "21 federation policies, more than 20"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wall, err := Databricks([]byte(tt.doc))
			if message(err) != tt.err {
				t.Fatalf("got %q, want %q", message(err), tt.err)
			}
			if err == nil {
				wantWall(t, wall, gitHubClaims(with(map[string]any{"aud": "https://github.com/acme"}, tt.changes)), tt.want, "")
			}
		})
	}
}

func TestDatabricksAccount(t *testing.T) {
	t.Parallel()
	account := strings.Replace(databricksPolicyGitHub, `"subject":"repo:acme/analytics:environment:production"`, `"subject_claim":"actor"`, 1)
	wall, err := DatabricksAccount([]byte("["+account+"]"), "octocat")
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{"aud": "https://github.com/acme"}
	wantWall(t, wall, gitHubClaims(claims), true, "")
	wantWall(t, wall, gitHubClaims(with(claims, map[string]any{"actor": "mallory"})), false, "")
	if _, err := DatabricksAccount([]byte("["+databricksPolicyGitHub+"]"), "x"); message(err) != "federation policy 1: an account's policy must not have a subject" {
		t.Error(err)
	}
}
