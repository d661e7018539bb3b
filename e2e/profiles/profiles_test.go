//go:build e2e

// Package profiles loads every profile that the product writes with real dbt and the real adapters.
package profiles

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
)

// A profileCase is a case for load.py.
type profileCase struct {
	Before   string   `json:"before"` // the user's profiles.yml, "" for a policy's block
	After    string   `json:"after"`  // the profiles.yml that was written
	Profiles []string `json:"profiles"`
	Output   string   `json:"output"`
	Dropped  bool     `json:"dropped"` // other outputs have lost their secrets
}

// A loaded is its result.
type loaded struct {
	Error      string
	Difference []string // other than the chosen outputs and the profiles' targets
	Outputs    map[string]struct {
		Type       string
		Target     string
		Threads    any
		Unknown    []string          // keys that the adapter does not know
		Connection map[string]string // what dbt compares between runs, and prints
		Login      map[string]any    // what the adapter uses for its login
		Block      struct{ New, Gone, Changed []string }
	}
}

// logins are what each adapter must derive from the written keys for its login.
// VALUE is the variable's value.
var logins = map[string]string{
	"snowflake oidc":            `{"authenticator": "WORKLOAD_IDENTITY", "workload_identity_provider": "OIDC", "token": "VALUE_TOKEN"}`,
	"snowflake aws":             `{"authenticator": "WORKLOAD_IDENTITY", "workload_identity_provider": "AWS"}`,
	"bigquery gcp":              `{"class": "Credentials", "token": "VALUE_TOKEN"}`,
	"athena aws":                `{"key": "SDK_AWS_ACCESS_KEY_ID", "secret": "SDK_AWS_SECRET_ACCESS_KEY", "token": "SDK_AWS_SESSION_TOKEN", "region": "eu-central-1"}`,
	"duckdb aws":                `{}`, // see sql
	"duckdb gcp":                `{}`,
	"duckdb entra":              `{}`,
	"postgres aws":              `{"user": "dbt", "password": "VALUE_PASSWORD", "sslmode": "verify-full"}`,
	"postgres entra":            `{"user": "dbt-prod", "password": "VALUE_PASSWORD", "sslmode": "require"}`,
	"postgres databricks":       `{"user": "5bf7c6a1-0f43-4a36-a7cf-3a2a9a4d4f5e", "password": "VALUE_PASSWORD", "sslmode": "require"}`,
	"postgres vault":            `{"user": "v-dbt-1", "password": "VALUE_PASSWORD", "sslmode": "verify-full", "sslcert": null}`,
	"postgres gcp":              `{"user": "dbt@acme-dbt.iam", "password": "VALUE_PASSWORD", "sslcert": null}`,
	"clickhouse vault":          `{"host": "ch.acme.example", "secure": true, "verify": true, "user": "v-dbt-1", "password": "VALUE_PASSWORD"}`,
	"clickhouse token_exchange": `{"driver": "http", "host": "127.0.0.1", "port": 20001, "secure": false, "user": "dbt-prod", "password": "VALUE_PASSWORD"}`,
	"spark vault":               `{"method": "thrift", "auth": "LDAP", "use_ssl": true, "user": "v-dbt-1", "password": "VALUE_PASSWORD", "token": null}`,
	"spark aws":                 `{"method": "session", "parameters": "spark.driver.memory=4g spark.hadoop.fs.s3a.aws.credentials.provider=com.amazonaws.auth.EnvironmentVariableCredentialsProvider"}`,
	"spark entra": `{"method": "session", "parameters": "spark.hadoop.fs.azure.account.auth.type=OAuth spark.hadoop.fs.azure.account.oauth.provider.type=org.apache.hadoop.fs.azurebfs.oauth2.WorkloadIdentityTokenProvider ` +
		`spark.hadoop.fs.azure.account.oauth2.client.id=66666666-7777-8888-9999-000000000000 spark.hadoop.fs.azure.account.oauth2.msi.authority=https://login.microsoftonline.com ` +
		`spark.hadoop.fs.azure.account.oauth2.msi.tenant=11111111-2222-3333-4444-555555555555 spark.hadoop.fs.azure.account.oauth2.token.file=/step/file"}`,
	"redshift identity_center": `{"token": "POSTED", "token_type": "EXT_JWT", "ssl": true, "sslmode": "verify-full", "iam": false, "asked": "http://127.0.0.1:20001/token client_secret=VALUE_TOKEN"}`,
	"redshift vault":           `{"user": "v-dbt-1", "password": "VALUE_PASSWORD", "ssl": true, "iam": null}`,
	"redshift aws":             `{"user": "IAM:dbt", "password": "VALUE_PASSWORD", "ssl": true, "iam": null}`,
	"athena identity_center":   `{"key": "SDK_AWS_ACCESS_KEY_ID", "secret": "SDK_AWS_SECRET_ACCESS_KEY", "token": "SDK_AWS_SESSION_TOKEN", "region": "eu-central-1"}`,
	"trino oidc":               `{"class": "JWTAuthentication", "token": "VALUE_TOKEN", "scheme": "https", "tags": "oidc-dbt,target=prod,run=16055869479"}`,
	"databricks databricks":    `{"token": "VALUE_TOKEN", "secret": "", "tags": "{\"oidc_dbt_run_id\":\"16055869479\",\"oidc_dbt_target\":\"prod\"}"}`,
	"databricks entra":         `{"token": "VALUE_TOKEN", "secret": ""}`,
	"fabric entra":             `{"token": "VALUE_TOKEN"}`,
	"fabric vault":             `{"token": null, "authentication": "ActiveDirectoryServicePrincipal", "id": "66666666-7777-8888-9999-000000000000", "secret": "VALUE_PASSWORD"}`,
	"sqlserver entra":          `{"token": "VALUE_TOKEN"}`,
	"sqlserver vault":          `{"token": null, "string": "SERVER=sql.acme.example,1433;Database=marts;UID=v-dbt-1;PWD=VALUE_PASSWORD;encrypt=Yes;TrustServerCertificate=No"}`,
	"snowflake entra":          `{"authenticator": "oauth", "token": "VALUE_TOKEN"}`,
	"snowflake token_exchange": `{"authenticator": "oauth", "token": "VALUE_TOKEN"}`,
	"snowflake vault":          `{"user": "V_DBT_1", "private_key": true}`,
	"snowflake login":          `{"authenticator": "oauth", "token": "VALUE_TOKEN"}`,
	"databricks login":         `{"token": "VALUE_TOKEN", "secret": ""}`,
	"fabric login":             `{"token": "VALUE_TOKEN"}`,
	"sqlserver login":          `{"token": "VALUE_TOKEN"}`,
	"postgres login":           `{"user": "ann@acme.example", "password": "VALUE_PASSWORD", "sslmode": "require"}`,
	"athena login":             `{"key": "SDK_AWS_ACCESS_KEY_ID", "secret": "SDK_AWS_SECRET_ACCESS_KEY", "token": "SDK_AWS_SESSION_TOKEN", "region": "eu-central-1"}`,
	"duckdb login":             `{}`,
	"redshift login":           `{"user": "IAM:ann", "password": "VALUE_PASSWORD", "ssl": true, "iam": null}`,
	"trino entra":              `{"class": "JWTAuthentication", "token": "VALUE_TOKEN", "scheme": "https"}`,
	"trino token_exchange":     `{"class": "JWTAuthentication", "token": "VALUE_TOKEN", "scheme": "https"}`,
}

