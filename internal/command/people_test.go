package command_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A desk is a person at a terminal with a clone.
type desk struct {
	*step
	idp  *standin.People
	back atomic.Int64 // how far the provider's clock is behind
	evil *httptest.Server
	hits atomic.Int32 // requests to evil
}

const cliClient = "dbt-cli"

func sit(t *testing.T) *desk {
	t.Helper()
	d := &desk{step: newStep(t)}
	for name := range d.env {
		if strings.HasPrefix(name, "GITHUB_") || strings.HasPrefix(name, "ACTIONS_") || strings.HasPrefix(name, "RUNNER_") {
			delete(d.env, name)
		}
	}
	d.env["XDG_STATE_HOME"] = d.at("temp")
	var err error
	d.idp, err = standin.StartPeople(standin.PeopleConfig{
		ClientID: cliClient, Interval: 1, Approves: true,
		Now:    func() time.Time { return time.Now().Add(-time.Duration(d.back.Load())) },
		Claims: map[string]any{"sub": "00u1ann", "groups": []string{"analysts"}, "preferred_username": "ann@acme.example"},
	})
	d.started("$IDP", d.idp, err)
	d.startSTS(standin.STSConfig{IssuerURL: d.idp.URL(), Roles: map[string]standin.Role{
		prodRole: {Audience: cliClient, Claims: map[string][]string{"sub": {"00u1ann"}}},
	}})
	d.evil = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { d.hits.Add(1) }))
	t.Cleanup(d.evil.Close)
	d.addresses["$EVIL"] = d.evil.URL
	d.write("workspace/dbt_project.yml", "name: analytics\nversion: \"1.0\"\nprofile: analytics\n")
	d.policyOf(peopleIdentity, awsExchange)
	return d
}

const (
	peopleIdentity = "engineers: {issuer: $IDP, kind: people, client_id: dbt-cli, flow: device}"
	awsExchange    = `aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1, endpoint: $STS, audience: dbt-cli}`
)

// policyOf writes the clone's policy.
func (d *desk) policyOf(identity, exchange string) {
	d.t.Helper()
	name, _, _ := strings.Cut(identity, ":")
	dbt := ""
	if strings.HasPrefix(exchange, "aws") {
		dbt = `    dbt: {type: duckdb, path: ":memory:", schema: dev}` + "\n"
	}
	d.write(policyFile, fmt.Sprintf(`version: 1
identities:
  %s
targets:
  dev:
%s    exchange:
      %s
    allow:
      - {identity: %s, sub: 00u1ann}
  prod:
    exchange:
      %s
    allow:
      - {identity: %s, sub: someone-else}
`, identity, dbt, exchange, name, exchange, name))
}

// says runs the command here, and compares what it says.
func (d *desk) says(status int, stdout, stderr string, args ...string) {
	d.t.Helper()
	r := d.here(args...)
	parts := map[string]string{"stdout": r.stdout, "stderr": r.stderr, "audit": ""}
	d.normalize(parts)
	for _, secret := range append(d.idp.Issued(), d.idp.Secrets()...) {
		if strings.Contains(r.stdout+r.stderr, secret) {
			d.t.Errorf("%q prints a secret", args)
		}
	}
	if r.status != status || parts["stdout"] != stdout || parts["stderr"] != stderr {
		d.t.Errorf("%q: status %d, want %d\n--- stdout\n%s--- want\n%s--- stderr\n%s--- want\n%s", args, r.status, status, parts["stdout"], stdout,
			parts["stderr"], stderr)
	}
}

func (d *desk) signIn() {
	d.t.Helper()
	for _, args := range [][]string{{"approve", "--yes"}, {"login", "--token-store", "file"}} {
		if r := d.here(args...); r.status != 0 {
			d.t.Fatalf("%q: status %d\n%s", args, r.status, r.stderr)
		}
	}
}

const (
	notApproved = `hint: read it, then run ` + "`oidc-dbt approve`" + `. By this policy
  identity engineers: signs you in at $IDP as client "dbt-cli"
  target dev sends tokens to LOOPBACK (aws)
  target prod sends tokens to LOOPBACK (aws)
`
	unapproved = "oidc-dbt: policy \"$WORKSPACE/.github/oidc-dbt.yml\" is not approved\n" + notApproved
	changed    = "oidc-dbt: policy \"$WORKSPACE/.github/oidc-dbt.yml\" has changed since you approved it\n"
)

