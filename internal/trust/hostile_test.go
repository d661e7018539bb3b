package trust

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/logic"
)

const hostileRules = `
    allow: [{repository: acme/analytics, repository_id: "487920697", environment: production, ref: refs/heads/main}]
`

// hostileExchanges are one target for each language.
var hostileExchanges = map[string]string{
	"aws":        `{aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1}}`,
	"databricks": `{databricks: {client_id: 8a1b2c3d-0000-4000-8000-000000000001, account_id: 11111111-2222-3333-4444-555555555555, host: dbc-a1b2c3d4-e5f6.cloud.databricks.com}}`,
	"entra":      `{entra: {tenant: acme.onmicrosoft.com, client_id: 11111111-2222-3333-4444-555555555555, scope: "https://database.windows.net/.default"}}`,
	"gcp":        `{gcp: {workload_identity_provider: projects/123/locations/global/workloadIdentityPools/github/providers/acme, service_account: dbt@acme-dbt.iam.gserviceaccount.com}}`,
	"vault":      `{vault: {address: "https://vault.acme.example:8200", role: dbt-prod, audience: "https://vault.acme.example", secret: database/creds/dbt-prod}}`,
	"openbao":    `{vault: {auth: cel, address: "https://vault.acme.example:8200", role: dbt-prod, audience: "https://vault.acme.example", secret: database/creds/dbt-prod}}`,
	"snowflake":  "{oidc: {audience: snowflakecomputing.com}}\n    dbt: {type: snowflake, account: acme-prod, user: DBT_PROD, role: TRANSFORMER, database: ANALYTICS, warehouse: TRANSFORMING, schema: marts}",
	"trino":      "{oidc: {audience: trino}}\n    dbt: {type: trino, host: trino.acme.example, port: 443, database: hive, schema: marts, user: dbt}",
	"keycloak": `{token_exchange: {token_url: "https://sso.acme.example/realms/ci/protocol/openid-connect/token", audience: "https://sso.acme.example/realms/ci", grant: client_assertion, client_id: dbt-prod, target_audience: trino}}` +
		"\n    dbt: {type: trino, host: trino.acme.example, port: 443, database: hive, schema: marts, user: dbt}",
}

func hostileDemand(t *testing.T, name string) Demand {
	t.Helper()
	return demand(t, "version: 1\ntargets:\n  prod:\n    exchange: "+hostileExchanges[name]+hostileRules, Options{})
}

// TestStrangers: an issuer that no rule names is never the same, also where a
// reader has no finding of its own for it.
func TestStrangers(t *testing.T) {
	t.Parallel()
	const subject = "project_path:evil/x:ref_type:branch:ref:main"
	aws := `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::123456789012:oidc-provider/gitlab.com"}, ` +
		`"Action": "sts:AssumeRoleWithWebIdentity", "Condition": {"StringEquals": {"gitlab.com:aud": "sts.amazonaws.com", "gitlab.com:sub": "` + subject + `"}}}]}`
	for _, tt := range []struct{ name, text, issuer string }{
		{"aws", aws, "https://gitlab.com"},
		{"aws", strings.NewReplacer("gitlab.com", "token.actions.githubusercontent.com/evil", subject, "repo:acme/analytics:environment:production").Replace(aws),
			"https://token.actions.githubusercontent.com/evil"},
		{"databricks", `[{"oidc_policy": {"issuer": "https://gitlab.com", "audiences": ["x"], "subject": "` + subject + `"}}]`, "https://gitlab.com"},
		{"databricks", `[{"oidc_policy": {"issuer": "https://gitlab.com", "audiences": ["x"]}}]`, "https://gitlab.com"},
		{"entra", `[{"name": "x", "issuer": "https://gitlab.com", "subject": "` + subject + `", "audiences": ["x"]}]`, "https://gitlab.com"},
		{"snowflake", `[{"name": "X", "type": "OIDC", "additional_info": {"issuer": "https://gitlab.com", "subject": "` + subject + `"}}]`, "https://gitlab.com"},
		{"gcp", `{"oidc": {"issuerUri": "https://gitlab.com"}, "attributeMapping": {"google.subject": "assertion.sub"}, "attributeCondition": "assertion.namespace_path == 'evil'",` +
			`"members": ["principalSet://iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/github/*"]}`, "https://gitlab.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := hostileDemand(t, tt.name)
			checked, err := Check(d, []File{{"export.json", []byte(tt.text)}})
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("the provider admits tokens of the issuer %q, which no rule of target \"prod\" names: remove it there", tt.issuer)
			if !slices.ContainsFunc(checked.Findings, func(f Finding) bool {
				return f.Name == string(Wider) && f.Message == want && f.Witness["iss"] == tt.issuer
			}) || checked.Verdict != Different {
				t.Errorf("the verdict is %s, and %+v has no %q", checked.Verdict, checked.Findings, want)
			}
		})
	}
}

