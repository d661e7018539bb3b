package audit_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// text returns the one line that a record becomes in a file.
func text(t *testing.T, r audit.Record) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := audit.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := log.Append(r); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line, ok := strings.CutSuffix(string(b), "\n")
	if !ok || strings.ContainsAny(line, "\r\n") {
		t.Fatalf("not one line: %q", b)
	}
	return line
}

func decode(t *testing.T, r audit.Record) (object map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text(t, r)), &object); err != nil {
		t.Fatal(err)
	}
	return object
}

func run() audit.Run {
	return audit.Run{
		ID: "RUN1", Version: "1.2.3", PolicyOrigin: ".github/oidc-dbt.yml", PolicySHA256: strings.Repeat("ab", 32),
		Target: "prod", Provider: "aws", Audience: "sts.amazonaws.com", ExtraCA: strings.Repeat("cd", 32),
		Projects: []audit.Project{{Name: "shop", Lock: strings.Repeat("ef", 32), Packages: []string{"dbt-labs/dbt_utils@1.3.0"}}},
		Identity: audit.Identity{
			Name: "github", Kind: "github", ActorName: "actor", ActorID: "actor_id",
			Claims: []string{"repository", "repository_id", "repository_owner", "repository_owner_id", "run_id", "run_attempt",
				"check_run_id", "event_name", "environment", "ref", "sha", "workflow_ref", "workflow_sha", "job_workflow_ref",
				"job_workflow_sha", "runner_environment"},
		},
	}
}

// session is a credential of which every secret is marked.
func session() credential.Credential {
	return credential.Credential{
		Kind: "aws_session", ID: "arn:aws:sts::123456789012:assumed-role/dbt/oidc-dbt-1", Expiry: noon.Add(time.Hour),
		Token: secret.New("SECRET-token"), Password: secret.New("SECRET-password"), PrivateKey: secret.New("SECRET-key"),
		AWS: &credential.AWS{
			AccessKeyID: secret.New("SECRET-access-key-id"), SecretAccessKey: secret.New("SECRET-access-key"),
			SessionToken: secret.New("SECRET-session-token"), Region: "eu-central-1",
		},
	}
}

// sessionKey has every name that there is; no credential has all of them.
func sessionKey() map[string]string {
	return map[string]string{
		"session": "arn:aws:sts::123456789012:assumed-role/dbt/oidc-dbt-1", "access_key_id": "ASIAEXAMPLE",
		"user": "dbt", "principal": "app-1", "lease": "database/creds/dbt/4a57", "uti": "UTI_1234-5",
		"query_tag": "oidc-dbt target=prod", "query_group": "oidc-dbt target=prod", "application_name": "oidc-dbt target=prod",
		"client_tag": "run=16055869479", "run_tag": "16055869479",
	}
}

// everyRecord are all kinds of record that there are.
func everyRecord(r audit.Run) map[string]audit.Record {
	return map[string]audit.Record{
		"allowed": r.Allowed(noon, 1, 17),
		"denied": r.Denied(noon, "no rule of target \"prod\" matches", []audit.Mismatch{
			{Rule: 0, Line: 12, Claim: "environment", Got: "staging", Want: "production"},
			{Rule: 1, Line: 17, Claim: "ref", Got: "", Want: "refs/heads/main"},
		}),
		"issued":  r.Issued(noon, session(), sessionKey()),
		"renewed": r.Renewed(noon, credential.Credential{Kind: "database_login", ID: "database/creds/dbt/4a57", Expiry: noon.Add(time.Hour), Password: secret.New("SECRET-password")}, nil),
		"failed":  r.Failed(noon, fault.New(fault.Unreachable, errors.New("exchange at \"sts\": 503"), "")),
		"skipped": r.Skipped(noon),
		"static":  r.Issued(noon, credential.Credential{Kind: "database_login", ID: "secret/data/dbt", Expiry: credential.Never(), Password: secret.New("SECRET-password"), Static: true}, nil),
		"kept":    r.Revoked(noon, "database/creds/dbt/4a57", fault.New(fault.Refused, errors.New("revoke the lease: refused: \"permission denied\""), "")),
		"revoked": r.Revoked(noon, "database/creds/dbt/4a57", nil),
		"stopped": r.Stopped(noon, errors.New("stopped by `oidc-dbt stop`: nothing was published")),
		"halted":  r.Halted(noon, errors.New("stopped by `oidc-dbt stop`")),
	}
}