// TestPerson: from a clone to a command with a credential, and out again.
func TestPerson(t *testing.T) {
	t.Parallel()
	d := sit(t)
	for _, args := range [][]string{{"login"}, {"whoami"}, {"exec", "--target", "dev", "--", "true"}} {
		d.says(3, "", unapproved, args...)
	}
	d.says(2, shownPolicy, "oidc-dbt: approve: standard input is not a terminal, so you cannot be asked\n"+
		"hint: if you have read it: oidc-dbt approve --yes\n", "approve")
	d.env["CLAUDECODE"] = "1"
	d.says(3, shownPolicy, "oidc-dbt: approve: CLAUDECODE says that an AI agent is at work, and a person has to read this\n"+
		"hint: run `oidc-dbt approve` yourself, in a terminal of your own\n", "approve", "--yes")
	delete(d.env, "CLAUDECODE")
	d.says(0, shownPolicy, "oidc-dbt: approved\n", "approve", "--yes")
	d.says(0, strings.Replace(shownPolicy, "identities\n", "  it is approved already\nidentities\n", 1), "", "approve")

	const signedOut = "hint: sign in: oidc-dbt login engineers\n"
	notSignedIn := "oidc-dbt: request ID token: not signed in as identity \"engineers\" ($IDP)\n" + signedOut
	d.says(3, "", notSignedIn, "whoami")
	d.says(3, "", notSignedIn, "exec", "--target", "dev", "--", "true")
	elsewhere := d.at("workspace/other.yml") // the hints are for this policy, not for the default one
	text, err := os.ReadFile(d.at(policyFile))
	if err != nil {
		t.Fatal(err)
	}
	d.write("workspace/other.yml", string(text))
	d.says(3, "", strings.NewReplacer(".github/oidc-dbt.yml", "other.yml", "oidc-dbt approve`", "oidc-dbt approve --policy $WORKSPACE/other.yml`").
		Replace(unapproved), "whoami", "--policy", elsewhere)
	if r := d.here("approve", "--yes", "--policy", elsewhere); r.status != 0 {
		t.Errorf("approve: status %d\n%s", r.status, r.stderr)
	}
	d.says(3, "", strings.TrimSuffix(notSignedIn, "\n")+" --policy $WORKSPACE/other.yml\n", "whoami", "--policy", elsewhere)
	d.says(2, "", "oidc-dbt: flag --token-store: memory ends with the command, so there would be no login\n"+
		"hint: sign in for one command: oidc-dbt exec --token-store memory -- COMMAND\n", "login", "--token-store", "memory")
	d.says(2, "", "oidc-dbt: flag --token-store: unknown store \"usb\", valid stores are [\"keyring\" \"file\" \"memory\"]\n", "login", "--token-store", "usb")
	d.says(2, "", "oidc-dbt: policy \"$WORKSPACE/.github/oidc-dbt.yml\" has no identity \"eng\" of kind people, it has [\"engineers\"]\n", "login", "eng")
	if r := d.here("login", "--token-store", "file"); r.status != 0 || !strings.HasSuffix(r.stderr,
		"oidc-dbt: signed in as 00u1ann (identity engineers); the login is kept in a file that only you can read\n") {
		t.Errorf("login: status %d\n%s", r.status, r.stderr)
	}
	d.says(0, `00u1ann (identity engineers of $IDP)
  name: ann@acme.example
  groups: analysts
  ID token until: TIME, then it is refreshed
targets
  dev: allowed by rule 1
  prod: denied: rule 1 does not match (sub)
`, "", "whoami")
	checkWhoami(t, d.here("whoami", "--json").stdout)
	checkExplainsLogin(d)
	d.says(0, "", "oidc-dbt: allowed: target dev by rule 1 (line 10) for 00u1ann\n"+
		"oidc-dbt: the credential is kept fresh for as long as this program runs\n",
		"exec", "--target", "dev", "--", "sh", "-c", `test -n "$DBT_PROFILES_DIR"`)
	if r := d.here("exec", "--target", "prod", "--", "true"); r.status != 5 {
		t.Errorf("prod: status %d, want 5\n%s", r.status, r.stderr)
	}
	d.says(0, "", "oidc-dbt: signed out of identity engineers: the login is revoked and removed\n", "logout")
	if len(d.idp.Revoked()) != 1 {
		t.Errorf("revoked %d refresh tokens, want 1", len(d.idp.Revoked()))
	}
	d.says(0, "", "oidc-dbt: not signed in as identity engineers\n", "logout")
	d.says(3, "", notSignedIn, "exec", "--target", "dev", "--", "true")
}

