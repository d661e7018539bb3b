//go:build e2e && wide

// Package keycloak sets up a real Keycloak by running what `oidc-dbt trust` prints, and logs in to it.
package keycloak

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

const (
	allowed = setup.Rule
	anyone  = `{repository: acme/analytics, repository_id: "487920697", ref: "refs/heads/**"}`
)

// A realm is a Keycloak, the issuer that it is told to trust, and who administers it.
type realm struct {
	setup.Realm
	issuer *standin.Issuer
	env    []string
}

func start(t *testing.T) *realm {
	t.Helper()
	url, env := setup.EmptyKeycloak(t)
	return &realm{Realm: url, issuer: setup.Issuer(t), env: env}
}

// policy admits the tokens of a rule to the target prod; more are keys of the exchange.
func (r *realm) policy(rule, more string) string {
	return fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github}\ntargets:\n  prod:\n    exchange:\n"+
		"      token_exchange: {token_url: %q, audience: %q, grant: client_assertion, target_audience: trino%s}\n    allow:\n      - %s\n",
		r.issuer.URL(), r.TokenURL, r.URL, more, rule)
}

// trust runs a command of `oidc-dbt trust` and returns what it prints.
func (r *realm) trust(t *testing.T, policy string, args ...string) (out string, status int) {
	t.Helper()
	cmd := exec.Command(setup.Binary(t), append([]string{"trust"}, args...)...)
	cmd.Args = append(cmd.Args[:3:3], append([]string{"--target", "prod", "--policy", policy}, cmd.Args[3:]...)...)
	cmd.Dir, cmd.Env = t.TempDir(), r.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil || stderr.Len() > 0 {
		t.Fatalf("trust %q: %v\n%s", args, err, &stderr)
	}
	return stdout.String(), cmd.ProcessState.ExitCode()
}

// run runs a script as the administrator, in a folder.
func (r *realm) run(t *testing.T, script, dir string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	path := filepath.Join(t.TempDir(), "script.sh")
	setup.Write(t, filepath.Dir(path), "script.sh", script)
	cmd := exec.CommandContext(ctx, "bash", append([]string{path}, args...)...)
	cmd.Dir, cmd.Env = dir, r.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\nof the script:\n%s", err, out, script)
	}
}

