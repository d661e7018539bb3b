package trust

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

// A readCase is what a vendor's tool exported, and what is made of it.
type readCase struct {
	name     string
	files    []string
	err      string
	findings []string // NAME severity
	admits   []string // subjects, or CLAIM=VALUE, of tokens that get in
	refuses  []string
	unknown  string // why it cannot be decided
}

const onSnowflake = `
version: 1
targets:
  prod:
    client: {type: snowflake, account: acme-prod, user: DBT_PROD}
    exchange:
      oidc: {audience: acme}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`

const onDatabricks = `
version: 1
targets:
  prod:
    exchange:
      databricks: {host: dbc-a1b2c3d4-e5f6.cloud.databricks.com, account_id: 12121212-3434-5656-7878-909090909090, client_id: aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}
`

func (tt readCase) run(t *testing.T, text string, read func(Demand, []File) (Reading, error)) {
	t.Helper()
	d := demand(t, text, Options{})
	var files []File
	for _, f := range tt.files {
		files = append(files, File{"FILE", []byte(f)})
	}
	got, err := read(d, files)
	if err != nil || tt.err != "" {
		if err == nil || err.Error() != tt.err {
			t.Errorf("error %v, want %q", err, tt.err)
		}
		return
	}
	var names []string
	for _, f := range got.Findings {
		names = append(names, f.Name+" "+f.Severity)
		if !strings.HasPrefix(f.Message, "FILE: ") {
			t.Errorf("%s does not say where: %s", f.Name, f.Message)
		}
	}
	if diff := cmp.Diff(tt.findings, names); diff != "" {
		t.Errorf("findings differ (-want +got):\n%s", diff)
	}
	for want, list := range map[logic.Verdict][]string{logic.True: tt.admits, logic.False: tt.refuses} {
		for _, subject := range list {
			token := map[string]string{"iss": "https://token.actions.githubusercontent.com", "aud": d.Audience(), "sub": "x"}
			if claim, value, ok := strings.Cut(subject, "="); ok {
				token[claim] = value
			} else {
				token["sub"] = subject
			}
			if v := got.Admits.Eval(token); v != want {
				t.Errorf("%v: verdict %v, want %v", token, v, want)
			}
		}
	}
	if tt.unknown != "" && !cmp.Equal(got.Admits.Reasons(), []string{tt.unknown}) {
		t.Errorf("not decided: %q, want %q", got.Admits.Reasons(), tt.unknown)
	}
}