const shownPolicy = `policy $WORKSPACE/.github/oidc-dbt.yml
  SHA-256 SHA256
identities
  engineers: signs you in at $IDP as client "dbt-cli"
tokens go to
  dev: LOOPBACK (aws)
  prod: LOOPBACK (aws)
`

func checkWhoami(t *testing.T, text string) {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile("../../docs/whoami.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestHostilePolicy: a clone's policy that has changed, or that was never read,
// gets no token; nothing is refreshed, and nothing of it is asked or run.
func TestHostilePolicy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name               string
		identity, exchange string
		hint               string
	}{
		{"endpoint", peopleIdentity, strings.Replace(awsExchange, "$STS", "$EVIL", 1), notApproved},
		{"token_url", peopleIdentity, "token_exchange: {token_url: $EVIL/token, audience: dbt-cli, grant: jwt_bearer}",
			strings.ReplaceAll(notApproved, "(aws)", "(token_exchange)")},
		{"address", peopleIdentity, "vault: {address: $EVIL, role: dbt, audience: dbt-cli, secret: database/creds/dbt}",
			strings.ReplaceAll(notApproved, "(aws)", "(vault)")},
		{"issuer", strings.Replace(peopleIdentity, "$IDP", "$EVIL", 1), awsExchange, strings.Replace(notApproved, "$IDP", "$EVIL", 1)},
		{"command", `engineers: {issuer: $IDP, kind: workload, bind: sub, audience: dbt-cli, source: {command: [touch, ran]}}`, awsExchange,
			"oidc-dbt: identity \"engineers\": a policy of the checkout cannot have a `source` of kind command or unix_socket: its author would run it here\n" +
				"hint: keep the policy outside the checkout, or give the token by --token-source engineers=env:NAME or =file:PATH\n"},
		{"file", `engineers: {issuer: $IDP, kind: workload, bind: sub, audience: dbt-cli, source: {file: /etc/hostname}}`, awsExchange,
			strings.Replace(notApproved, `signs you in at $IDP as client "dbt-cli"`, `reads the file "/etc/hostname"`, 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sit(t)
			d.back.Store(int64(40 * time.Minute)) // the next use refreshes
			d.signIn()
			d.policyOf(tt.identity, tt.exchange)
			warnings := ""
			if tt.name == "command" || tt.name == "file" {
				for _, target := range []string{"dev", "prod"} {
					warnings += fmt.Sprintf("oidc-dbt: warning: target %q: tokens of identity \"engineers\" always have the audience \"dbt-cli\": "+
						"everyone who receives such a token could use it here\n", target)
				}
			}
			if tt.name == "command" { // which no approval opens
				d.says(2, "", warnings+tt.hint, "exec", "--target", "dev", "--", "touch", "ran")
			} else {
				d.says(3, "", warnings+changed+tt.hint, "exec", "--target", "dev", "--", "touch", "ran")
			}
			if warnings == "" {
				d.says(3, "", changed+tt.hint, "whoami")
				d.says(3, "", changed+tt.hint, "login")
			}
			if n := d.idp.Refreshes(); n != 0 {
				t.Errorf("%d refreshes, want none", n)
			}
			if n := d.hits.Load(); n != 0 {
				t.Errorf("%d requests to the attacker's server, want none", n)
			}
			if _, err := os.Stat(d.at("workspace/ran")); err == nil {
				t.Error("a program has run")
			}
		})
	}
}