// TestOCSF holds every record to the JSON Schema of OCSF's class 3002, with the
// run that knows everything and the one that got no token. The schema was made
// from OCSF 1.8.0 by the package ocsf-json-schema 1.2.0 of PyPI
// (OcsfJsonSchemaEmbedded.get_class_schema, class "authentication"), without
// its descriptions; it allows no attribute that OCSF does not have.
func TestOCSF(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile("testdata/ocsf/authentication.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, known := range map[string]audit.Run{"full": run(), "empty": {ID: "RUN1"}} {
		for kind, record := range everyRecord(known) {
			o := decode(t, record)
			if err := schema.Validate(o); err != nil {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
			// What the schema leaves open: a caption that says what its number says.
			if o["type_uid"] != 300200+o["activity_id"].(float64) || o["type_name"] != "Authentication: "+o["activity_name"].(string) {
				t.Errorf("%s, %s: type %v %v of activity %v", name, kind, o["type_uid"], o["type_name"], o["activity_name"])
			}
			if meta := o["metadata"].(map[string]any); meta["version"] != "1.8.0" || meta["correlation_uid"] != "RUN1" {
				t.Errorf("%s, %s: metadata %v", name, kind, meta)
			}
			if o["time"] != float64(noon.UnixMilli()) {
				t.Errorf("%s, %s: time %v, want %d", name, kind, o["time"], noon.UnixMilli())
			}
		}
	}
}

func TestDecisionAndOutcomeShareOneID(t *testing.T) {
	t.Parallel()
	r := run()
	uids := map[any]bool{}
	for _, record := range []audit.Record{r.Allowed(noon, 0, 1), r.Issued(noon, session(), sessionKey())} {
		uids[decode(t, record)["metadata"].(map[string]any)["uid"]] = true
	}
	if !uids["RUN1-preauth"] || !uids["RUN1-logon"] {
		t.Errorf("got %v, want one uid for each line", uids)
	}
	if a, b := audit.NewID(), audit.NewID(); a == b || len(a) < 26 {
		t.Errorf("ids %q and %q", a, b)
	}
}

func TestSHA256NamesTheLastSecretShown(t *testing.T) {
	t.Parallel()
	token, key := secret.New("token"), secret.New("key")
	tests := map[string]struct {
		c    credential.Credential
		want string
	}{
		"bearer":  {credential.Credential{Token: token, AWS: &credential.AWS{SessionToken: key}}, token.SHA256()},
		"lease":   {credential.Credential{Password: key}, key.SHA256()},
		"key":     {credential.Credential{User: "dbt", PrivateKey: key}, key.SHA256()},
		"session": {credential.Credential{AWS: &credential.AWS{AccessKeyID: token, SecretAccessKey: token, SessionToken: key}}, key.SHA256()},
	}
	for name, tt := range tests {
		if got := decode(t, run().Issued(noon, tt.c, nil))["session"].(map[string]any)["credential_uid"]; got != tt.want {
			t.Errorf("%s: got %v, want %s", name, got, tt.want)
		}
	}
	if got, ok := decode(t, run().Issued(noon, credential.Credential{}, nil))["session"].(map[string]any)["credential_uid"]; ok {
		t.Errorf("no secret: got %v, want none", got)
	}
}

// TestNoSecretInAnyRecord: neither from the credential nor from an error that quotes a token.
func TestNoSecretInAnyRecord(t *testing.T) {
	t.Parallel()
	token := "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJyZXBvOmFjbWUvYW5hbHl0aWNzIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
	r := run()
	r.Target, r.Audience = token, "x"+token
	records := everyRecord(r)
	records["echo"] = r.Failed(noon, fmt.Errorf("exchange: %q: invalid token %s.", "invalid_grant", token))
	records["cut off"] = r.Failed(noon, errors.New(strings.Repeat("x", 1000)+token))
	records["claim"] = r.Denied(noon, token, []audit.Mismatch{{Claim: "sub", Got: token, Want: token}})
	for name, record := range records {
		issued := r.Issued(noon, session(), sessionKey())
		for where, have := range map[string]string{"line": text(t, record), "summary": audit.Summary(record, &issued)} {
			for _, s := range append(strings.Split(token, "."), "SECRET-", base64.StdEncoding.EncodeToString([]byte("SECRET-t"))[:8], hex.EncodeToString([]byte("SECRET-"))) {
				if strings.Contains(have, s) {
					t.Errorf("%s, %s: holds %q: %s", name, where, s, have)
				}
			}
		}
	}
	if got := decode(t, records["echo"])["status_detail"]; got != `exchange: "invalid_grant": invalid token [secret].` && got != `exchange: "invalid_grant": invalid token [secret]` {
		t.Errorf("got %q", got)
	}
}

// TestHostileText: what a claim, a policy or a server says stays inside its string.
func TestHostileText(t *testing.T) {
	t.Parallel()
	const hostile = "a|b<script>`x`\n::set-output name=decision::allowed\r\n##[add-mask]y\x00\u2028\u202e\"}\\ @octocat https://evil.example *_~[x](y)"
	r := run()
	r.Target = hostile
	denied := r.Denied(noon, hostile, []audit.Mismatch{{Claim: hostile, Got: hostile, Want: hostile}})
	line := text(t, denied)
	if strings.Contains(line, "##[") {
		t.Errorf("the runner would obey this line when it is printed: %s", line)
	}
	o := decode(t, denied)
	if got := o["unmapped"].(map[string]any)["target"]; got != hostile {
		t.Errorf("got %q, want %q", got, hostile)
	}

	summary := audit.Summary(denied, nil)
	for _, bad := range []string{"<script", "`", "::set", "##[", "\r", "\x00", "\u2028", "\u202e", "@octocat", "https://evil", "*", "_~", "](", "|b"} {
		if strings.Contains(summary, bad) {
			t.Errorf("summary holds %q:\n%s", bad, summary)
		}
	}
	// Every line of a table has as many cells as its head.
	cells := 0
	for line := range strings.Lines(summary) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			cells = 0
			continue
		}
		if n := strings.Count(line, "|"); cells == 0 {
			cells = n
		} else if n != cells {
			t.Errorf("a row of %d bars in a table of %d: %s", n, cells, line)
		}
	}
	if strings.Count(summary, "<code>") != strings.Count(summary, "</code>") {
		t.Error("code elements do not close")
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	r := run()
	r.Target = strings.Repeat("ü", 5000)
	var many []audit.Mismatch
	for i := range 10_000 {
		many = append(many, audit.Mismatch{Rule: i, Claim: "ref", Got: strings.Repeat("g", 5000), Want: "w"})
	}
	denied := r.Denied(noon, strings.Repeat("\xff", 5000), many)
	line := text(t, denied)
	if len(line) > 256<<10 {
		t.Errorf("the line has %d bytes", len(line))
	}
	u := decode(t, denied)["unmapped"].(map[string]any)
	if got, want := u["target"], strings.Repeat("ü", 512)+"…"; got != want {
		t.Errorf("target is cut to %d bytes, want %d", len(got.(string)), len(want))
	}
	if n, omitted := len(u["mismatches"].([]any)), u["mismatches_omitted"]; n != 100 || omitted != 9900.0 {
		t.Errorf("%d mismatches and %v omitted, want 100 and 9900", n, omitted)
	}
	if summary := audit.Summary(denied, nil); len(summary) > 128<<10 {
		t.Errorf("the summary has %d bytes", len(summary)) // GitHub takes 1 MiB a step
	}
}

