package command_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/command"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// TestRuns runs every case of testdata/runs through the real entry: a case is
// one step of a job, or one call of the command. It is a txtar archive:
//
//	-- args --       arguments, one a line; without it the action runs
//	-- inputs --     the step's inputs, YAML
//	-- env --        variables beside the runner's own, YAML; null removes one
//	-- claims --     changes to the ID token's claims, YAML; null removes one
//	-- token --      a fault of the token endpoint: see faults
//	-- workspace/… --  files of the checkout
//	-- want/… --     what must come out: status, stdout, stderr, output, env, state, path, summary, audit, files
//
// $ISSUER, $STS, $REDSHIFT, $IDENTITY_CENTER, $GOOGLE, $VAULT, $ENTRA,
// $DATABRICKS, $TOKENS (an authorization server) and $BAD (a server of bad
// replies) are the servers'
// addresses, $TEMP is RUNNER_TEMP, $WORKSPACE the checkout. Whatever a case
// is about, nothing secret may be seen anywhere, and every mask stands first.
func TestRuns(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../testdata/runs/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata/runs: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := readCase(t, archive).run(t)
			var parts []txtar.File
			for _, name := range wanted {
				parts = append(parts, txtar.File{Name: "want/" + name, Data: []byte(got[name])})
			}
			golden.Case(t, file, archive, parts...)
		})
	}
}

// TestExpiresAt: what is said is when a login of dbt's begins to fail: with
// the ID token, with the token that follows from it, with a login that the
// database takes for less long than the session lives which made it.
func TestExpiresAt(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]time.Duration{
		"allowed-snowflake-oidc":           5 * time.Minute,
		"allowed-bigquery-gcp":             5 * time.Minute,
		"allowed-bigquery-service-account": time.Hour,
		"allowed-databricks":               5 * time.Minute,
		"allowed-athena-aws":               time.Hour,
		"allowed-redshift-aws":             time.Hour,
		"allowed-redshift-serverless":      20 * time.Minute,
		"short-life-rds":                   15 * time.Minute,
		"allowed-vault":                    10 * time.Minute, // the token ends the lease of an hour
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile("../../testdata/runs/" + name + ".txtar")
			if err != nil {
				t.Fatal(err)
			}
			c := readCase(t, archive)
			c.run(t)
			if c.life != want {
				t.Errorf("expires-at is %s away, want %s", c.life, want)
			}
		})
	}
}

// wanted are the parts of a case's result.
var wanted = []string{"status", "stdout", "stderr", "output", "env", "state", "path", "summary", "audit", "profiles", "files"}

type runCase struct {
	args   []string
	inputs map[string]string
	env    map[string]*string
	claims map[string]any
	token  string
	files  map[string]string

	life time.Duration // from the run's end to what it says in expires-at, in whole minutes
}

