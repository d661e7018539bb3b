package wall

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// entraDoc is a list of one credential, with changes; nil removes a key.
func entraDoc(t *testing.T, changes map[string]any) []byte {
	t.Helper()
	c := map[string]any{
		"name": "production", "issuer": "https://token.actions.githubusercontent.com", "audiences": []string{"api://AzureADTokenExchange"},
		"subject": "repo:acme/analytics:environment:production",
	}
	for k, v := range changes {
		c[k] = v
		if v == nil {
			delete(c, k)
		}
	}
	doc, err := json.Marshal([]any{c})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func expression(value string) map[string]any {
	return map[string]any{"subject": nil, "claimsMatchingExpression": map[string]any{"value": value, "languageVersion": 1}}
}

func TestEntra(t *testing.T) {
	t.Parallel()
	flexible := expression("claims['sub'] matches 'repo:acme/*:environment:production' and claims['repository_owner_id'] eq '65'")
	for _, tt := range []struct {
		name    string
		changes map[string]any
		claims  map[string]any
		want    bool
	}{
		{"standard", nil, nil, true},
		{"another case", map[string]any{"subject": "repo:Acme/analytics:environment:production"}, nil, false},
		{"no wildcards", map[string]any{"subject": "repo:acme/*:environment:production"}, nil, false},
		{"another issuer", nil, map[string]any{"iss": "https://gitlab.com"}, false},
		{"another audience", nil, map[string]any{"aud": "x"}, false},
		{"other claims do not matter", nil, map[string]any{"event_name": "pull_request_target"}, true},
		{"flexible", flexible, nil, true},
		{"flexible, another owner", flexible, map[string]any{"repository_owner_id": "66"}, false},
		{"flexible, no owner", flexible, map[string]any{"repository_owner_id": nil}, false},
		{"flexible, * over / and :", flexible, map[string]any{"sub": "repo:acme/x/y:environment:z:environment:production"}, true},
		{"flexible, all of it", flexible, map[string]any{"sub": "xrepo:acme/x:environment:production"}, false},
		{"flexible, another audience", flexible, map[string]any{"aud": "x"}, false},
		{"? is one", expression("claims['sub'] matches 'repo:acme/analytic?:*' and claims['repository_id'] eq '74'"), nil, true},
		{"eq has no wildcards", expression("claims['sub'] eq 'repo:acme/*' and claims['repository_id'] eq '74'"), nil, false},
		{"a called workflow", expression("claims['sub'] matches '*' and claims['repository_id'] eq '74' and claims['job_workflow_ref'] matches 'acme/platform/.github/workflows/dbt.yml@*'"), nil, true},
		{"another called workflow", expression("claims['sub'] matches '*' and claims['repository_id'] eq '74' and claims['job_workflow_ref'] matches 'acme/platform/.github/workflows/dbt.yml@*'"), map[string]any{"job_workflow_ref": "evil/x/.github/workflows/dbt.yml@v3"}, false},
		{"an old one", expression("claims['sub'] matches 'repo:acme/*'"), nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wall, err := Entra(entraDoc(t, tt.changes))
			if err != nil {
				t.Fatal(err)
			}
			wantWall(t, wall, gitHubClaims(with(map[string]any{"aud": "api://AzureADTokenExchange"}, tt.claims)), tt.want, "")
		})
	}
}

