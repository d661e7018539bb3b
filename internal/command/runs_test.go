package command_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/golden"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestRuns runs every case of testdata/runs through the real entry: a case is
// one step of a job, or one call of the command. It is a txtar archive:
//
//	-- args --       arguments, one a line; without it the action runs
//	-- inputs --     the step's inputs, YAML
//	-- env --        variables in addition to the runner's own, YAML; null removes one
//	-- claims --     changes to the ID token's claims, YAML; null removes one
//	-- token --      a fault of the token endpoint: see faults
//	-- elsewhere --  not a step of GitHub: a variable, and the audience of the ID
//	                 token in it, which has the claims of the case only
//	-- workspace/… --  files of the checkout
//	-- want/… --     what must come out: status, stdout, stderr, output, env, state, path, summary, audit, files
//
// $ISSUER, $STS, $REDSHIFT, $IDENTITY_CENTER, $GOOGLE, $VAULT, $ENTRA,
// $DATABRICKS, $TOKENS (an authorization server) and $BAD (a server of bad
// replies) are the servers' addresses, $TEMP is RUNNER_TEMP, $WORKSPACE the
// checkout. In every case, nothing secret may be seen anywhere, and every mask
// comes first.
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
			s, args := readCase(t, archive)
			got := runCase(t, s, args)
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
		"allowed-vault-cel":                10 * time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile("../../testdata/runs/" + name + ".txtar")
			if err != nil {
				t.Fatal(err)
			}
			s, args := readCase(t, archive)
			s.here(args...)
			expiry, err := time.Parse(time.RFC3339, s.read("OUTPUT")["expires-at"])
			if life := time.Until(expiry).Round(time.Minute); err != nil || life != want {
				t.Errorf("expires-at is %s away, %v, want %s", life, err, want)
			}
		})
	}
}

// wanted are the parts of a case's result.
var wanted = []string{"status", "stdout", "stderr", "output", "env", "state", "path", "summary", "audit", "profiles", "files"}

// readCase lays a case out as a step, and returns the arguments.
func readCase(t *testing.T, a *txtar.Archive) (s *step, args []string) {
	t.Helper()
	s = newStep(t)
	var elsewhere []string
	var own map[string]any
	for _, f := range a.Files {
		var err error
		switch part, _, _ := strings.Cut(f.Name, "/"); {
		case f.Name == "args":
			args = strings.Split(strings.TrimSpace(string(f.Data)), "\n")
		case f.Name == "inputs":
			var inputs map[string]string
			err = yaml.Load(f.Data, &inputs)
			for name, v := range inputs {
				s.env["INPUT_"+strings.ToUpper(strings.ReplaceAll(name, " ", "_"))] = s.expand(v)
			}
		case f.Name == "env":
			var env map[string]*string
			err = yaml.Load(f.Data, &env)
			for name, v := range env {
				if v == nil {
					delete(s.env, name)
				} else {
					s.env[name] = s.expand(*v)
				}
			}
		case f.Name == "claims":
			var claims map[string]any
			err = yaml.Load(f.Data, &claims)
			own = claims
			s.claims(claims)
		case f.Name == "elsewhere":
			elsewhere = strings.Fields(string(f.Data))
			s.startSTS(standin.STSConfig{IssuerURL: s.issuer.URL(), Roles: map[string]standin.Role{prodRole: {Audience: elsewhere[1]}}})
		case f.Name == "token":
			s.env["ACTIONS_ID_TOKEN_REQUEST_URL"] = s.address("$BAD") + "/" + strings.TrimSpace(string(f.Data)) + "?api-version=2.0"
		case part == "workspace":
			s.write(f.Name, string(f.Data))
		case part == "want": // golden.Case compares it
		default:
			t.Fatalf("a case has no part %q", f.Name)
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	if elsewhere != nil {
		s.leaveGitHub(elsewhere[0], elsewhere[1], own)
	}
	return s, args
}

// leaveGitHub makes the step a job of another system, whose ID token is in a variable.
func (s *step) leaveGitHub(variable, audience string, claims map[string]any) {
	for name := range s.env {
		if strings.HasPrefix(name, "GITHUB_") || strings.HasPrefix(name, "ACTIONS_") || strings.HasPrefix(name, "RUNNER_") {
			delete(s.env, name)
		}
	}
	s.env["XDG_STATE_HOME"] = s.at("temp")
	s.issuer.SetClaims(claims)
	s.env[variable] = s.issuer.Sign(audience, nil)
}

// runCase runs a case, holds it to what holds for all, and returns the parts of its result.
func runCase(t *testing.T, s *step, args []string) map[string]string {
	t.Helper()
	before := tree(t, s.at("workspace"))
	r := s.here(args...)
	if after := tree(t, s.at("workspace")); after != before {
		t.Errorf("the workspace has changed:\n%s\nwant\n%s", after, before)
	}
	parts := map[string]string{"status": fmt.Sprintln(r.status), "stdout": r.stdout, "stderr": r.stderr, "files": tree(t, s.at("temp"))}
	for part, pattern := range map[string]string{
		"output": "commands/OUTPUT", "env": "commands/ENV", "state": "commands/STATE", "path": "commands/PATH",
		"summary": "commands/STEP_SUMMARY", "audit": "temp/oidc-dbt/audit.jsonl", "profiles": "temp/oidc-dbt-step-*/profiles.yml",
	} {
		if files, _ := filepath.Glob(s.at(pattern)); len(files) == 1 {
			data, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			parts[part] = string(data)
		}
	}
	if s.env["INPUT_PROFILE-ONLY"] == "true" || slices.Contains(args, "--profile-only") { // no identity is asked for
		if issued := s.issuer.Issued(); len(issued) > 0 || strings.Contains(parts["stdout"]+parts["stderr"], "::add-mask::") || parts["audit"] != "" {
			t.Errorf("without a credential %d ID tokens were issued, want none, no mask and no audit record", len(issued))
		}
	} else {
		checkSecrets(t, parts, s.secrets()...)
		hideSecrets(parts)
	}
	s.normalize(parts)
	return parts
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
		line = strings.TrimSuffix(line, "\n")
		v, isMask := strings.CutPrefix(line, "::add-mask::")
		if !isMask {
			v, isMask = strings.CutPrefix(line, "##vso[task.setsecret]")
		}
		if isMask {
			if !masked {
				t.Errorf("a mask comes after another line: %q", rest)
			}
			secrets = append(secrets, strings.NewReplacer("%0A", "\n", "%0D", "\r", "%25", "%").Replace(v))
		} else {
			masked = false
			rest = append(rest, line+"\n")
		}
	}
	checkRecords(t, parts["audit"])
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
				// An access key's id is no secret by itself: CloudTrail has it too.
				if strings.Contains(text, f) && !(where == "audit log" && strings.HasPrefix(s, "ASIA")) {
					t.Errorf("a secret is in %s:\n%s", where, text)
				}
			}
		}
	}
}

