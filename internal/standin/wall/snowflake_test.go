package wall

import (
	"fmt"
	"strings"
	"testing"
)

// snowflakeOIDC is a row as `snow sql --format json` prints it: additional_info is the text of an object.
func snowflakeOIDC(name, status, info string) string {
	return fmt.Sprintf(`{"name":%q,"type":"OIDC","comment":"","last_used":null,"created_on":"2026-10-13","additional_info":%q,"status":%q}`, name, info, status)
}

func TestSnowflake(t *testing.T) {
	t.Parallel()
	const issuer = `"issuer":"https://token.actions.githubusercontent.com"`
	info := "{" + issuer + `,"subject":"repo:acme/analytics:environment:production","audienceList":["acme.snowflakecomputing.com"]}`
	good := snowflakeOIDC("DEFAULT", "ACTIVE", info)
	for _, tt := range []struct {
		name, doc string
		changes   map[string]any
		want      bool
		err       string
	}{
		{"good", "[" + good + "]", nil, true, ""},
		{"an object", `[{"name":"CI","type":"OIDC","additional_info":` + info + `}]`, nil, true, ""},
		{"another subject", "[" + good + "]", map[string]any{"sub": "repo:acme/analytics:environment:Production"}, false, ""},
		{"another issuer", "[" + good + "]", map[string]any{"iss": "https://token.actions.githubusercontent.com/acme"}, false, ""},
		{"another audience", "[" + good + "]", map[string]any{"aud": "snowflakecomputing.com"}, false, ""},
		{"one more audience", "[" + good + "]", map[string]any{"aud": []any{"acme.snowflakecomputing.com", "x"}}, false, ""},
		{"no wildcards", "[" + strings.Replace(good, "production", "*", 1) + "]", nil, false, ""},
		{"other claims do not matter", "[" + good + "]", map[string]any{"event_name": "pull_request_target", "ref": "x"}, true, ""},
		{"disabled", "[" + snowflakeOIDC("CI", "DISABLED", info) + "]", nil, false, ""},
		{"a second one", "[" + snowflakeOIDC("A", "ACTIVE", strings.Replace(info, "production", "x", 1)) + "," + good + "]", nil, true, ""},
		{"no list", "[" + snowflakeOIDC("A", "ACTIVE", "{"+issuer+`,"subject":"s","audienceList":""}`) + "]", map[string]any{"sub": "s", "aud": "snowflakecomputing.com"}, true, ""},
		{"another cloud", `[{"name":"A","type":"AWS","additional_info":"{\"awsAccount\":\"1\"}"}]`, nil, false, ""},
		{"none", "[]", nil, false, ""},
		{"eleven", "[" + strings.Repeat(good+",", 10) + good + "]", nil, false, "user has 11 workload identities, more than 10"},
		{"a name twice", "[" + snowflakeOIDC("ci", "", info) + "," + snowflakeOIDC("CI", "", info) + "]", nil, false, `duplicate workload identity "CI"`},
		{"no name", "[" + snowflakeOIDC("", "", info) + "]", nil, false, `workload identity "": no name`},
		{"a long subject", "[" + snowflakeOIDC("A", "", "{"+issuer+`,"subject":"`+strings.Repeat("x", 256)+`"}`) + "]", nil, false, `workload identity "A": subject has 256 characters, want 1 to 255`},
		{"no issuer", "[" + snowflakeOIDC("A", "", `{"subject":"s"}`) + "]", nil, false, `workload identity "A": issuer "" is no https URL`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wall, err := Snowflake([]byte(tt.doc))
			if message(err) != tt.err {
				t.Fatalf("got %q, want %q", message(err), tt.err)
			}
			if err == nil {
				wantWall(t, wall, gitHubClaims(with(map[string]any{"aud": "acme.snowflakecomputing.com"}, tt.changes)), tt.want, "")
			}
		})
	}
}

func with(claims, changes map[string]any) map[string]any {
	for k, v := range changes {
		claims[k] = v
	}
	return claims
}