// block is what must have changed in the chosen output of each case with a
// profiles.yml of the user: the logins, and nothing else.
var block = map[string]struct{ New, Gone, Changed []string }{
	"jinja":      {New: []string{"token", "workload_identity_provider"}, Gone: []string{"password", "private_key_passphrase", "private_key_path"}, Changed: []string{"authenticator"}},
	"anchors":    {Gone: []string{"use_credential_provider"}, Changed: []string{"secrets"}},
	"secrets":    {New: []string{"token"}, Changed: []string{"method"}},
	"several":    {Gone: []string{"aws_access_key_id", "aws_profile_name", "aws_secret_access_key"}},
	"unset":      {New: []string{"token"}, Gone: []string{"impersonate_service_account", "keyfile"}, Changed: []string{"method"}},
	"elementary": {New: []string{"authenticator", "query_tag", "token", "workload_identity_provider"}, Gone: []string{"password"}},
	"projects":   {New: []string{"extensions", "secrets"}},
	"password":   {New: []string{"password"}, Gone: []string{"pass", "sslcert", "sslkey"}, Changed: []string{"user"}},
	"redshift":   {New: []string{"password", "query_group", "sslmode"}, Gone: []string{"access_key_id", "cluster_id", "iam_profile", "secret_access_key"}, Changed: []string{"method", "user"}},
	"further":    {Changed: []string{"extensions", "secrets"}},
	"microsoft":  {New: []string{"authentication", "client_id", "client_secret"}, Gone: []string{"auth", "pass", "username"}},
	"workspace":  {New: []string{"query_tags", "token"}, Gone: []string{"auth_type", "client_id", "client_secret"}},
	"region":     {Changed: []string{"region_name"}},
	"tenant":     {New: []string{"access_token"}, Gone: []string{"client_id", "client_secret", "tenant_id"}, Changed: []string{"authentication"}},
	"trino":      {New: []string{"client_tags", "jwt_token"}, Gone: []string{"impersonation_user", "password"}, Changed: []string{"method"}},
}