func TestReadSnowflake(t *testing.T) {
	t.Parallel()
	const prod = "repo:acme/analytics:environment:production"
	row := func(name, kind, info string) string {
		return `{"name": "` + name + `", "type": "` + kind + `", "comment": null, "last_used": null, "created_on": "2026-11-27T10:00:00-08:00", ` +
			`"additional_info": ` + info + `}`
	}
	oidc := func(subject, audiences string) string {
		return row("DEFAULT", "OIDC", `"{\"issuer\":\"https://token.actions.githubusercontent.com\",\"subject\":\"`+subject+`\",\"audienceList\":`+audiences+`}"`)
	}
	acme := `[\"acme\"]`
	list := func(rows ...string) string { return "[" + strings.Join(rows, ",\n") + "]" }
	for _, tt := range []readCase{
		{name: "one identity", files: []string{list(oidc("repo:acme@9919/analytics@487920697:environment:production", acme))},
			admits:  []string{"repo:acme@9919/analytics@487920697:environment:production"},
			refuses: []string{prod, "repo:acme@9919/analytics@487920697:environment:production2", "aud=snowflakecomputing.com"}},
		{name: "none", files: []string{"[]"}, refuses: []string{prod}},
		{name: "the default audience", files: []string{list(oidc(prod, "[]"))}, refuses: []string{prod}, findings: []string{"name-only note"}},
		{name: "an empty audience", files: []string{list(oidc(prod, `\"\"`))}, refuses: []string{prod}, findings: []string{"name-only note"}},
		{name: "an object in place of its text", files: []string{list(row("A", "OIDC",
			`{"issuer": "https://token.actions.githubusercontent.com", "subject": "repo:acme/analytics:environment:production", "audienceList": "[acme, b]"}`))},
			admits: []string{prod}, findings: []string{"name-only note"}},
		{name: "two statements", files: []string{"[" + list(`{"name": "DBT_PROD", "type": "SERVICE", "disabled": "false", "has_password": "false", "has_rsa_public_key": "false"}`) +
			"," + list(oidc(prod, acme)) + "]"}, admits: []string{prod}, findings: []string{"name-only note"}},
		{name: "a key is left, and it is a person", files: []string{list(oidc(prod, acme)),
			list(`{"name": "DBT_PROD", "type": "LEGACY_SERVICE", "disabled": "false", "has_password": "true", "has_rsa_public_key": "true", "has_pat": "true"}`)},
			admits:   []string{prod},
			findings: []string{"name-only note", "not-a-service-user warning", "other-login warning", "other-login warning", "other-login warning"}},
		{name: "DESCRIBE USER", files: []string{list(oidc(prod, acme)),
			list(`{"property": "TYPE", "value": "PERSON"}`, `{"property": "PASSWORD", "value": "********"}`, `{"property": "RSA_PUBLIC_KEY", "value": "null"}`, `{"property": "COMMENT", "value": "x"}`)},
			admits: []string{prod}, findings: []string{"name-only note", "not-a-service-user warning", "other-login warning"}},
		{name: "disabled", files: []string{list(strings.Replace(oidc(prod, acme), `"type"`, `"status": "DISABLED", "type"`, 1),
			strings.Replace(oidc(prod, acme), `"type"`, `"disabled": true, "type"`, 1))}, refuses: []string{prod},
			findings: []string{"disabled note", "disabled note"}},
		{name: "another kind", files: []string{list(oidc(prod, acme), row("X", "AWS", `"{\"awsAccount\":\"1\",\"iamRole\":\"x\"}"`))}, admits: []string{prod},
			findings: []string{"name-only note", "other-identity warning"}},
		{name: "no subject", files: []string{list(row("A", "OIDC", `"{\"issuer\":\"https://token.actions.githubusercontent.com\"}"`))},
			findings: []string{"missing-subject error"}, unknown: "FILE: workload identity 1 (A) has no issuer or no subject"},
		{name: "a wildcard", files: []string{list(oidc("repo:acme/analytics:*", acme))}, refuses: []string{prod},
			findings: []string{"wildcard-under-exact-operator warning", "name-only note"}},
		{name: "ids behind dashes", files: []string{list(oidc("repo:acme-9919/analytics-487920697:environment:production", acme))},
			findings: []string{"old-subject-form error"}, refuses: []string{prod}},
		{name: "begins with a key that anybody has", files: []string{list(oidc("environment:production:repo:acme/analytics", acme))},
			findings: []string{"customised-subject error"}, refuses: []string{prod}},
		{name: "pull requests", files: []string{list(oidc("repo:acme/analytics:pull_request", acme))},
			findings: []string{"name-only note", "pull-request-subject warning"}, admits: []string{"repo:acme/analytics:pull_request"}},
		{name: "not JSON", files: []string{"+---+"}, err: `FILE: want ` + snowflakeExport + `: invalid character '+' looking for beginning of value`},
		{name: "another list", files: []string{`[{"issuer": "x"}]`}, err: `FILE: row 1 is neither a workload identity nor a user: want ` + snowflakeExport},
		{name: "only the user", files: []string{`[{"name": "A", "type": "SERVICE", "disabled": "false"}]`}, err: `FILE: no list of workload identities: want ` + snowflakeExport},
		{name: "additional_info", files: []string{list(row("A", "OIDC", `"x"`))},
			err: `FILE: workload identity 1 (A): additional_info is not JSON: want ` + snowflakeExport + `: invalid character 'x' looking for beginning of value`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, onSnowflake, readSnowflake)
		})
	}
}