// TestReadable: what is refused of every provider's file.
func TestReadable(t *testing.T) {
	t.Parallel()
	utf16 := "the file is UTF-16, as PowerShell's > writes it: want UTF-8, which `| Out-File -Encoding utf8` writes"
	for _, tt := range []struct{ text, err string }{
		{"", "a.json: the file is empty: did the command that exports it fail?"},
		{" \n", "a.json: the file is empty: did the command that exports it fail?"},
		{"\xff\xfe[\x00]\x00", "a.json: " + utf16},
		{"\xfe\xff\x00[\x00]", "a.json: " + utf16},
		{`{"a": 1, "a": 2}`, `a.json: an object has "a" twice, also in another case: remove one`},
		{`[[], {"b": {"Condition": {}, "c": [1], "condition": {}}}]`, `a.json: an object has "condition" twice, also in another case: remove one`},
		{`{"a": {"a": "a", "b": ["a", "a", {"a": "b"}]}, "b": {"a": 1}, "c": "c"}`, ""},
		{"\xef\xbb\xbf{}", ""},
		{"a = 1\na = 2\n", ""},
		{strings.Repeat("[", 100_000), ""},
	} {
		f, err := readable(File{"a.json", []byte(tt.text)})
		if got := fmt.Sprint(err); got != tt.err && (err != nil || tt.err != "") {
			t.Errorf("%.40q: got %q, want %q", tt.text, got, tt.err)
		}
		if strings.HasPrefix(string(f.Text), "\xef\xbb\xbf") {
			t.Errorf("%.40q: the byte order mark is still there", tt.text)
		}
	}
}

// TestLanguages: each language does all that the commands ask for.
func TestLanguages(t *testing.T) {
	t.Parallel()
	for name, l := range languages {
		if l.generate == nil || l.read == nil || l.rotate == nil || l.revoke == nil {
			t.Errorf("%s does not generate, read, rotate and revoke", name)
		}
	}
}

// TestClasses: misconfigurations that are named at every provider, by what the
// trust admits.
func TestClasses(t *testing.T) {
	t.Parallel()
	const (
		pool      = "principalSet://iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/github/*"
		google    = `{"oidc": {"issuerUri": "https://token.actions.githubusercontent.com"}, "attributeMapping": {"google.subject": "assertion.sub"}, "attributeCondition": %q, "members": ["` + pool + `"]}`
		vaultRole = `{"data": {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["https://vault.acme.example"], %s}}`
		statement = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"}, ` +
			`"Action": "sts:AssumeRoleWithWebIdentity", "Condition": {"StringEquals": {"token.actions.githubusercontent.com:aud": "sts.amazonaws.com"}, "StringLike": {"token.actions.githubusercontent.com:sub": %q}}}]}`
	)
	for _, tt := range []struct{ name, text, want string }{
		{"gcp", fmt.Sprintf(google, "assertion.repository_owner == 'acme'"), "warning wide-subject"},
		{"gcp", fmt.Sprintf(google, "assertion.sub.startsWith('repo:acme/')"), "warning wide-subject"},
		{"gcp", fmt.Sprintf(google, "assertion.repository.startsWith('acme')"), "error unanchored-expression"},
		{"gcp", fmt.Sprintf(google, "assertion.sub == 'repo:acme/analytics:pull_request'"), "warning pull-request-subject"},
		{"vault", fmt.Sprintf(vaultRole, `"bound_subject": "environment:production"`), "error customised-subject"},
		{"vault", fmt.Sprintf(vaultRole, `"bound_subject": "repo:acme-1/analytics-2:environment:production"`), "error old-subject-form"},
		{"vault", fmt.Sprintf(vaultRole, `"bound_claims": {"repository_owner": "acme"}`), "warning wide-subject"},
		{"aws", fmt.Sprintf(statement, "job_workflow_ref:acme/x/.github/workflows/y.yml@*"), "error customised-subject"},
		{"aws", fmt.Sprintf(statement, "repo:acme/analytics:pull_request"), "warning pull-request-subject"},
	} {
		t.Run(tt.name+" "+tt.want, func(t *testing.T) {
			t.Parallel()
			checked, err := Check(hostileDemand(t, tt.name), []File{{"export.json", []byte(tt.text)}})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(checked.Findings, func(f Finding) bool { return f.Severity+" "+f.Name == tt.want }) {
				t.Errorf("want %s: %+v", tt.want, checked.Findings)
			}
		})
	}
}

// TestPullRequests: a policy for pull requests is not warned of its own subject.
func TestPullRequests(t *testing.T) {
	t.Parallel()
	d := demand(t, "version: 1\ntargets:\n  prod:\n    exchange: "+hostileExchanges["databricks"]+
		"\n    allow: [{repository: acme/analytics, repository_id: \"487920697\", event_name: pull_request}]\n", Options{})
	w, err := Generate(d)
	if err != nil {
		t.Fatal(err)
	}
	checked, err := Check(d, []File{{"export.json", []byte(w.Documents[0].Text)}})
	if err != nil || !checked.OK() {
		t.Errorf("%v: %+v", err, checked)
	}
}