// dropped are the cases in which other outputs than the chosen one contain
// secrets. These are left out: internal/profile checks what remains.
var dropped = []string{"password", "secrets", "several"}

var profileName = regexp.MustCompile(`(?m)^profile: '?([a-z_]+)'?$`)

// TestLoad loads the golden profiles of internal/profile, which the tests there
// compare with what the product writes. dbt must read everything but the chosen
// output as before.
func TestLoad(t *testing.T) {
	t.Parallel()
	all := goldenCases(t)
	for name := range block {
		if !slices.ContainsFunc(all, func(c goldenCase) bool { return c.name == name }) {
			t.Errorf("there is no case %q", name)
		}
	}
	for i, got := range load(t, setup.Python(t), all) {
		t.Run(all[i].name, func(t *testing.T) {
			t.Parallel()
			check(t, all[i], got)
		})
	}
}

// A goldenCase is a golden profile of internal/profile.
type goldenCase struct {
	name, provider string
	block          []byte // the policy's, nil for one of the user's
	profileCase
}

// goldenCases writes the golden profiles into files for load.py.
func goldenCases(t *testing.T) (all []goldenCase) {
	t.Helper()
	dir := t.TempDir()
	for _, pattern := range []string{"inline", "from"} {
		paths, err := filepath.Glob("../../internal/profile/testdata/" + pattern + "/*.txtar")
		if err != nil || len(paths) == 0 {
			t.Fatalf("no cases in %s: %v", pattern, err)
		}
		for _, path := range paths {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, readCase(t, dir, strings.TrimSuffix(filepath.Base(path), ".txtar"), a))
		}
	}
	return all
}

func readCase(t *testing.T, dir, name string, a *txtar.Archive) goldenCase {
	t.Helper()
	c := goldenCase{name: name}
	c.Output, c.After, c.Dropped = "prod", filepath.Join(dir, name+".after"), slices.Contains(dropped, name)
	var further []string
	write := func(path string, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range a.Files {
		switch {
		case f.Name == "want":
			write(c.After, f.Data)
		case f.Name == "provider":
			c.provider = strings.TrimSpace(string(f.Data))
		case f.Name == "dbt":
			c.block = f.Data
		case f.Name == "profiles":
			further = strings.Fields(string(f.Data))
		case strings.HasSuffix(f.Name, "/profiles.yml"):
			c.Before = filepath.Join(dir, name+".before")
			write(c.Before, f.Data)
		case strings.HasSuffix(f.Name, "/dbt_project.yml"):
			c.Profiles = append(c.Profiles, profileName.FindStringSubmatch(string(f.Data))[1])
		}
	}
	if c.Profiles = append(c.Profiles, further...); len(c.Profiles) == 0 {
		c.Profiles = []string{"analytics"}
	}
	return c
}

// TestCredentialsClasses compares the keys that a policy may set with those of
// the installed adapters: it fails for a new name or key.
func TestCredentialsClasses(t *testing.T) {
	t.Parallel()
	const file = "../../internal/adapter/testdata/credentials.json"
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var types map[string]any
	if err := json.Unmarshal(want, &types); err != nil {
		t.Fatal(err)
	}
	p := setup.Python(t)
	cmd := exec.CommandContext(t.Context(), p.Program("python"), append([]string{"credentials.py"}, slices.Sorted(maps.Keys(types))...)...)
	cmd.Env = p.Environ()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	got, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	golden.Compare(t, file, string(got))
}

// load loads the cases with the adapters of an environment.
func load(t *testing.T, p pyenv.Python, all []goldenCase) []loaded {
	t.Helper()
	var cases []profileCase
	for _, c := range all {
		cases = append(cases, c.profileCase)
	}
	return script[profileCase, loaded](t, p, "load.py", cases, stepVariables(t)...)
}

// stepVariables are those of a step that the profiles read.
func stepVariables(t *testing.T) []string {
	t.Helper()
	return []string{
		"DBT_ENV_SECRET_OIDC_TOKEN=VALUE_TOKEN", "DBT_ENV_SECRET_OIDC_PASSWORD=VALUE_PASSWORD",
		"DBT_ENV_SECRET_OIDC_PRIVATE_KEY=" + privateKey(t),
		"DBT_ENV_SECRET_OIDC_AWS_ACCESS_KEY_ID=VALUE_KEY", "DBT_ENV_SECRET_OIDC_AWS_SECRET_ACCESS_KEY=VALUE_SECRET", "DBT_ENV_SECRET_OIDC_AWS_SESSION_TOKEN=VALUE_SESSION",
		"AWS_ACCESS_KEY_ID=SDK_AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY=SDK_AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN=SDK_AWS_SESSION_TOKEN",
		"GOOGLE_CLOUD_PROJECT=acme-dbt",
		"MINIO_KEY=minio", "DBT_ENV_SECRET_MINIO=minio-secret", // of the case `anchors`
	}
}

// script passes cases to a script of this folder, in an environment with the
// variables, and returns a result for each.
func script[Case, Result any](t *testing.T, p pyenv.Python, name string, cases []Case, variables ...string) (results []Result) {
	t.Helper()
	input, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), p.Program("python"), name)
	cmd.Stdin, cmd.Stderr, cmd.Env = bytes.NewReader(input), &stderr, append(p.Environ(), variables...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, stderr.String())
	}
	if err := json.Unmarshal(out, &results); err != nil || len(results) != len(cases) {
		t.Fatalf("%s printed %s: %v\n%s", name, out, err, stderr.String())
	}
	return results
}