func TestReadDatabricks(t *testing.T) {
	t.Parallel()
	const prod = "repo:acme/analytics:environment:production"
	const account = `["12121212-3434-5656-7878-909090909090"]`
	policy := func(fields string) string {
		return `{"name": "accounts/12121212-3434-5656-7878-909090909090/servicePrincipals/1/federationPolicies/p", "policy_id": "p", "oidc_policy": ` +
			`{"issuer": "https://token.actions.githubusercontent.com", ` + fields + `}}`
	}
	full := `"audiences": ` + account + `, "subject": "repo:acme@9919/analytics@487920697:environment:production"`
	for _, tt := range []readCase{
		{name: "a list", files: []string{"[" + policy(full) + "]"}, admits: []string{"repo:acme@9919/analytics@487920697:environment:production"},
			refuses: []string{prod, "aud=x"}},
		{name: "a page", files: []string{`{"policies": [` + policy(full) + `]}`}, admits: []string{"repo:acme@9919/analytics@487920697:environment:production"}},
		{name: "one policy", files: []string{policy(full)}, admits: []string{"repo:acme@9919/analytics@487920697:environment:production"}},
		{name: "none", files: []string{"[]"}, refuses: []string{prod}},
		{name: "the account's id", files: []string{"[" + policy(`"subject": "`+prod+`"`) + "]"}, admits: []string{prod},
			findings: []string{"missing-audience note", "name-only note"}},
		{name: "another claim", files: []string{"[" + policy(`"audiences": `+account+`, "subject": "acme/p/.github/workflows/x.yml@refs/tags/v1", "subject_claim": "job_workflow_ref"`) + "]"},
			admits: []string{"job_workflow_ref=acme/p/.github/workflows/x.yml@refs/tags/v1"}, refuses: []string{prod}, findings: []string{"other-subject-claim error"}},
		{name: "account-wide", files: []string{"[" + policy(`"audiences": `+account) + "]"}, admits: []string{prod, "repo:evil/x:pull_request"},
			findings: []string{"account-wide-policy error"}},
		{name: "account-wide of another issuer", files: []string{`[{"oidc_policy": {"issuer": "https://idp.acme.example", "audiences": ["x"]}}]`}, refuses: []string{prod},
			findings: []string{"account-wide-policy warning"}},
		{name: "keys of its own", files: []string{"[" + policy(full+`, "jwks_json": "{}"`) + "]"}, findings: []string{"own-keys warning"}},
		{name: "a wildcard", files: []string{"[" + policy(`"audiences": `+account+`, "subject": "repo:acme/analytics:*"`) + "]"}, refuses: []string{prod},
			findings: []string{"wildcard-under-exact-operator warning", "name-only note"}},
		{name: "a page of several", files: []string{`{"policies": [], "next_page_token": "x"}`}, err: "FILE: this is one page of several: want " + databricksExport},
		{name: "not JSON", files: []string{"ID  Name"}, err: "FILE: want " + databricksExport + ": invalid character 'I' looking for beginning of value"},
		{name: "another object", files: []string{"{}"}, err: "FILE: no policies: want " + databricksExport},
		{name: "another list", files: []string{`[{"name": "x"}]`}, err: "FILE: federation policy 1 (x): no oidc_policy with an issuer: want " + databricksExport},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, onDatabricks, readDatabricks)
		})
	}
}

// What is generated is read back as the same.
func TestCheckWhatIsGenerated(t *testing.T) {
	t.Parallel()
	d := demand(t, onDatabricks, Options{})
	w, err := Generate(d)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Check(d, []File{{"FILE", []byte(w.Documents[0].Text)}}); err != nil || c.Verdict != Same {
		t.Errorf("verdict %s, %v, %+v", c.Verdict, err, c.Findings)
	}
	d = demand(t, onSnowflake, Options{})
	if w, err = Generate(d); err != nil {
		t.Fatal(err)
	}
	rows, err := showIdentities(w.Documents[0].Text)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Check(d, []File{{"FILE", rows}}); err != nil || c.Verdict != Same {
		t.Errorf("verdict %s, %v, %+v", c.Verdict, err, c.Findings)
	}
}