// TestHostileProfile: the policy is as it was approved, and profiles.yml, from
// which it takes the warehouse's host, is not.
func TestHostileProfile(t *testing.T) {
	t.Parallel()
	d := sit(t)
	d.write(policyFile, `version: 1
identities:
  `+peopleIdentity+`
targets:
  dev:
    dbt: {from: profiles.yml, output: dev}
    exchange:
      oidc: {audience: dbt-cli}
    allow:
      - {identity: engineers, sub: 00u1ann}
`)
	profile := func(host string) {
		d.write("workspace/profiles.yml", "analytics:\n  target: dev\n  outputs:\n    dev: {type: trino, method: jwt, host: "+host+
			", port: 443, database: lake, schema: dev, user: ann, threads: 1}\n")
	}
	profile("trino.acme.example")
	d.signIn()
	profile("trino.evil.example")
	d.says(3, "", `oidc-dbt: policy "$WORKSPACE/.github/oidc-dbt.yml" was approved before target "dev" went to host "trino.evil.example:443"
hint: read it, then run `+"`oidc-dbt approve`"+`. By this policy
  identity engineers: signs you in at $IDP as client "dbt-cli"
  target dev sends tokens to trino.evil.example:443 (oidc)
`, "exec", "--target", "dev", "--", "true")
}

// TestTwentyAtOnce: twenty processes of one person, whose ID token has to be
// refreshed, refresh once, and the login survives.
func TestTwentyAtOnce(t *testing.T) {
	t.Parallel()
	d := sit(t)
	d.back.Store(int64(40 * time.Minute))
	d.signIn()
	d.back.Store(0)
	var all sync.WaitGroup
	for range 20 {
		p := d.process("exec", "--target", "dev", "--", "true")
		all.Go(func() {
			if err := p.Run(); err != nil {
				t.Errorf("%v\n%s", err, p.said)
			}
		})
	}
	all.Wait()
	if n := d.idp.Refreshes(); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	if r := d.here("whoami"); r.status != 0 {
		t.Errorf("whoami: status %d\n%s", r.status, r.stderr)
	}
}

const (
	portalURL   = "https://acme.awsapps.com/start"
	awsIdentity = `sso: {kind: people, issuer: $SIGNER, audience: oidc-dbt, flow: device, aws_sso: ` +
		`{start_url: "https://acme.awsapps.com/start", region: eu-central-1, account: "123456789012", role: Analyst, endpoint: $PORTAL}}`
	analystRole = "arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/eu-central-1/AWSReservedSSO_Analyst_0123456789abcdef"
)

// sitAtAWS is a person who signs in at IAM Identity Center.
func sitAtAWS(t *testing.T) (*desk, *standin.SSO) {
	t.Helper()
	d := sit(t)
	d.env["HOME"] = d.at("temp/home")
	own, err := standin.StartSTS(standin.STSConfig{})
	d.started("$OWN_STS", own, err)
	sso, err := standin.StartSSO(own, standin.SSOConfig{
		StartURL: portalURL, Region: "eu-central-1", Assigned: map[string]string{"123456789012/Analyst": analystRole},
		User: "ann@acme.example", UserID: "93a4b822", Interval: 1, Approves: true,
	})
	d.started("$PORTAL", sso, err)
	d.addresses["$SIGNER"] = sso.Issuer()
	d.startSTS(standin.STSConfig{IssuerURL: sso.Issuer(), Roles: map[string]standin.Role{prodRole: {Audience: "oidc-dbt", Claims: map[string][]string{"sub": {analystRole}}}}})
	d.write(policyFile, `version: 1
identities:
  `+awsIdentity+`
targets:
  dev:
    dbt: {type: duckdb, path: ":memory:", schema: dev}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1, endpoint: $STS, audience: oidc-dbt}
    allow:
      - {identity: sso, "https://sts.amazonaws.com/>identity_store_user_id": 93a4b822}
  prod:
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt-prod", region: eu-central-1, endpoint: $STS, audience: oidc-dbt}
    allow:
      - {identity: sso, "https://sts.amazonaws.com/>identity_store_user_id": someone-else}
`)
	return d, sso
}