func readCase(t *testing.T, a *txtar.Archive) *runCase {
	t.Helper()
	c := &runCase{files: map[string]string{}}
	for _, f := range a.Files {
		var err error
		switch part, rest, _ := strings.Cut(f.Name, "/"); {
		case f.Name == "args":
			c.args = strings.Split(strings.TrimSpace(string(f.Data)), "\n")
		case f.Name == "inputs":
			err = yaml.Load(f.Data, &c.inputs)
		case f.Name == "env":
			err = yaml.Load(f.Data, &c.env)
		case f.Name == "claims":
			err = yaml.Load(f.Data, &c.claims)
		case f.Name == "token":
			c.token = strings.TrimSpace(string(f.Data))
		case part == "workspace":
			c.files[rest] = string(f.Data)
		case part == "want": // golden.Case compares it
		default:
			t.Fatalf("a case has no part %q", f.Name)
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	return c
}

// run runs the case in a world of its own and returns its parts by name.
func (c *runCase) run(t *testing.T) map[string]string {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	claims := standin.GitHubClaims()
	for name, v := range c.claims {
		if v == nil {
			delete(claims, name)
		} else {
			claims[name] = v
		}
	}
	issuer.SetClaims(claims)
	sts, err := standin.StartSTS(stsConfig(issuer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	google, err := standin.StartGoogle(googleConfig(issuer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(google.Close)
	vault, err := standin.StartVault(vaultConfig(issuer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vault.Close)
	entra, err := standin.StartEntra(entraConfig(issuer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(entra.Close)
	databricks, err := standin.StartDatabricks(databricksConfig(issuer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(databricks.Close)
	tokens, err := standin.StartAuthServer(authServerConfig(issuer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tokens.Close)
	redshift, err := standin.StartRedshift(sts, redshiftConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redshift.Close)
	people, err := standin.StartIdentityCenter(sts, identityCenterConfig(issuer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(people.Close)
	bad := badServer(t)

	root := t.TempDir()
	temp, workspace, files := filepath.Join(root, "temp"), filepath.Join(root, "workspace"), filepath.Join(root, "commands")
	for _, dir := range []string{temp, workspace, files} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{
		"$ISSUER", issuer.URL(), "$STS", sts.URL(), "$REDSHIFT", redshift.URL(), "$IDENTITY_CENTER", people.URL(), "$GOOGLE", google.URL(), "$VAULT", vault.URL(), "$ENTRA", entra.URL(), "$DATABRICKS", databricks.URL(),
		"$TOKENS", tokens.URL(), "$BAD", bad.URL, "$TEMP", temp, "$WORKSPACE", workspace,
	}
	places := strings.NewReplacer(names...)

	env := map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": workspace, "RUNNER_TEMP": temp, "GITHUB_EVENT_NAME": "push",
		"GITHUB_REPOSITORY": "acme/analytics", "GITHUB_REPOSITORY_ID": "487920697", "GITHUB_REPOSITORY_OWNER": "acme",
		"ACTIONS_ID_TOKEN_REQUEST_URL": issuer.RequestURL(), "ACTIONS_ID_TOKEN_REQUEST_TOKEN": issuer.RequestToken(),
		"PATH": os.Getenv("PATH"), "HOME": root,
	}
	if c.token != "" {
		env["ACTIONS_ID_TOKEN_REQUEST_URL"] = bad.URL + "/" + c.token + "?api-version=2.0"
	}
	for _, name := range commandFiles {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		env["GITHUB_"+name] = path
	}
	for name, v := range c.inputs {
		env["INPUT_"+strings.ToUpper(strings.ReplaceAll(name, " ", "_"))] = places.Replace(v)
	}
	for name, v := range c.env {
		if v == nil {
			delete(env, name)
		} else {
			env[name] = places.Replace(*v)
		}
	}
	for name, text := range c.files {
		path := filepath.Join(workspace, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(places.Replace(text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, workspace)

	var stdout, stderr bytes.Buffer
	var environ []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		environ = append(environ, name+"="+env[name])
	}
	status := command.Run(context.Background(), job.Env{
		Getenv: func(name string) string { return env[name] }, Environ: environ,
		Now: time.Now, Transport: web.ReadNetwork(func(name string) string { return env[name] }).Transport(), Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
		Masks: func() io.Writer { return &stderr },
		Dir:   workspace, TempDir: temp, Executable: "/opt/oidc-dbt/oidc-dbt", Version: "v0.0.0-test",
	}, c.args)

	if after := tree(t, workspace); after != before {
		t.Errorf("the workspace has changed:\n%s\nwant\n%s", after, before)
	}
	parts := map[string]string{"status": fmt.Sprintln(status), "stdout": stdout.String(), "stderr": stderr.String(), "files": tree(t, temp)}
	for part, name := range map[string]string{"output": "OUTPUT", "env": "ENV", "state": "STATE", "path": "PATH", "summary": "STEP_SUMMARY"} {
		data, err := os.ReadFile(filepath.Join(files, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		parts[part] = string(data)
	}
	if log, err := os.ReadFile(filepath.Join(temp, "oidc-dbt", "audit.jsonl")); err == nil {
		parts["audit"] = string(log)
	}
	if profiles, _ := filepath.Glob(filepath.Join(temp, "oidc-dbt-step-*", "profiles.yml")); len(profiles) == 1 {
		data, err := os.ReadFile(profiles[0])
		if err != nil {
			t.Fatal(err)
		}
		parts["profiles"] = string(data)
	}
	if expiry, err := time.Parse(time.RFC3339, fileCommands(t, parts["output"])["expires-at"]); err == nil {
		c.life = time.Until(expiry).Round(time.Minute)
	}
	if c.profileOnly() {
		if issued := issuer.Issued(); len(issued) > 0 || strings.Contains(parts["stdout"]+parts["stderr"], "::add-mask::") || parts["audit"] != "" {
			t.Errorf("without a credential %d ID tokens were issued, want none, no mask and no audit record", len(issued))
		}
	} else {
		checkSecrets(t, parts, slices.Concat(vault.Issued(), issuer.Issued(), []string{issuer.RequestToken()})...)
		hideSecrets(parts)
	}
	normalize(parts, names)
	return parts
}

// profileOnly reports whether the case asks for no identity.
func (c *runCase) profileOnly() bool {
	return c.inputs["profile-only"] == "true" || slices.Contains(c.args, "--profile-only")
}

var commandFiles = []string{"OUTPUT", "ENV", "STATE", "PATH", "STEP_SUMMARY"}

// tree lists the files below dir with their modes.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var list strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&list, "%v %s\n", info.Mode(), filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.String()
}

// checkSecrets is the leak test of every case. A secret is what the step
// masks, and what it hands over in secret outputs: the second must be among
// the first, and neither may be seen anywhere else, plain, in base64 or escaped.
func checkSecrets(t *testing.T, parts map[string]string, secrets ...string) {
	t.Helper()
	masked := true
	var rest []string
	lines := parts["stdout"] + parts["stderr"]
	for line := range strings.Lines(lines) {
		v, isMask := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "::add-mask::")
		if isMask {
			if !masked {
				t.Errorf("a mask stands behind another line: %q", rest)
			}
			secrets = append(secrets, strings.NewReplacer("%0A", "\n", "%0D", "\r", "%25", "%").Replace(v))
		} else {
			masked = false
			rest = append(rest, line)
		}
	}
	outputs := fileCommands(t, parts["output"])
	for _, name := range []string{"token", "password", "private-key", "aws-access-key-id", "aws-secret-access-key", "aws-session-token", "env"} {
		if v, ok := outputs[name]; ok && !slices.Contains(secrets, v) {
			t.Errorf("output %s is not masked", name)
		}
	}
	for _, s := range secrets {
		if len(s) < 8 {
			t.Errorf("mask %q is so short that it eats harmless text", s)
		}
		escaped, _ := json.Marshal(s)
		forms := []string{s, url.QueryEscape(s), string(escaped[1 : len(escaped)-1]), base64.StdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s))}
		for where, text := range map[string]string{"stdout and stderr": strings.Join(rest, ""), "summary": parts["summary"], "audit log": parts["audit"], "state": parts["state"], "profile": parts["profiles"], "path": parts["path"]} {
			for _, f := range forms {
				if strings.Contains(text, f) {
					t.Errorf("a secret is in %s:\n%s", where, text)
				}
			}
		}
	}
}

// fileCommands reads a GITHUB_OUTPUT or GITHUB_ENV file as the runner does.
func fileCommands(t *testing.T, text string) map[string]string {
	t.Helper()
	values := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		name, delimiter, heredoc := strings.Cut(lines[i], "<<")
		if !heredoc {
			if lines[i] != "" {
				name, value, _ := strings.Cut(lines[i], "=")
				values[name] = value
			}
			continue
		}
		var value []string
		for i++; i < len(lines) && lines[i] != delimiter; i++ {
			value = append(value, lines[i])
		}
		if i == len(lines) {
			t.Errorf("value of %q has no end", name)
		}
		values[name] = strings.Join(value, "\n")
	}
	return values
}

var unstable = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), "JWT"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d(?:&#58;|:)\d\d(?:&#58;|:)\d\dZ`), "TIME"}, // in Entra's words
	{regexp.MustCompile(`(access_token_expires_on: )\d+`), "${1}EPOCH"},
	{regexp.MustCompile(`oidc-dbt-step-\d+`), "oidc-dbt-step-N"},
	{regexp.MustCompile(`(?m)^(::add-mask::).*`), "${1}SECRET"},
	{regexp.MustCompile(`(\d+h)?\d+m\d+s`), "DURATION"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d&#58;\d\d&#58;\d\dZ`), "TIME"}, // in the summary
	{regexp.MustCompile(`127\.0\.0\.1(&#58;|:)\d+`), "LOOPBACK"},
	{regexp.MustCompile(`\bv-jwt-repo-[A-Z2-7]{12}\b`), "DATABASE-USER"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "SHA256"},
	{regexp.MustCompile(`\b[A-Z2-7]{26}\b`), "ID"},
	{regexp.MustCompile(`\b\d+ days ago`), "DAYS ago"},
}

// secretOutput matches a secret output's value, in the form that the library writes.
var secretOutput = regexp.MustCompile(`(?m)^((?:token|password|private-key|aws-(?:access-key-id|secret-access-key|session-token)|env|DBT_ENV_SECRET_\w+|CLOUDSDK_AUTH_ACCESS_TOKEN|AWS_(?:ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN))<<\S+\n).*$`)

// hideSecrets puts a word in place of each secret output's value.
func hideSecrets(parts map[string]string) {
	for name, text := range parts {
		parts[name] = secretOutput.ReplaceAllString(text, "${1}SECRET")
	}
}

// normalize puts names in place of what differs from run to run.
func normalize(parts map[string]string, names []string) {
	places := slices.Clone(names)
	slices.Reverse(places) // values before their names
	replacer := strings.NewReplacer(places...)
	for name, text := range parts {
		text = replacer.Replace(text)
		for _, u := range unstable {
			text = u.pattern.ReplaceAllString(text, u.with)
		}
		parts[name] = text
	}
	parts["audit"] = auditLines(parts["audit"])
}

// auditLines keeps of each record what a case is about; that a record is
// whole is internal/audit's own test.
func auditLines(log string) string {
	var out strings.Builder
	ids := map[string]bool{}
	for line := range strings.Lines(log) {
		var r struct {
			Activity string `json:"activity_name"`
			Status   string `json:"status"`
			Code     string `json:"status_code"`
			Detail   string `json:"status_detail"`
			Metadata struct {
				ID string `json:"correlation_uid"`
			} `json:"metadata"`
			Unmapped struct {
				Target string `json:"target"`
			} `json:"unmapped"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return "not JSON: " + line
		}
		ids[r.Metadata.ID] = true
		fmt.Fprintln(&out, strings.TrimSpace(strings.Join([]string{r.Activity, r.Status, r.Unmapped.Target, r.Code, r.Detail}, " ")))
	}
	if len(ids) > 1 {
		fmt.Fprintf(&out, "%d ids\n", len(ids))
	}
	return out.String()
}

// badServer answers by path as no server should.
func badServer(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fault, ok := faults[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		fault(w, r)
	}))
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(server.Close)
	return server
}

// faults are the bad replies, by the path that gives them.
var faults = map[string]http.HandlerFunc{
	"nothing": func(w http.ResponseWriter, _ *http.Request) {},
	"empty":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"value":""}`) },
	"html": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>hunter2-secret</html>")
	},
	"garbage": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprint(w, "<AssumeRole<<>hunter2-secret")
	},
	"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/nothing", http.StatusFound) },
	"401":      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hunter2-secret", http.StatusUnauthorized) },
	"403":      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hunter2-secret", http.StatusForbidden) },
	"500": func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "hunter2-secret", http.StatusInternalServerError)
	},
	"hang":      func(_ http.ResponseWriter, r *http.Request) { hang(r) },
	"huge":      func(w http.ResponseWriter, _ *http.Request) { huge(w) },
	"past":      stsReply(-time.Hour),
	"long":      stsReply(100 * time.Hour),
	"no-expiry": stsReply(0),
}

// hang answers never. A server notices its client's end only when the body was read.
func hang(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func huge(w http.ResponseWriter) {
	chunk := bytes.Repeat([]byte(" "), 1<<20)
	for range 64 {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// stsReply is an AssumeRoleWithWebIdentity reply that expires after life; 0 leaves the expiry out.
func stsReply(life time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		expiration := ""
		if life != 0 {
			expiration = "<Expiration>" + time.Now().Add(life).UTC().Format(time.RFC3339) + "</Expiration>"
		}
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/dbt/x</Arn><AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>ASIASTANDIN000000001</AccessKeyId><SecretAccessKey>stand-in-secret-key-000000000000000000</SecretAccessKey><SessionToken>stand-in-session-token</SessionToken>%s</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, expiration)
	}
}

const (
	prodRole = "arn:aws:iam::123456789012:role/dbt-prod"
	lakeRole = "arn:aws:iam::210987654321:role/lake"
	poorRole = "arn:aws:iam::123456789012:role/poor" // has no permissions
	pool     = "projects/123/locations/global/workloadIdentityPools/gh/providers/gh"
)

// stsConfig is an account whose role trusts what the cases' rules allow.
func stsConfig(issuer *standin.Issuer) standin.STSConfig {
	production := map[string][]string{"sub": {"repo:acme/analytics:environment:production", "repo:acme@9919/analytics@487920697:environment:production"}}
	return standin.STSConfig{IssuerURL: issuer.URL(), Roles: map[string]standin.Role{
		prodRole: {Audience: "sts.amazonaws.com", Claims: production},
		poorRole: {Audience: "sts.amazonaws.com", Claims: production},
		lakeRole: {TrustedRole: prodRole, ExternalID: "acme", SetsContext: true},
	}}
}

// redshiftConfig is one cluster and one workgroup, where the role may get the
// login of one user, in one group, at one database.
var redshiftConfig = standin.RedshiftConfig{
	Region: "eu-central-1", Clusters: map[string]standin.Cluster{"acme": {Users: []string{"dbt"}}}, Workgroups: map[string]standin.Workgroup{"marts": {ID: "8a5b"}},
	Policies: map[string]string{prodRole: `{"Statement": [
		{"Effect": "Allow", "Action": "redshift:GetClusterCredentials", "Resource": ["arn:aws:redshift:eu-central-1:123456789012:dbuser:acme/dbt", "arn:aws:redshift:eu-central-1:123456789012:dbname:acme/analytics"]},
		{"Effect": "Allow", "Action": "redshift:JoinGroup", "Resource": "arn:aws:redshift:eu-central-1:123456789012:dbgroup:acme/writers"},
		{"Effect": "Allow", "Action": "redshift-serverless:GetCredentials", "Resource": "arn:aws:redshift-serverless:eu-central-1:123456789012:workgroup/8a5b"}]}`},
}

// identityCenterConfig knows the actor of the cases as a user.
func identityCenterConfig(issuer *standin.Issuer) standin.IdentityCenterConfig {
	return standin.IdentityCenterConfig{
		Region: "eu-central-1", Application: "arn:aws:sso::123456789012:application/ssoins-1234567890abcdef/apl-1234567890abcdef", Roles: []string{prodRole},
		IssuerURL: issuer.URL(), Audiences: []string{"sts.amazonaws.com"}, Claim: "actor", Users: map[string]string{"octocat": "user-1"},
	}
}

// googleConfig is a pool whose condition names the environment.
func googleConfig(issuer *standin.Issuer) standin.GoogleConfig {
	const subject = "repo:acme/analytics:environment:production"
	return standin.GoogleConfig{
		IssuerURL: issuer.URL(), Provider: pool,
		Condition:       func(claims map[string]any) bool { return claims["sub"] == subject },
		ServiceAccounts: map[string][]string{"dbt@acme-dbt.iam.gserviceaccount.com": {subject}},
	}
}

// vaultConfig is a server whose role trusts what the cases' rules allow.
func vaultConfig(issuer *standin.Issuer) standin.VaultConfig {
	production := map[string][]string{"repository_id": {"487920697"}, "environment": {"production"}}
	paths := []string{"database/creds/dbt-prod", "azure/creds/dbt-prod", "secret/data/dbt", "kv/azure", "secret/data/nothing"}
	return standin.VaultConfig{
		IssuerURL: issuer.URL(),
		Roles: map[string]standin.VaultRole{
			"dbt-prod":  {BoundAudiences: []string{"vault"}, BoundClaims: production, Policies: paths},
			"elsewhere": {BoundAudiences: []string{"vault"}, BoundClaims: map[string][]string{"environment": {"staging"}}, Policies: paths},
			"poor":      {BoundAudiences: []string{"vault"}, BoundClaims: production},
			"endless":   {BoundAudiences: []string{"vault"}, BoundClaims: production, Policies: paths, Endless: true},
			"brief":     {BoundAudiences: []string{"vault"}, BoundClaims: production, Policies: paths, TokenTTL: 8 * time.Second},
			"capped":    {BoundAudiences: []string{"vault"}, BoundClaims: production, Policies: paths, TokenTTL: 2 * time.Second, TokenMaxTTL: 4 * time.Second},
			"short":     {BoundAudiences: []string{"vault"}, BoundClaims: production, Policies: paths, TokenTTL: 2 * time.Minute},
		},
		Secrets: map[string]standin.VaultSecret{
			"database/creds/dbt-prod": {TTL: time.Hour},
			"azure/creds/dbt-prod":    {TTL: 8 * time.Second, Azure: true},
			"secret/data/dbt":         {Data: map[string]any{"data": map[string]any{"username": "DBT", "password": "hunter2-static"}, "metadata": map[string]any{"version": 1}}},
			"kv/azure":                {Data: map[string]any{"client_id": "0a0b0c0d", "client_secret": "hunter2-principal"}},
		},
	}
}

const workload = "repo:acme/analytics:environment:production"

// entraConfig is a tenant with an application that trusts the environment.
func entraConfig(issuer *standin.Issuer) standin.EntraConfig {
	return standin.EntraConfig{
		Tenant: "acme.example", Resources: []string{"https://database.windows.net", "https://storage.azure.com", "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d", "api://acme-warehouse"},
		Applications: map[string][]standin.FederatedCredential{
			"11111111-2222-3333-4444-555555555555": {{Issuer: issuer.URL(), Subject: workload, Audience: "api://AzureADTokenExchange"}},
		},
	}
}

// databricksConfig is an account with a service principal that trusts the environment.
func databricksConfig(issuer *standin.Issuer) standin.DatabricksConfig {
	return standin.DatabricksConfig{
		Account: "12121212-3434-5656-7878-909090909090", Instances: []string{"marts"},
		Policies: []standin.FederationPolicy{{ServicePrincipal: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", Issuer: issuer.URL(), Subject: workload}},
	}
}

// authServerConfig is a company's authorization server with a client of the
// environment's, and a public one for whom the environment is a user.
func authServerConfig(issuer *standin.Issuer) standin.AuthServerConfig {
	return standin.AuthServerConfig{
		IssuerURL: issuer.URL(), Users: []string{workload},
		Clients: map[string]standin.AuthClient{
			"dbt-production": {Subject: workload, Scopes: []string{"session:role:TRANSFORMER"}},
			"dbt":            {Scopes: []string{"session:role:TRANSFORMER"}, Targets: []string{"trino"}},
		},
	}
}
