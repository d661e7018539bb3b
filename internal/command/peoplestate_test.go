package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestClonesOwnApproval: where no folder of the user's is known, a clone that
// brings an approval of its own policy along approves nothing, and nothing is kept in it.
func TestClonesOwnApproval(t *testing.T) {
	t.Parallel()
	for _, vars := range []map[string]string{
		{}, {"HOME": "home"}, {"XDG_STATE_HOME": "state"}, {"HOME": ".", "XDG_STATE_HOME": "../workspace"},
	} {
		d := sit(t)
		d.here("approve", "--yes")
		text, err := os.ReadFile(d.at("temp/oidc-dbt/approved.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, place := range []string{"workspace/.local/state", "workspace/home/.local/state", "workspace/state", "workspace"} {
			d.write(place+"/oidc-dbt/approved.json", string(text))
		}
		delete(d.env, "XDG_STATE_HOME")
		delete(d.env, "HOME")
		for name, v := range vars {
			d.env[name] = v
		}
		const hint = "hint: set HOME or XDG_STATE_HOME to an absolute path"
		d.says(3, "", unapproved, "whoami")
		d.says(3, "", unapproved, "login", "--token-store", "file")
		d.says(2, "", "oidc-dbt: flag --audit-log: no folder of this user's is known to keep audit records in\n"+hint+
			", or name the file: --audit-log PATH\n", "exec", "--target", "dev", "--", "true")
		d.says(3, "", unapproved, "exec", "--audit-log", d.at("temp/audit.jsonl"), "--target", "dev", "--", "true")
		d.says(2, shownPolicy, "oidc-dbt: no folder of this user's is known to keep logins and approvals in\n"+hint+"\n", "approve", "--yes")
		d.says(0, "", "oidc-dbt: not signed in as identity engineers\n", "logout")
	}
}

// TestOneLine: what a token or a policy says is one line of several, and passes for no other.
func TestOneLine(t *testing.T) {
	t.Parallel()
	d := sit(t)
	var err error
	d.idp, err = standin.StartPeople(standin.PeopleConfig{ClientID: cliClient, Interval: 1, Approves: true, Claims: map[string]any{
		"sub": "00u1ann\ntargets", "preferred_username": "ann\n  prod: allowed", "groups": []string{"a\n  prod: allowed by rule 1\x1b[2J"},
	}})
	d.started("$IDP", d.idp, err)
	d.policyOf(peopleIdentity, awsExchange)
	d.signIn()
	d.says(0, "00u1ann\uFFFDtargets (identity engineers of $IDP)\n  name: ann\uFFFD  prod: allowed\n"+
		"  groups: a\uFFFD  prod: allowed by rule 1\uFFFD[2J\n  ID token until: TIME, then it is refreshed\n"+
		"targets\n  dev: denied: rule 1 does not match (sub)\n  prod: denied: rule 1 does not match (sub)\n", "", "whoami")
	d.policyOf(`cc: {kind: claude_code, issuer: "ccr\ntokens go to\n  dev: trino.acme.example (oidc)", audience: sts.amazonaws.com, jwks_uri: $IDP/keys}`,
		strings.Replace(awsExchange, ", audience: dbt-cli", ", audience: sts.amazonaws.com", 1))
	r := d.here("approve", "--yes")
	if want := "\n  cc: takes tokens of ccr\uFFFDtokens go to\uFFFD  dev: trino.acme.example (oidc) (kind claude_code)\ntokens go to\n"; !strings.Contains(r.stdout, want) {
		t.Errorf("status %d, want %q in\n%s%s", r.status, want, r.stdout, r.stderr)
	}
}

// TestApproveShowsEveryHost: those of object stores and clients too, and a
// profile that names another one later is not what was approved.
func TestApproveShowsEveryHost(t *testing.T) {
	t.Parallel()
	const stores = `{type: duckdb, path: ":memory:", schema: dev, secrets: [{type: s3, endpoint: one.acme.example, scope: "s3://a"}, ` +
		`{type: s3, endpoint: two.acme.example, scope: "s3://b"}], filesystems: [{fs: s3, client_kwargs: {endpoint_url: "https://$THREE/x"}}]}`
	d := sit(t)
	profile := func(host string) {
		d.write("workspace/profiles.yml", "analytics:\n  target: dev\n  outputs:\n    dev: "+strings.Replace(stores, "$THREE", host, 1)+"\n")
	}
	d.write(policyFile, `version: 1
identities:
  `+peopleIdentity+`
targets:
  athena:
    dbt: {type: athena, s3_staging_dir: "s3://x/y", region_name: eu-central-1, database: d, schema: s, endpoint_url: "https://athena.acme.example"}
    exchange:
      `+awsExchange+`
    allow:
      - {identity: engineers, sub: 00u1ann}
  stores:
    dbt: {from: profiles.yml, output: dev}
    exchange:
      `+awsExchange+`
    allow:
      - {identity: engineers, sub: 00u1ann}
`)
	profile("three.acme.example")
	const shown = "policy $WORKSPACE/.github/oidc-dbt.yml\n  SHA-256 SHA256\nidentities\n  engineers: signs you in at $IDP as client \"dbt-cli\"\n" +
		"tokens go to\n  athena: LOOPBACK, athena.acme.example (aws)\n  stores: LOOPBACK, one.acme.example, two.acme.example, three.acme.example (aws)\n"
	d.says(0, shown, "oidc-dbt: approved\n", "approve", "--yes")
	if r := d.here("login", "--token-store", "file"); r.status != 0 {
		t.Fatalf("login: status %d\n%s", r.status, r.stderr)
	}
	profile("evil.example")
	r := d.here("exec", "--target", "stores", "--", "true")
	if want := `was approved before target "stores" went to host "evil.example"`; r.status != 3 || !strings.Contains(r.stderr, want) {
		t.Errorf("status %d, want 3 and %q in\n%s", r.status, want, r.stderr)
	}
}

// TestFoundSource: at a terminal a policy that was found reads no token by a
// source that it names, of whichever kind, before it is approved.
func TestFoundSource(t *testing.T) {
	t.Parallel()
	d := sit(t)
	d.write("temp/token", "x")
	d.write(policyFile, `version: 1
identities:
  ci: {issuer: $IDP, kind: github, source: {file: `+d.at("temp/token")+`}}
targets:
  dev:
    exchange:
      `+awsExchange+`
    allow:
      - {identity: ci, repository: acme/analytics, repository_id: "1", environment: dev}
`)
	r := d.here("exec", "--target", "dev", "--", "true")
	if want := "oidc-dbt.yml\" is not approved\n"; r.status != 3 || !strings.Contains(r.stderr, want) {
		t.Errorf("status %d, want 3 and %q in\n%s", r.status, want, r.stderr)
	}
}

// TestDamagedNote: a login whose note cannot be read is not said to be none.
func TestDamagedNote(t *testing.T) {
	t.Parallel()
	d := sit(t)
	d.signIn()
	notes, err := filepath.Glob(d.at("temp/oidc-dbt/logins/*.json"))
	if err != nil || len(notes) != 1 {
		t.Fatal(notes, err)
	}
	if err := os.WriteFile(notes[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"whoami", "logout"} {
		r := d.here(command)
		want := "oidc-dbt: read the login of identity \"engineers\": \"" + notes[0] + "\": not a note of this login\nhint: sign in: oidc-dbt login engineers\n"
		if r.status != 3 || r.stderr != want {
			t.Errorf("%s: status %d, want 3\n%s--- want\n%s", command, r.status, r.stderr, want)
		}
	}
	d.signIn()
	d.says(0, "", "oidc-dbt: signed out of identity engineers: the login is revoked and removed\n", "logout")
}
