package wall

import (
	"encoding/json"
	"strings"
	"testing"
)

func celRole(t *testing.T, expression string, variables ...celVariable) []byte {
	t.Helper()
	program := map[string]any{"expression": expression}
	if len(variables) > 0 {
		program["variables"] = variables
	}
	doc, err := json.Marshal(map[string]any{"cel_program": program, "bound_audiences": []string{"bao"}, "message": "no"})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestOpenBaoCEL(t *testing.T) {
	t.Parallel()
	const auth = " ? pb.Auth{policies: ['dbt'], display_name: claims.sub, no_default_policy: true} : false"
	for _, tt := range []struct {
		name, expression string
		changes          map[string]any
		want             bool
	}{
		{"good", "claims.sub == 'repo:acme/analytics:environment:production'" + auth, nil, true},
		{"false", "claims.sub == 'x'" + auth, nil, false},
		{"another audience", "true" + auth, map[string]any{"aud": "x"}, false},
		{"true is no answer", "true", nil, false},
		{"a message", "claims.sub == 'x' ? pb.Auth{policies: ['dbt']} : 'another subject'", nil, false},
		{"guarded", "has(claims.environment) && claims.environment == 'production'" + auth, map[string]any{"environment": nil}, false},
		{"or", "has(claims.environment) && claims.environment == 'x' || has(claims.ref) && claims.ref == 'refs/heads/main'" + auth, nil, true},
		{"an error behind another claim", "claims.sub == 'repo:acme/analytics:environment:production' && claims.environment == 'production'" + auth, map[string]any{"environment": nil}, false},
		{"matches", "claims.sub.matches('^repo:acme/[^/]*$')" + auth, nil, true},
		{"strings", "claims.sub.split(':')[0].lowerAscii() == 'repo'" + auth, map[string]any{"sub": "REPO:x"}, true},
		{"sets", "sets.contains(['push', 'schedule'], [claims.?event_name.orValue('')])" + auth, nil, true},
		{"lists", "[claims.sub].distinct().size() == 1" + auth, nil, true},
		{"regex", "regex.replace(claims.sub, '^repo:', '').startsWith('acme/')" + auth, nil, true},
		{"an alias", "true ? pb.Auth{alias: logical.Alias{name: claims.sub}, metadata: {'ref': claims.?ref.orValue('')}, lease_options: pb.LeaseOptions{TTL: 60}} : false", nil, true},
		{"operation", "operation == 'update' && now > timestamp('2020-01-01T00:00:00Z')" + auth, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wall, err := OpenBaoCEL(celRole(t, tt.expression))
			if err != nil {
				t.Fatal(err)
			}
			wantWall(t, wall, gitHubClaims(with(map[string]any{"aud": "bao"}, tt.changes)), tt.want, "")
		})
	}
}

func TestOpenBaoCELVariables(t *testing.T) {
	t.Parallel()
	wall, err := OpenBaoCEL(celRole(t, "main ? login : false",
		celVariable{"ref", "claims.?ref.orValue('')"}, celVariable{"main", "ref == 'refs/heads/main'"}, celVariable{"login", "pb.Auth{policies: ['dbt']}"}))
	if err != nil {
		t.Fatal(err)
	}
	wantWall(t, wall, gitHubClaims(map[string]any{"aud": "bao"}), true, "")
	wantWall(t, wall, gitHubClaims(map[string]any{"aud": "bao", "ref": "refs/heads/dev"}), false, "")
}

func TestOpenBaoCELRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, expression, err string }{
		{"empty", "", "cel_program.expression cannot be empty"},
		{"syntax", "claims.sub = 'x'", `cel_program "": ERROR: <input>:1:12: Syntax error`},
		{"another variable", "assertion.sub == 'x'", `cel_program "": ERROR: <input>:1:1: undeclared reference to 'assertion'`},
		{"another field", "pb.Auth{policy: 'dbt'}", `cel_program "": ERROR: <input>:1:15: undefined field 'policy'`},
		{"another message", "pb.Alias{name: 'dbt'}", `cel_program "": ERROR: <input>:1:9: undeclared reference to 'pb.Alias'`},
		{"types", "operation == 1", `cel_program "": ERROR: <input>:1:11: found no matching overload for '_==_'`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := OpenBaoCEL(celRole(t, tt.expression)); err == nil || !strings.HasPrefix(message(err), tt.err) {
				t.Errorf("got  %s\nwant %s", message(err), tt.err)
			}
		})
	}
}