// checkRecords holds every line of an audit log to OCSF's schema and to a name
// of its own, and each run to what `audit verify` finds.
func checkRecords(t *testing.T, log string) {
	t.Helper()
	uids := map[string]bool{}
	for line := range strings.Lines(log) {
		var r struct {
			Metadata struct {
				UID string `json:"uid"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || uids[r.Metadata.UID] {
			t.Errorf("audit record: %v, or its uid is another's, too\n%s", err, line)
		}
		uids[r.Metadata.UID] = true
		o, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err == nil {
			err = ocsf().Validate(o)
		}
		if err != nil {
			t.Errorf("audit record: %v\n%s", err, line)
		}
	}
	v := auditlog.NewVerification(nil)
	for e, err := range auditlog.Read(t.Context(), []string{"-"}, auditlog.Options{Stdin: strings.NewReader(log)}) {
		if err := v.Add(e, err); err != nil {
			t.Fatal(err)
		}
	}
	v.End(v.Last.Add(24 * time.Hour)) // each outcome was due by then
	for _, f := range v.Findings {
		t.Errorf("audit record: `audit verify` finds %s: %s\n%s", f.Name, f.Message, log)
	}
}

// ocsf is the schema of the records' class.
var ocsf = sync.OnceValue(func() *jsonschema.Schema {
	return jsonschema.NewCompiler().MustCompile("../audit/testdata/ocsf/authentication.schema.json")
})

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
	{regexp.MustCompile(`(?m)^(::add-mask::|##vso\[task\.setsecret\]).*`), "${1}SECRET"},
	{regexp.MustCompile(`until \d\d:\d\d UTC \(in \d+h\d\dm\)`), "until TIME"},
	{regexp.MustCompile(`(\d+h)?\d+m\d+s`), "DURATION"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d&#58;\d\d&#58;\d\dZ`), "TIME"}, // in the summary
	{regexp.MustCompile(`127\.0\.0\.1(&#58;|:)\d+`), "LOOPBACK"},
	{regexp.MustCompile(`\bv-jwt-repo-[A-Z2-7]{12}\b`), "DATABASE-USER"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "SHA256"},
	{regexp.MustCompile(`(\bport:? )(?:[2-5]\d|6[0-5])\d{3}\b`), "${1}PORT"}, // the broker's, or any free one if another run has that
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
func (s *step) normalize(parts map[string]string) {
	var names []string
	for place, address := range s.addresses {
		names = append(names, address, place)
	}
	replacer := strings.NewReplacer(names...)
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