func TestEntraRefuses(t *testing.T) {
	t.Parallel()
	const id = " and claims['repository_id'] eq '74'"
	for _, tt := range []struct {
		name    string
		changes map[string]any
		err     string
	}{
		{"name", map[string]any{"name": "p:x"}, `credential "p:x": a name has 3 to 120 characters of A-Z a-z 0-9 _ -, and begins with a letter or digit`},
		{"audiences", map[string]any{"audiences": []string{"a", "b"}}, `credential "production": 2 audiences, want one`},
		{"http", map[string]any{"issuer": "http://x"}, `credential "production": issuer "http://x" is no https URL`},
		{"length", map[string]any{"subject": strings.Repeat("x", 601)}, `credential "production": subject has 601 characters, more than 600`},
		{"neither", map[string]any{"subject": nil}, `credential "production": want either subject or claimsMatchingExpression`},
		{"both", map[string]any{"claimsMatchingExpression": map[string]any{"value": "x", "languageVersion": 1}}, `credential "production": want either subject or claimsMatchingExpression`},
		{"version", map[string]any{"subject": nil, "claimsMatchingExpression": map[string]any{"value": "x"}}, `credential "production": languageVersion is 0, want 1`},
		{"issuer", with(expression("claims['sub'] eq 'x'"), map[string]any{"issuer": "https://token.actions.githubusercontent.com/acme"}), `credential "production": flexible credentials are not for the issuer https://token.actions.githubusercontent.com/acme`},
		{"claim", expression("claims['sub'] eq 'x' and claims['event_name'] eq 'push'"), `credential "production": expression: either lacks all required claims or contains unallowed claims: event_name`},
		{"operator", expression("claims['sub'] eq 'x' and claims['repository_id'] matches '7*'"), `credential "production": expression: operator "matches" is not for repository_id, operators are ["eq"]`},
		{"or", expression("claims['sub'] eq 'x' or claims['sub'] eq 'y'"), `credential "production": expression: want " and " at " or claims['sub'] eq 'y'"`},
		{"not", expression("not claims['sub'] eq 'x'" + id), `credential "production": expression: want claims['NAME'] OPERATOR 'VALUE' at "not claims['sub'] eq 'x' and claims['repository_id'] eq '74'"`},
		{"spaces", expression("claims['sub']  eq 'x'" + id), `credential "production": expression: want claims['NAME'] OPERATOR 'VALUE' at "claims['sub']  eq 'x' and claims['repository_id'] eq '74'"`},
		{"double quotes", expression(`claims["sub"] eq "x"`), `credential "production": expression: want claims['NAME'] OPERATOR 'VALUE' at "claims[\"sub\"] eq \"x\""`},
		{"a quote", expression("claims['sub'] eq 'it''s'"), `credential "production": expression: want " and " at "'s'"`},
		{"empty", expression(""), `credential "production": expression: want claims['NAME'] OPERATOR 'VALUE' at ""`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := Entra(entraDoc(t, tt.changes)); message(err) != tt.err {
				t.Errorf("got  %s\nwant %s", message(err), tt.err)
			}
		})
	}
}

// TestEntraList is about several credentials: as Graph prints them, and as az does.
func TestEntraList(t *testing.T) {
	t.Parallel()
	list := func(n int, subject string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`{"name":"c%02d","issuer":"https://x","subject":%q,"audiences":["a"]}`, i, strings.ReplaceAll(subject, "#", fmt.Sprint(i))))
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	for _, tt := range []struct{ name, doc, err string }{
		{"twenty", list(20, "s#"), ""},
		{"as Graph prints them", `{"@odata.context":"x","value":` + list(2, "s#") + `}`, ""},
		{"twenty-one", list(21, "s#"), "21 federated credentials, more than 20"},
		{"the same subject", list(2, "s"), `credential "c01": another one has the same issuer and subject`},
		{"the same name", strings.ReplaceAll(list(2, "s#"), "c01", "c00"), `duplicate name "c00"`},
	} {
		if _, err := Entra([]byte(tt.doc)); message(err) != tt.err {
			t.Errorf("%s: got %q, want %q", tt.name, message(err), tt.err)
		}
	}
	wall, err := Entra([]byte(list(20, "s#")))
	if err != nil {
		t.Fatal(err)
	}
	wantWall(t, wall, map[string]any{"iss": "https://x", "aud": "a", "sub": "s19"}, true, "")
	wantWall(t, wall, map[string]any{"iss": "https://x", "aud": "a", "sub": "s20"}, false, "")
}

func TestEntraControl(t *testing.T) {
	t.Parallel()
	const lacks = `credential "production": the expression lacks sub, or an eq on repository_id or repository_owner_id`
	for _, tt := range []struct {
		name    string
		changes map[string]any
		err     string
	}{
		{"standard", nil, ""},
		{"an id", expression("claims['sub'] matches 'repo:acme/*' and claims['repository_owner_id'] eq '65'"), ""},
		{"no id", expression("claims['sub'] matches 'repo:acme/*' and claims['job_workflow_ref'] eq 'x'"), lacks},
		{"no subject", expression("claims['repository_id'] eq '74'"), lacks},
	} {
		if err := EntraControl(entraDoc(t, tt.changes)); message(err) != tt.err {
			t.Errorf("%s: got %q, want %q", tt.name, message(err), tt.err)
		}
	}
}