// TestFailure: the error in words of its own lines, nothing of which is
// Markdown, HTML or a token.
func TestFailure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, hint, want string }{
		{"a place", "policy.yml:7:3: unknown key\n  x: 1\n  ^", "", "policy.yml&#58;7&#58;3&#58; unknown key&#10;  x&#58; 1&#10;  &#94;"},
		{"a hint", "no policy", "write one", "no policy&#10;hint&#58; write one"},
		{"markup", "</pre>\n\n# <img src=x> @octocat `", "", "&#60;/pre&#62;&#10;&#10;&#35; &#60;img src=x&#62; &#64;octocat &#96;"},
		{"a tab and ESC", "a\tb\x1b[31m", "", "a b\uFFFD&#91;31m"},
		{"a token", "got eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln", "", "got &#91;secret&#93;"},
		{"no end", strings.Repeat("x", 1<<20), "", strings.Repeat("x", 16<<10) + "…"},
	} {
		got := audit.Failure(fault.New(fault.Usage, errors.New(tt.text), ""), tt.hint)
		if want := "### oidc-dbt: failed\n\n| | |\n| --- | --- |\n| Error class | <code>usage</code> |\n\n<pre>" + tt.want + "</pre>\n\n"; got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, want)
		}
	}
}

func TestSummaryHeadline(t *testing.T) {
	t.Parallel()
	r := everyRecord(run())
	issued, failed, skipped := r["issued"], r["failed"], r["skipped"]
	tests := []struct {
		first  string
		second *audit.Record
		want   string
	}{
		{"allowed", &issued, "allowed"},
		{"allowed", &failed, "allowed, failed"},
		{"allowed", &skipped, "allowed, skipped"},
		{"denied", nil, "denied"},
		{"failed", nil, "failed"},
	}
	for _, tt := range tests {
		got, _, _ := strings.Cut(audit.Summary(r[tt.first], tt.second), "\n")
		if want := "### oidc-dbt: " + tt.want; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
