package trust

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestOwnRoles: what is generated is read back as the same, and nothing is wrong
// with it.
func TestOwnRoles(t *testing.T) {
	t.Parallel()
	for _, language := range []string{"vault", "openbao", "trino"} {
		paths, _ := filepath.Glob("testdata/" + language + "/*.txtar")
		for _, path := range paths {
			t.Run(language+"/"+strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
				t.Parallel()
				a, err := txtar.ParseFile(path)
				if err != nil {
					t.Fatal(err)
				}
				d := demand(t, string(a.Files[0].Data), Options{})
				w, err := Generate(d)
				if err != nil {
					return // a case about a limit
				}
				files := []File{{"role.json", []byte(w.Documents[0].Text)}}
				if language == "trino" {
					files = append(files, File{"users.json", []byte(w.Documents[1].Text)})
				}
				checked, err := Check(d, files)
				if err != nil {
					t.Fatal(err)
				}
				if checked.Verdict != Same {
					t.Errorf("%s", checked.Verdict)
				}
				for _, f := range checked.Findings {
					if f.Severity == "error" {
						t.Errorf("%s: %s", f.Name, f.Message)
					}
				}
			})
		}
	}
}

const readPolicy1 = `
version: 1
targets:
  prod:
    exchange: {EXCHANGE}
    allow:
      - {repository: acme/analytics, repository_id: "101", environment: production, ref: refs/heads/main, repo_property_team: "sales,finance"}
`

// TestReadRoles has documents that others wrote, and the names of what is found.
func TestReadRoles(t *testing.T) {
	t.Parallel()
	const (
		onVault = `vault: {address: "https://v.acme.example", role: dbt, audience: a, secret: secret/data/dbt}`
		onBao   = `vault: {auth: cel, address: "https://v.acme.example", role: dbt, audience: a, secret: secret/data/dbt}`
		onTrino = "oidc: {audience: a}}\n    dbt: {type: trino, host: t.acme.example, port: 443, user: dbt, database: d, schema: s"
		trino   = "http-server.authentication.jwt.key-file=https://k\nhttp-server.authentication.jwt.required-issuer=https://token.actions.githubusercontent.com\n"
		aud     = "http-server.authentication.jwt.required-audience=a\n"
		mapping = "http-server.authentication.jwt.user-mapping.pattern="
	)
	role := func(rest string) string { return `{"data": {"role_type": "jwt", "user_claim": "sub", ` + rest + `}}` }
	for _, tt := range []struct {
		name, exchange string
		files          []string
		found          []string
		err            string
	}{
		{"no claims", onVault, []string{role(`"bound_audiences": ["a"]`)}, []string{"missing-subject", "wider"}, ""},
		{"no audience", onVault, []string{role(`"bound_claims": {"repository_id": "101"}`)}, []string{"missing-audience", "narrower"}, ""},
		{"a glob under string", onVault, []string{role(`"bound_audiences": "a", "bound_claims": {"sub": "repo:acme/analytics:*"}`)},
			[]string{"name-only", "narrower", "wildcard-under-exact-operator"}, ""},
		{"any owner", onVault, []string{role(`"bound_audiences": "a", "bound_claims_type": "glob", "bound_claims": {"sub": "repo:acme*"}`)},
			[]string{"name-only", "wide-subject", "wider"}, ""},
		{"a pattern as the subject", onVault, []string{role(`"bound_audiences": "a", "bound_subject": "repo:acme/*"`)},
			[]string{"name-only", "narrower", "wildcard-under-exact-operator"}, ""},
		{"split", onVault, []string{role(`"bound_audiences": "a", "bound_claims": {"repository_id": "101", "repo_property_team": ["sales", "finance"]}`)},
			[]string{"comma-split", "narrower", "wider"}, ""},
		{"a chosen alias", onVault, []string{`{"role_type": "jwt", "user_claim": "actor", "bound_audiences": ["a"], "bound_claims": {"repository_id": ["101"]}}`},
			[]string{"chosen-user-claim", "wider"}, ""},
		{"misspelt", onVault, []string{role(`"bound_audiences": ["a"], "bound_claims": {"repository_id": ["101"], "enviroment": "production"}`)},
			[]string{"key-not-read", "narrower", "wider"}, ""},
		{"for people", onVault, []string{`{"role_type": "oidc", "bound_audiences": ["a"]}`}, []string{"narrower", "other-type"}, ""},
		{"no role", onVault, []string{`{"a": 1}`}, nil, "f0: no role_type: want what `vault read -format=json auth/PATH/role/NAME` prints"},
		{"no JSON", onVault, []string{`role_type jwt`}, nil,
			"f0: want what `vault read -format=json auth/PATH/role/NAME` prints: invalid character 'r' looking for beginning of value"},
		{"any audience", onBao, []string{`{"data": {"cel_program": {"expression": "claims.repository_id == '101' ? pb.Auth{policies: ['}']} : false"}}}`},
			[]string{"missing-audience", "wider"}, ""},
		{"anywhere", onBao, []string{`{"bound_audiences": ["a"], "cel_program": {"expression": "claims.sub.matches('repo:acme/analytics') ? pb.Auth{} : 'no'"}}`},
			[]string{"narrower", "unanchored-expression", "wider"}, ""},
		{"true refuses", onBao, []string{`{"bound_audiences": ["a"], "cel_program": {"expression": "claims.repository_id == '101'"}}`}, []string{"missing-subject", "narrower"}, ""},
		{"no program", onBao, []string{role(`"bound_audiences": "a"`)}, nil, "f0: no cel_program: want what `bao read -format=json auth/PATH/cel/role/NAME` prints"},
		{"no mapping", onTrino, []string{trino + aud}, []string{"missing-subject", "wide-subject", "wider"}, ""},
		{"no audience", onTrino, []string{trino + mapping + "repo:acme/analytics:environment:(production)"}, []string{"missing-audience", "narrower", "wider"}, ""},
		{"any repository", onTrino, []string{trino + aud + mapping + "repo:.*"}, []string{"wide-subject", "wider"}, ""},
		{"another claim", onTrino, []string{trino + aud + "http-server.authentication.jwt.principal-field=repository\n" + mapping + "acme/(analytics)"},
			[]string{"other-subject-claim", "wider"}, ""},
		{"no file", onTrino, []string{trino + aud + "http-server.authentication.jwt.user-mapping.file=etc/u.json"}, nil,
			`f0: user-mapping.file is "etc/u.json": give this file as well`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := demand(t, strings.Replace(readPolicy1, "EXCHANGE", tt.exchange, 1), Options{})
			var files []File
			for i, text := range tt.files {
				files = append(files, File{"f" + string(rune('0'+i)), []byte(text)})
			}
			checked, err := Check(d, files)
			if got := faultText(err); got != tt.err {
				t.Fatalf("got  %s\nwant %s", got, tt.err)
			}
			var found []string
			for _, f := range checked.Findings {
				found = append(found, f.Name)
			}
			slices.Sort(found)
			if found = slices.Compact(found); err == nil && !slices.Equal(found, tt.found) {
				t.Errorf("found %q, want %q\n%+v", found, tt.found, checked.Findings)
			}
		})
	}
}

func faultText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
