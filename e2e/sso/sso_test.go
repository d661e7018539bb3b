//go:build e2e

// Package sso has AWS's own client use the session of a sign-in by the command, and the command that of AWS's client.
package sso

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

const (
	startURL = "https://acme.awsapps.com/start"
	role     = "arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/eu-central-1/AWSReservedSSO_Analyst_0123456789abcdef"
	session  = "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Analyst_0123456789abcdef/ann@acme.example"
)

// config has a profile of each form that the AWS CLI's configuration may have.
const config = `[profile named]
sso_session = acme
sso_account_id = 123456789012
sso_role_name = Analyst
region = eu-central-1

[profile legacy]
sso_start_url = ` + startURL + `
sso_region = eu-central-1
sso_account_id = 123456789012
sso_role_name = Analyst
region = eu-central-1

[sso-session acme]
sso_start_url = ` + startURL + `
sso_region = eu-central-1
`

// client prints whose credentials botocore gets by a profile.
const client = `import botocore.session, sys
s = botocore.session.Session(profile=sys.argv[1])
print(s.create_client("sts").get_caller_identity()["Arn"])`

// A desk is a person's machine.
type desk struct {
	t         *testing.T
	sso       *standin.SSO
	workspace string
	home      string
	env       []string
}

// dbtRole is a target by a role that trusts the ID token.
const dbtRole = `    dbt: {type: duckdb, path: ":memory:", schema: dev}
    exchange:
      aws: {role: "arn:aws:iam::123456789012:role/dbt", region: eu-central-1, audience: oidc-dbt, endpoint: $SSO}
`

func sit(t *testing.T, named string, life time.Duration) *desk {
	t.Helper()
	return sitWith(t, named, standin.SSOConfig{Life: life}, func(*standin.STS) string { return dbtRole })
}

// sitWith gives the policy a target, and IAM Identity Center the person.
func sitWith(t *testing.T, named string, center standin.SSOConfig, target func(sts *standin.STS) string) *desk {
	t.Helper()
	sts, err := standin.StartSTS(standin.STSConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	center.StartURL, center.Region, center.Assigned = startURL, "eu-central-1", map[string]string{"123456789012/Analyst": role}
	center.User, center.UserID, center.Interval, center.Approves = "ann@acme.example", "93a4b822", 1, true
	sso, err := standin.StartSSO(sts, center)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sso.Close)
	d := &desk{t: t, sso: sso, workspace: t.TempDir(), home: t.TempDir()}
	setup.Write(t, d.home, ".aws/config", config)
	setup.Write(t, d.workspace, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\n")
	setup.Write(t, d.workspace, ".github/oidc-dbt.yml", `version: 1
identities:
  sso:
    kind: people
    issuer: `+sso.Issuer()+`
    audience: oidc-dbt
    flow: device
    aws_sso: {start_url: "`+startURL+`", region: eu-central-1, account: "123456789012", role: Analyst, endpoint: "`+sso.URL()+`"`+named+`}
targets:
  dev:
`+strings.ReplaceAll(target(sts), "$SSO", sso.URL())+`    allow:
      - {identity: sso, "https://sts.amazonaws.com/>identity_store_user_id": 93a4b822}
`)
	d.env = append(setup.AtTerminal(os.Environ()), "HOME="+d.home, "XDG_STATE_HOME="+t.TempDir(), "NO_COLOR=1",
		"AWS_ENDPOINT_URL_SSO="+sso.URL(), "AWS_ENDPOINT_URL_SSO_OIDC="+sso.URL(), "AWS_ENDPOINT_URL_STS="+sso.URL(),
		"AWS_CONFIG_FILE="+filepath.Join(d.home, ".aws", "config"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(d.home, "none"))
	return d
}

func (d *desk) run(want string, name string, args ...string) {
	d.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = d.workspace, d.env
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		d.t.Errorf("%q: %v, want %q in\n%s", args, err, want, out)
	}
}

func (d *desk) command(want string, args ...string) {
	d.t.Helper()
	d.run(want, setup.Binary(d.t), args...)
}

func (d *desk) botocore(profile string) {
	d.t.Helper()
	d.run(session, setup.Python(d.t).Program("python"), "-c", client, profile)
}

// TestBotocore: botocore takes a session that `login` has written, by a start
// URL and by a session's name; of sessions that must be refreshed each takes
// those that the other has refreshed, though each refresh token counts once.
func TestBotocore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, named, profile string
		life                 time.Duration
		refreshes            int
	}{
		{"by start URL", "", "legacy", time.Hour, 0},
		{"by name", ", session: acme", "named", time.Hour, 0},
		{"by name, refreshed", ", session: acme", "named", 10 * time.Minute, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := sit(t, tt.named, tt.life)
			d.command("approved", "approve", "--yes")
			d.command("the login is kept in the AWS CLI's cache", "login")
			d.botocore(tt.profile)
			d.command("user id: 93a4b822", "whoami")
			d.botocore(tt.profile)
			d.command("user id: 93a4b822", "whoami")
			d.botocore(tt.profile)
			if n := d.sso.Refreshes(); n != tt.refreshes {
				t.Errorf("%d refreshes, want %d", n, tt.refreshes)
			}
			if tt.refreshes == 0 {
				d.command("signed out", "logout")
			}
		})
	}
}