// TestPersonAtAWS: as TestPerson, by IAM Identity Center. No variable of AWS's
// tools chooses anything.
func TestPersonAtAWS(t *testing.T) {
	t.Parallel()
	d, sso := sitAtAWS(t)
	for name, v := range map[string]string{"AWS_PROFILE": "evil", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "$EVIL",
		"AWS_CONFIG_FILE": "/etc/hostname", "AWS_ACCESS_KEY_ID": "AKIAEVIL"} {
		d.env[name] = d.expand(v)
	}
	const shown = `identities
  sso: signs you in at https://acme.awsapps.com/start (LOOPBACK) for the role Analyst of account 123456789012
tokens go to
  dev: LOOPBACK (aws)
  prod: LOOPBACK (aws)
`
	d.says(0, "policy $WORKSPACE/.github/oidc-dbt.yml\n  SHA-256 SHA256\n"+shown, "oidc-dbt: approved\n", "approve", "--yes")
	const away = "oidc-dbt: request role credentials: not signed in as identity \"sso\" (https://acme.awsapps.com/start)\n" +
		"hint: sign in: oidc-dbt login sso\n"
	d.says(3, "", away, "whoami")
	d.says(2, "", "oidc-dbt: flag --token-store: the login of identity \"sso\" is kept in the AWS CLI's cache, ~/.aws/sso/cache, "+
		"which AWS's tools share\n", "login", "--token-store", "file")
	if r := d.here("login"); r.status != 0 || !strings.HasSuffix(r.stderr,
		"oidc-dbt: signed in as "+analystRole+" (identity sso); the login is kept in the AWS CLI's cache\n") {
		t.Errorf("login: status %d\n%s", r.status, r.stderr)
	}
	d.says(0, analystRole+` (identity sso of $SIGNER)
  user id: 93a4b822
  ID token until: TIME, then it is refreshed
targets
  dev: allowed by rule 1
  prod: denied: rule 1 does not match (https://sts.amazonaws.com/>identity_store_user_id)
`, "", "whoami")
	checkWhoami(t, d.here("whoami", "--json").stdout)
	r := d.here("exec", "--target", "dev", "--", "true")
	if r.status != 0 || !strings.Contains(r.stderr, "allowed: target dev by rule 1") {
		t.Errorf("exec: status %d\n%s", r.status, r.stderr)
	}
	if r := d.here("exec", "--target", "prod", "--", "true"); r.status != 5 {
		t.Errorf("prod: status %d, want 5\n%s", r.status, r.stderr)
	}
	for _, secret := range append(sso.Issued(), sso.Secrets()...) {
		if strings.Contains(r.stdout+r.stderr, secret) {
			t.Error("exec prints a secret")
		}
	}
	d.says(0, "", "oidc-dbt: signed out of identity sso: the login is revoked and removed\n", "logout")
	d.says(3, "", away, "exec", "--target", "dev", "--", "true")
	if n := d.hits.Load(); n != 0 {
		t.Errorf("%d requests to the server of AWS_ENDPOINT_URL, want none", n)
	}
}

// TestPersonAtGoogle: the client's secret is not in what the commands print.
func TestPersonAtGoogle(t *testing.T) {
	t.Parallel()
	d := sit(t)
	var err error
	d.idp, err = standin.StartPeople(standin.PeopleConfig{
		ClientID: cliClient, Google: "GOCSPX-0123456789", Interval: 1, Approves: true,
		Claims: map[string]any{"sub": "1101", "hd": "acme.example", "email": "ann@acme.example"},
	})
	d.started("$IDP", d.idp, err)
	d.startSTS(standin.STSConfig{IssuerURL: d.idp.URL(), Roles: map[string]standin.Role{prodRole: {Audience: cliClient}}})
	d.write(policyFile, `version: 1
identities:
  engineers: {issuer: $IDP, kind: people, client_id: dbt-cli, client_secret: GOCSPX-0123456789, flow: device}
targets:
  dev:
    dbt: {type: duckdb, path: ":memory:", schema: dev}
    exchange:
      `+awsExchange+`
    allow:
      - {identity: engineers, hd: acme.example, sub: "1101"}
`)
	d.says(0, `policy $WORKSPACE/.github/oidc-dbt.yml
  SHA-256 SHA256
identities
  engineers: signs you in at $IDP as client "dbt-cli"
tokens go to
  dev: LOOPBACK (aws)
`, "oidc-dbt: approved\n", "approve", "--yes")
	for _, args := range [][]string{{"login", "--token-store", "file"}, {"whoami"}, {"exec", "--target", "dev", "--", "true"}, {"logout"}} {
		if r := d.here(args...); r.status != 0 || strings.Contains(r.stdout+r.stderr, "GOCSPX") {
			t.Errorf("%q: status %d\n%s", args, r.status, r.stderr)
		}
	}
}