// TestGeneratedIsTheSame: what is generated is found to be the same, without a warning.
func TestGeneratedIsTheSame(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"aws", "databricks", "entra", "gcp", "vault", "openbao", "keycloak"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := hostileDemand(t, name)
			w, err := Generate(d)
			if err != nil {
				t.Fatal(err)
			}
			if checked, err := Check(d, []File{{"export.json", []byte(w.Documents[0].Text)}}); err != nil || !checked.OK() {
				t.Errorf("%v: %+v", err, checked)
			}
		})
	}
}

// TestSnowflakeAudiences: what is no list of audiences is not the default one.
func TestSnowflakeAudiences(t *testing.T) {
	t.Parallel()
	d := hostileDemand(t, "snowflake")
	token := map[string]string{"iss": githubIssuer, "aud": snowflakeAudience, "sub": "repo:acme/analytics:environment:production"}
	for list, want := range map[string]logic.Verdict{
		`null`: logic.True, `[]`: logic.True, `"[]"`: logic.True, `"snowflakecomputing.com"`: logic.True, `["other"]`: logic.False,
		`{"other": 1}`: logic.Unknown, `5`: logic.Unknown, `[5]`: logic.Unknown, `["other", null]`: logic.Unknown, `true`: logic.Unknown,
	} {
		text := `[{"name": "X", "type": "OIDC", "additional_info": {"issuer": "` + githubIssuer + `", "subject": "repo:acme/analytics:environment:production", "audienceList": ` + list + `}}]`
		r, err := readSnowflake(d, []File{{"a.json", []byte(text)}})
		if err != nil || r.Admits.Eval(token) != want {
			t.Errorf("%s: admits %v, want %v; %v", list, r.Admits.Eval(token), want, err)
		}
	}
}

// TestMutations: an export in which any value is of another type is refused or
// read, and nothing panics.
func TestMutations(t *testing.T) {
	t.Parallel()
	for name := range hostileExchanges {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := hostileDemand(t, name)
			w, err := Generate(d)
			if err != nil {
				t.Fatal(err)
			}
			for i, doc := range w.Documents {
				var value any
				if json.Unmarshal([]byte(doc.Text), &value) != nil {
					continue
				}
				files := func(text []byte) (list []File) {
					for j, other := range w.Documents {
						f := File{other.Suffix, []byte(other.Text)}
						if i == j {
							f.Text = text
						}
						if strings.HasSuffix(other.Suffix, ".json") || strings.HasSuffix(other.Suffix, ".properties") {
							list = append(list, f)
						}
					}
					return list
				}
				mutate(value, func(v any) { value = v }, func() {
					text, err := json.Marshal(value)
					if err != nil {
						t.Fatal(err)
					}
					defer func() {
						if p := recover(); p != nil {
							t.Errorf("%v: %s", p, text)
						}
					}()
					r, err := languages[name].read(d, files(text))
					if err == nil {
						r.Admits.Eval(map[string]string{"iss": githubIssuer, "aud": "x", "sub": "y"})
					}
				})
			}
		})
	}
}

// mutate puts a value of each type in the place of each value.
func mutate(value any, set func(any), try func()) {
	for _, other := range []any{nil, "", "x", 1.5, true, []any{}, []any{nil}, map[string]any{}, map[string]any{"": nil}, []any{[]any{map[string]any{}}}} {
		set(other)
		try()
	}
	set(value)
	switch v := value.(type) {
	case []any:
		for i := range v {
			mutate(v[i], func(x any) { v[i] = x }, try)
		}
	case map[string]any:
		for key := range v {
			mutate(v[key], func(x any) { v[key] = x }, try)
		}
	}
}

// TestGoogleRoles: a role that does not let its members act as the service
// account is not the same as one that does.
func TestGoogleRoles(t *testing.T) {
	t.Parallel()
	d := hostileDemand(t, "gcp")
	w, err := Generate(d)
	if err != nil {
		t.Fatal(err)
	}
	var provider map[string]any
	if err := json.Unmarshal([]byte(w.Documents[0].Text), &provider); err != nil {
		t.Fatal(err)
	}
	members := provider["members"]
	delete(provider, "members")
	for role, want := range map[string]Verdict{gcpUserRole: Same, gcpTokenRole: Same, "roles/iam.serviceAccountViewer": Unknown} {
		provider, _ := json.Marshal(provider)
		bindings, _ := json.Marshal(map[string]any{"bindings": []any{map[string]any{"role": role, "members": members}}})
		checked, err := Check(d, []File{{"provider.json", provider}, {"policy.json", bindings}})
		if err != nil || checked.Verdict != want {
			t.Errorf("%s: the verdict is %s, want %s; %v", role, checked.Verdict, want, err)
		}
	}
}