// token runs the action, and returns the access token and the step's log.
func (r *realm) token(t *testing.T, policy string, claims map[string]any) (access jwt.MapClaims, status int, log string) {
	t.Helper()
	all := standin.GitHubClaims()
	for name, value := range claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	r.issuer.SetClaims(all)
	step, err := standin.RunStep(t.Context(), standin.StepConfig{
		Binary: setup.Binary(t), Root: t.TempDir(), Workspace: t.TempDir(),
		Inputs: map[string]string{"target": "prod", "policy": policy}, Env: r.issuer.RunnerEnv(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if log, _, err = step.Log(); err != nil {
		t.Error(err)
	}
	setup.NoSecrets(t, r.issuer, "the log and the summary", log+step.Summary)
	access = jwt.MapClaims{}
	if token := step.Outputs["token"]; token != "" {
		if _, _, err := jwt.NewParser().ParseUnverified(token, access); err != nil {
			t.Error(err)
		}
	}
	return access, step.Status, log
}

var (
	staging = map[string]any{"environment": "staging", "sub": "repo:acme/analytics:environment:staging"}
	renamed = map[string]any{"sub": "repo:acme@9919/analytics@487920697:environment:production"}
)

// TestNative sets up the realm by the commands that are generated.
func TestNative(t *testing.T) {
	t.Parallel()
	r := start(t)
	for _, tt := range setup.Few(1, []struct {
		name, keys, client string
		flags              []string
		refused            map[string]any
	}{
		{"one client", ", client_id: dbt-prod", "dbt-prod", nil, renamed},
		{"a client for each subject", "", "oidc-dbt-prod-acme-analytics-environment-production-", []string{"--owner-id", "acme=9919"}, nil},
	}...) {
		t.Run(tt.name, func(t *testing.T) {
			own, wide := r.policy(allowed, tt.keys), r.policy(anyone, tt.keys)
			if _, status, log := r.token(t, own, nil); status != 6 {
				t.Fatalf("before: status %d, want 6:\n%s", status, log)
			}
			script, status := r.trust(t, own, append([]string{"generate", "--format", "native"}, tt.flags...)...)
			script, _, _ = strings.Cut(script, "# GitHub's side")
			if status != 0 || !strings.Contains(script, "kcadm.sh create clients") {
				t.Fatalf("status %d:\n%s", status, script)
			}
			r.run(t, script, t.TempDir())
			r.run(t, script, t.TempDir()) // what is there is left as it is
			defer r.run(t, r.remove(), t.TempDir())

			access, status, log := r.token(t, own, nil)
			if client, _ := access["azp"].(string); status != 0 || access["aud"] != "trino" || !strings.HasPrefix(client, tt.client) {
				t.Fatalf("production: status %d and %v, want a token for Trino, of client %s:\n%s", status, access, tt.client, log)
			}
			access, status, log = r.token(t, own, renamed)
			if want := map[bool]int{true: 6, false: 0}[tt.refused != nil]; status != want {
				t.Errorf("production with ids in the subject: status %d and %v, want %d:\n%s", status, access, want, log)
			}
			if _, status, log := r.token(t, own, staging); status != 5 {
				t.Errorf("staging, by the policy: status %d, want 5:\n%s", status, log)
			}
			if _, status, log := r.token(t, wide, staging); status != 6 || !strings.Contains(log, "Invalid client or Invalid client credentials") {
				t.Errorf("staging, by Keycloak: status %d, want 6 and the server's words:\n%s", status, log)
			}
			r.check(t, own, tt.flags)
			r.revoke(t, own, tt.flags)
		})
	}
}

// remove deletes what the test made.
func (r *realm) remove() string {
	return `set -euo pipefail
for id in $(kcadm.sh get clients -r acme --fields id,clientAuthenticatorType --format csv --noquotes | sed -n 's/,federated-jwt$//p'); do
  kcadm.sh delete "clients/$id" -r acme
done
kcadm.sh delete identity-provider/instances/github -r acme
`
}

// check compares what the server prints with the policy, before and after a change of the server.
func (r *realm) check(t *testing.T, policy string, flags []string) {
	t.Helper()
	compare := func() (string, int) {
		dir := t.TempDir()
		r.run(t, "kcadm.sh get clients -r acme >clients.json && kcadm.sh get identity-provider/instances -r acme >providers.json\n", dir)
		return r.trust(t, policy, append(append([]string{"check"}, flags...), filepath.Join(dir, "clients.json"), filepath.Join(dir, "providers.json"))...)
	}
	if out, status := compare(); status != 0 {
		t.Errorf("check of what was generated: status %d, want 0:\n%s", status, out)
	}
	change := func(from, to string) {
		r.run(t, `set -euo pipefail
for id in $(kcadm.sh get clients -r acme --fields id,clientAuthenticatorType --format csv --noquotes | sed -n 's/,federated-jwt$//p'); do
  if kcadm.sh get "clients/$id" -r acme | grep -qF '"jwt.credential.sub" : "`+from+`"'; then
    kcadm.sh update "clients/$id" -r acme -s 'attributes."jwt.credential.sub"=`+to+`'
  fi
done
`, t.TempDir())
	}
	const other = "repo:acme/analytics:ref:refs/heads/main"
	change(setup.Subject, other)
	defer change(other, setup.Subject)
	if out, status := compare(); status != 8 || !strings.Contains(out, "wider") || !strings.Contains(out, other) {
		t.Errorf("check of a client with another subject: status %d, want 8:\n%s", status, out)
	}
}

// revoke stops production's logins, and lets it in again.
func (r *realm) revoke(t *testing.T, policy string, flags []string) {
	t.Helper()
	script, status := r.trust(t, policy, append([]string{"revoke"}, flags...)...)
	if status != 0 {
		t.Fatalf("revoke: status %d:\n%s", status, script)
	}
	r.run(t, script, t.TempDir())
	if _, status, log := r.token(t, policy, nil); status != 6 {
		t.Errorf("production after the revocation: status %d, want 6:\n%s", status, log)
	}
	r.run(t, script, t.TempDir(), "undo")
	if _, status, log := r.token(t, policy, nil); status != 0 {
		t.Errorf("production after the undo: status %d, want 0:\n%s", status, log)
	}
}