// TestKeysOfThePolicy: a sign-in verifies with the keys that the policy has, as every run does.
func TestKeysOfThePolicy(t *testing.T) {
	t.Parallel()
	other, err := standin.StartPeople(standin.PeopleConfig{ClientID: cliClient})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	for _, own := range []bool{true, false} {
		for _, key := range []string{"jwks_uri", "jwks_file", "jwks"} {
			t.Run(fmt.Sprint(key, own), func(t *testing.T) {
				t.Parallel()
				d := sit(t)
				address := other.URL() + "/keys"
				if own {
					address = d.idp.URL() + "/keys"
				}
				resp, err := http.Get(address)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				set, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				value := map[string]string{"jwks_uri": address, "jwks_file": d.at("temp/keys.json"), "jwks": "'" + strings.TrimSpace(string(set)) + "'"}[key]
				d.write("temp/keys.json", string(set))
				d.policyOf(strings.Replace(peopleIdentity, "kind: people", "kind: people, "+key+": "+value, 1), awsExchange)
				if r := d.here("approve", "--yes"); r.status != 0 {
					t.Fatalf("approve: status %d\n%s", r.status, r.stderr)
				}
				want := map[bool]int{true: 0, false: 4}[own]
				if r := d.here("login", "--token-store", "file"); r.status != want || !own && !strings.Contains(r.stderr, "verify ID token: ") {
					t.Errorf("login: status %d, want %d\n%s", r.status, want, r.stderr)
				}
			})
		}
	}
}

// checkExplainsLogin: explain shows what the policy decides of the login that
// is there, once the policy is approved.
func checkExplainsLogin(d *desk) {
	d.t.Helper()
	for _, args := range [][]string{{"explain", "--target", "dev"}, {"explain", "--target", "dev", "--as", "engineers"}} {
		r := d.here(args...)
		if r.status != 0 || !strings.HasPrefix(r.stdout, "claims of 00u1ann\nverified: ") || !strings.Contains(r.stdout, "\n✓ dev: allowed by rule 1 ") {
			d.t.Errorf("%q: status %d: %s%s", args, r.status, r.stdout, r.stderr)
		}
	}
	d.says(2, "", "oidc-dbt: flags --repository and --as: the claims are either given or those of a token that is requested\n",
		"explain", "--repository", "acme/analytics", "--as", "engineers")
	d.says(2, "", "oidc-dbt: flag --as is \"a\", and --token-source is for identity \"b\"\n", "explain", "--as", "a", "--token-source", "b=env:C")
}

// TestExplainSignsNobodyIn: without a login nothing is asked for, and by a
// policy that is not approved nothing is refreshed.
func TestExplainSignsNobodyIn(t *testing.T) {
	t.Parallel()
	d := sit(t)
	d.says(2, "", "oidc-dbt: no claims given, and this is no job that has an ID token\nhint: give a file with --claims, "+
		"or facts about a job: oidc-dbt explain --repository acme/analytics --ref refs/heads/main\n", "explain")
	d.says(3, "", unapproved, "explain", "--as", "engineers")
	d.signIn()
	issued := len(d.idp.Issued())
	d.policyOf(peopleIdentity, strings.Replace(awsExchange, "$STS", "$EVIL", 1))
	d.says(3, "", changed+notApproved, "explain", "--target", "dev")
	if now := len(d.idp.Issued()); now != issued || d.hits.Load() != 0 {
		t.Errorf("%d tokens were issued meanwhile, and another host was asked %d times", now-issued, d.hits.Load())
	}
}

// TestLoginInAJob: no person is waited for in a job, also by a policy that is approved.
func TestLoginInAJob(t *testing.T) {
	t.Parallel()
	const hint = "hint: let a rule name an identity of the job's own kind; at a terminal, remove the variables of the CI system\n"
	for _, tt := range []struct{ name, variable, job string }{
		{"GitLab", "GITLAB_CI", `of kind "gitlab"`}, {"another system", "CI", "of a CI system, by the variable CI"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sit(t)
			if r := d.here("approve", "--yes"); r.status != 0 {
				t.Fatalf("approve: status %d\n%s", r.status, r.stderr)
			}
			d.env[tt.variable] = "true"
			refused := `oidc-dbt: sign in as identity "engineers": this is a job ` + tt.job + ", and people sign in at a terminal\n" + hint
			d.says(3, "", refused, "login", "--token-store", "file")
		})
	}
}
