package explain_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/adapter"
	"github.com/oidc-dbt/oidc-dbt/internal/explain"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
)

var day = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func parse(t testing.TB, src string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy.yml", []byte(src), policy.Catalog{Providers: provider.Specs(), Adapters: adapter.Specs()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// target is a policy's target with rules in YAML's flow style.
func target(name string, rules ...string) string {
	return "  " + name + ":\n    exchange: {aws: {role: \"arn:aws:iam::123456789012:role/dbt\", region: eu-central-1}}\n    allow:\n      - " +
		strings.Join(rules, "\n      - ") + "\n"
}

func claims(t testing.TB, changes map[string]any) idtoken.Unverified {
	t.Helper()
	values := map[string]any{
		"iss": "https://token.actions.githubusercontent.com", "sub": "repo:acme/analytics:ref:refs/heads/main", "repository_id": "1",
		"repository": "acme/analytics", "ref": "refs/heads/main", "event_name": "push", "run_id": "7",
	}
	for name, v := range changes {
		values[name] = v
	}
	u, err := idtoken.NewUnverified(values)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func report(t testing.TB, src string, c policy.ClaimSet, kind string) explain.Report {
	t.Helper()
	r, err := explain.New(parse(t, src), c, day, "", explain.Source{Kind: kind})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestMarkdown: nothing of a claim leaves its cell, and the tables end.
func TestMarkdown(t *testing.T) {
	t.Parallel()
	rules := make([]string, 30)
	for i := range rules {
		rules[i] = `{repository_id: "1", environment: production}`
	}
	src := "version: 1\ntargets:\n" + target("prod", rules...)
	evil := "</code>|\n\n# <img src=x> @octocat"
	got := report(t, src, claims(t, map[string]any{"environment": evil}), "live").Markdown()
	for _, bad := range []string{"</code>|", "<img", "@octocat", "\n# "} {
		if strings.Contains(got, bad) {
			t.Errorf("the table holds %q:\n%s", bad, got)
		}
	}
	if !strings.Contains(got, "\n20 more rules are not shown.\n") || strings.Contains(got, "not verified") {
		t.Errorf("the table is\n%s", got)
	}
	if got := report(t, src, claims(t, nil), "file").Markdown(); !strings.HasPrefix(got, "**The claims were not verified.**\n") {
		t.Errorf("unverified claims are not marked:\n%s", got)
	}
	var many strings.Builder
	many.WriteString("version: 1\ntargets:\n")
	for i := range 200 {
		many.WriteString(target(fmt.Sprintf("t%d", i), rules[:10]...))
	}
	got = report(t, many.String(), claims(t, map[string]any{"environment": strings.Repeat("~", 9000)}), "live").Markdown()
	if len(got) > 512<<10 || !strings.Contains(got, " more targets are not shown.\n") {
		t.Errorf("the tables have %d bytes", len(got))
	}
}

// TestDeny: a rule of deny is named in every form of output, and the target's
// own rules stay.
func TestDeny(t *testing.T) {
	t.Parallel()
	src := "version: 1\ndeny:\n  - {actor: mallory}\ntargets:\n" + target("prod", `{repository_id: "1", ref: refs/heads/main}`)
	var text, machine strings.Builder
	r := report(t, src, claims(t, map[string]any{"actor": "mallory"}), "live")
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	const wantText = `claims of repo:acme/analytics:ref:refs/heads/main
verified: the ID token of this job

✗ prod: denied: deny rule 1 (line 3) matches
  rule 1 (line 8)
      claim          got              want
    ✓ repository_id  1                1
    ✓ ref            refs/heads/main  refs/heads/main
    ✓ event_name     push             push, schedule, workflow_dispatch, merge_group or release (by default)
  hint: deny comes before every target: to allow such a run again, remove the rule or narrow it
  warning: deny rule 1 (line 3) matches "repo:acme/analytics:ref:refs/heads/main"
`
	if text.String() != wantText {
		t.Errorf("text is\n%s\nwant\n%s", &text, wantText)
	}
	if err := r.WriteJSON(&machine); err != nil {
		t.Fatal(err)
	}
	const wantJSON = `"hints":["deny comes before every target: to allow such a run again, remove the rule or narrow it"],` +
		`"warnings":["deny rule 1 (line 3) matches \"repo:acme/analytics:ref:refs/heads/main\""]`
	if !strings.Contains(machine.String(), wantJSON) || !strings.Contains(machine.String(), `"matched":true`) {
		t.Errorf("JSON is %s, want %s in it", &machine, wantJSON)
	}
	if want := "✗ <code>prod</code>: denied: deny rule 1 (line 3) matches\n"; !strings.Contains(r.Markdown(), want) {
		t.Errorf("summary is\n%s", r.Markdown())
	}
}

// TestPersonsLogin: what of a person's own login is used is shown, with the defaults of the warehouse.
func TestPersonsLogin(t *testing.T) {
	t.Parallel()
	const (
		keycloak = "{issuer: https://id.acme.example, kind: people, client_id: dbt-cli}"
		entra    = "{issuer: https://login.microsoftonline.us/8d7c6b5a/v2.0, kind: people, client_id: dbt-cli}"
		sso      = `{issuer: "https://id.acme.example", kind: people, audience: oidc-dbt, aws_sso: ` +
			`{start_url: "https://acme.awsapps.com/start", region: eu-central-1, account: "123456789012", role: Analyst}}`
		snowflake = "{type: snowflake, account: acme-prod, user: ANN, role: ANALYST, database: D, schema: S}"
	)
	for _, tt := range []struct{ name, identity, issuer, aud, exchange, dbt, want string }{
		{"snowflake", keycloak, "https://id.acme.example", "dbt-cli", "{}", snowflake,
			"audience dbt-cli, database D, identity us, provider login, role ANALYST, schema S, scope session:role:ANALYST, user ANN"},
		{"a scope", keycloak, "https://id.acme.example", "dbt-cli", "{scope: 'api://acme/session:role:A'}", snowflake,
			"audience dbt-cli, database D, identity us, provider login, role ANALYST, schema S, scope api://acme/session:role:A, user ANN"},
		{"a profile of the project", keycloak, "https://id.acme.example", "dbt-cli", "{}", "{from: profiles.yml}",
			"audience dbt-cli, identity us, provider login"},
		{"Azure SQL in the US government's cloud", entra, "https://login.microsoftonline.us/8d7c6b5a/v2.0", "dbt-cli", "{}",
			"{type: sqlserver, driver: ODBC, host: acme.database.usgovcloudapi.net, database: marts, schema: dbo}",
			"audience dbt-cli, database marts, identity us, provider login, schema dbo, scope https://database.usgovcloudapi.net/.default"},
		{"a role at AWS", sso, "https://id.acme.example", "oidc-dbt", "{}", "{type: athena, schema: marts, database: awsdatacatalog, s3_staging_dir: s3://acme/}",
			"account 123456789012, audience oidc-dbt, database awsdatacatalog, identity us, provider login, role Analyst, schema marts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := fmt.Sprintf("version: 1\nidentities:\n  us: %s\ntargets:\n  dev:\n    exchange: {login: %s}\n    dbt: %s\n    allow:\n"+
				"      - {identity: us, sub: 00u1ann}\n", tt.identity, tt.exchange, tt.dbt)
			u, err := idtoken.NewUnverified(map[string]any{"iss": tt.issuer, "sub": "00u1ann", "aud": tt.aud})
			if err != nil {
				t.Fatal(err)
			}
			login := report(t, src, u, "file").Targets[0].Login
			var got []string
			for _, name := range slices.Sorted(maps.Keys(login)) {
				if !slices.Contains(explain.LoginNames, name) {
					t.Errorf("%s is not one of the names", name)
				}
				got = append(got, name+" "+login[name])
			}
			if got := strings.Join(got, ", "); got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestPainted: only marks at the start of a line are coloured.
func TestPainted(t *testing.T) {
	t.Parallel()
	const text = "claims of ✗\n\n✓ prod: allowed\n    ✗ ref  ✓  ✗\n? x\n"
	const want = "claims of ✗\n\n\x1b[32m✓\x1b[0m prod: allowed\n    \x1b[31m✗\x1b[0m ref  ✓  ✗\n? x\n"
	if got := explain.Painted(text); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestUnverifiedIsMarked: in every form of output.
func TestUnverifiedIsMarked(t *testing.T) {
	t.Parallel()
	src := "version: 1\ntargets:\n" + target("prod", `{repository_id: "1", ref: refs/heads/main}`)
	for _, kind := range []string{"live", "file", "flags"} {
		r := report(t, src, claims(t, nil), kind)
		var text, machine strings.Builder
		if err := r.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		if err := r.WriteJSON(&machine); err != nil {
			t.Fatal(err)
		}
		verified := kind == "live"
		if strings.Contains(text.String(), "NOT VERIFIED") == verified || strings.Contains(machine.String(), `"verified":false`) == verified ||
			strings.Contains(r.Markdown(), "not verified") == verified {
			t.Errorf("%s:\n%s%s%s", kind, &text, &machine, r.Markdown())
		}
	}
}

// BenchmarkTenThousandRules is what `explain` adds to parsing a policy of
// 10,000 rules, all of which are denied.
func BenchmarkTenThousandRules(b *testing.B) {
	rules := make([]string, 10_000)
	for i := range rules {
		rules[i] = `{repository: acme/*, repository_id: "1", environment: production, ref: "refs/heads/ma*"}`
	}
	src := "version: 1\ntargets:\n" + target("prod", rules...)
	c := claims(b, nil)
	p := parse(b, src)
	for _, form := range []string{"text", "json"} {
		b.Run(form, func(b *testing.B) {
			for b.Loop() {
				r, err := explain.New(p, c, day, "", explain.Source{Kind: "file"})
				if err != nil || r.Allowed() {
					b.Fatal(err)
				}
				var out strings.Builder
				write := r.WriteText
				if form == "json" {
					write = r.WriteJSON
				}
				if err := write(&out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