// privateKey returns a private key in the form for a profile.
func privateKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func check(t *testing.T, c goldenCase, got loaded) {
	if got.Error != "" {
		t.Fatal(got.Error)
	}
	for _, d := range got.Difference {
		t.Errorf("not as it was: %s", d)
	}
	for _, profile := range c.Profiles {
		o, ok := got.Outputs[profile]
		if !ok {
			t.Errorf("profile %q was not loaded", profile)
			continue
		}
		if o.Target != c.Output {
			t.Errorf("target of %q is %q, want %q", profile, o.Target, c.Output)
		}
		if len(o.Unknown) > 0 {
			t.Errorf("the adapter has no %q", o.Unknown)
		}
		for key, v := range o.Connection {
			if strings.Contains(v, "VALUE") || strings.Contains(v, "SDK") {
				t.Errorf("dbt compares and prints %s, which is %s", key, v)
			}
		}
		if c.Before != "" {
			empty := func(l []string) []string { return append([]string{}, l...) }
			want := block[c.name]
			for _, l := range [][2][]string{{o.Block.New, want.New}, {o.Block.Gone, want.Gone}, {o.Block.Changed, want.Changed}} {
				if diff := cmp.Diff(empty(l[1]), empty(l[0])); diff != "" {
					t.Errorf("keys of the output of %q (-want +got):\n%s", profile, diff)
				}
			}
		}
		checkLogin(t, o.Type+" "+c.provider, o.Login)
	}
	if got := got.Outputs["analytics"].Connection["schema"]; c.name == "words" && got != "'no'" {
		t.Errorf("schema is %s to dbt, want 'no'", got)
	}
}

func checkLogin(t *testing.T, pair string, got map[string]any) {
	want := loginOf(t, pair)
	for _, key := range differing(want, got) {
		t.Errorf("%s logs in with %s %v, want %v", pair, key, got[key], want[key])
	}
	if want := sql[pair]; want != nil {
		checkSQL(t, got["sql"].([]any), want)
	}
}

func loginOf(t *testing.T, pair string) (want map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(logins[pair]), &want); err != nil {
		t.Fatalf("%s: %v", pair, err)
	}
	return want
}

// differing returns the keys of want that are not as wanted, sorted.
func differing(want, got map[string]any) (keys []string) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			keys = append(keys, key)
		}
	}
	return keys
}

// sql is the text of each DuckDB secret that contains the credential: one of the
// credential's values, and what else must be in it.
var sql = map[string][]string{
	"duckdb aws":   {"key_id 'VALUE_KEY'", "secret 'VALUE_SECRET'", "session_token 'VALUE_SESSION'", "region '"},
	"duckdb entra": {"access_token 'VALUE_TOKEN'", "provider access_token", "account_name 'acmelake'"},
	"duckdb gcp":   {"bearer_token 'VALUE_TOKEN'"},
}

func checkSQL(t *testing.T, statements []any, want []string) {
	found := false
	for _, s := range statements {
		if !strings.Contains(fmt.Sprint(s), want[0]) {
			continue
		}
		found = true
		for _, part := range want[1:] {
			if !strings.Contains(fmt.Sprint(s), part) {
				t.Errorf("a secret has no %s:\n%s", part, s)
			}
		}
	}
	if !found {
		t.Errorf("no secret has %s: %v", want[0], statements)
	}
}
