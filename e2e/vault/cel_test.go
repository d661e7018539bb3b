//go:build e2e

package vault

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// celAudience is that of the role in the documentation.
const celAudience = "https://vault.acme.example"

// The page has one role in the script that sets up the server, and one as a file.
var (
	roleInScript = regexp.MustCompile(`(?s)write auth/jwt/role/dbt-prod - <<'END'\n(.*?)\nEND\n`)
	roleAsFile   = regexp.MustCompile("(?s)`trust/prod.vault.json`:\n\n```json\n(.*?)```\n.*bao write auth/jwt/cel/role/dbt-prod @trust/prod.vault.json\n")
)

// admit is a program that returns what admits every token with a subject.
func admit(auth string) map[string]any {
	return map[string]any{
		"bound_audiences": []string{celAudience}, "cel_program": map[string]any{"expression": "has(claims.sub) ? (" + auth + ") : false"},
	}
}

// startCEL starts OpenBao with both roles dbt-prod of the documentation, which may read a secret.
func startCEL(t *testing.T, issuer *standin.Issuer) *setup.OpenBaoServer {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(setup.Repository(t), "docs", "vault.md"))
	if err != nil {
		t.Fatal(err)
	}
	bao := setup.OpenBao(t)
	bao.TrustIssuer(t, issuer)
	for path, role := range map[string]*regexp.Regexp{"auth/jwt/role/dbt-prod": roleInScript, "auth/jwt/cel/role/dbt-prod": roleAsFile} {
		found := role.FindAllSubmatch(page, -1)
		if len(found) != 1 {
			t.Fatalf("docs/vault.md has %d roles like %s, want one", len(found), role)
		}
		bao.Write(t, path, json.RawMessage(found[0][1]))
	}
	bao.Write(t, "secret/data/dbt", map[string]any{"data": map[string]string{"username": "dbt", "password": "hunter2-static"}})
	bao.Write(t, "sys/policies/acl/dbt-prod", map[string]any{"policy": `path "secret/data/dbt" { capabilities = ["read"] }`})
	return bao
}

// celStep runs the action for a token with changed claims, by a policy that admits every token here.
func celStep(t *testing.T, bao *setup.OpenBaoServer, issuer *standin.Issuer, root, keys string, changes map[string]any) (*standin.Step, string) {
	t.Helper()
	claims := standin.GitHubClaims()
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	issuer.SetClaims(claims)
	env := issuer.RunnerEnv()
	env["GITHUB_EVENT_NAME"] = claims["event_name"].(string)
	return step(t, root, nil, env, fmt.Sprintf(`version: 1
identities:
  github: {issuer: %q, kind: github}
targets:
  prod:
    exchange:
      vault: {address: %q, %s, audience: %q, secret: secret/data/dbt, static: true}
    allow:
      - {repository: acme/analytics, repository_id: "487920697", ref: ["refs/heads/**", "refs/pull/*/merge"], event_name: [push, pull_request, workflow_dispatch]}
`, issuer.URL(), bao.URL, keys, celAudience))
}

// logins returns how many tokens the server knows.
func logins(t *testing.T, bao *setup.OpenBaoServer) int {
	t.Helper()
	reply, err := bao.Request(t.Context(), bao.Token, "LIST", "auth/token/accessors", nil)
	if err != nil {
		t.Fatal(err)
	}
	var data struct{ Keys []string }
	if err := json.Unmarshal(reply.Data, &data); err != nil {
		t.Fatal(err)
	}
	return len(data.Keys)
}

// backfill is a token of the documentation's second rule.
var backfill = map[string]any{"environment": "backfill", "event_name": "workflow_dispatch", "sub": "repo:acme/analytics:environment:backfill"}

// TestCELRole: a token of each rule gets the secret, and its login ends with the job.
func TestCELRole(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	bao := startCEL(t, issuer)
	before := logins(t, bao)
	for name, claims := range map[string]map[string]any{"the first rule": nil, "the second rule": backfill} {
		root := t.TempDir()
		s, log := celStep(t, bao, issuer, root, "auth: cel, role: dbt-prod", claims)
		if s.Status != 0 || s.Outputs["user"] != "dbt" || s.Outputs["password"] != "hunter2-static" || logins(t, bao) != before+1 {
			t.Fatalf("%s: the step ended with status %d and user %q, want the secret and one login more than %d, there are %d:\n%s",
				name, s.Status, s.Outputs["user"], before, logins(t, bao), log)
		}
		post, log := step(t, root, []string{"post"}, map[string]string{"STATE_folder": s.State["folder"]}, "")
		if post.Status != 0 || log != "" || logins(t, bao) != before {
			t.Errorf("%s: post ended with status %d, and there are %d logins, want %d:\n%s", name, post.Status, logins(t, bao), before, log)
		}
	}
}

// TestCELRefuses: the server refuses what the policy admits, and the log has its words and what to do.
func TestCELRefuses(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	bao := startCEL(t, issuer)
	for name, program := range map[string]map[string]any{
		"true":      admit("true"),
		"text":      admit("'no rule admits ' + claims.sub"),
		"unguarded": admit("claims.environment == 'production' ? pb.Auth{policies: ['dbt-prod']} : false"),
		"timeless":  admit("pb.Auth{policies: ['dbt-prod'], lease_options: pb.LeaseOptions{TTL: 1200000000000}}"),
		"poor":      admit("pb.Auth{policies: ['other']}"),
		"once":      admit("pb.Auth{policies: ['dbt-prod'], num_uses: 1}"),
		"typed":     admit("claims.run_id.size() > 0 && claims.run_id + 1 == 2 ? pb.Auth{} : false"),
	} {
		bao.Write(t, "auth/jwt/cel/role/"+name, program)
	}
	bao.Write(t, "auth/jwt/role/bound", map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{celAudience}, "token_policies": []string{"dbt-prod"},
	})
	bao.Write(t, "sys/auth/approle", map[string]any{"type": "approle"})
	const (
		blocked = `refused: "error executing cel program: CEL role 'dbt-prod' blocked authorization with boolean false return"`
		admits  = "hint: the cel_program of auth/jwt/cel/role/dbt-prod does not admit subject "
		old     = "hint: `auth: cel` requires OpenBao 2.3 or later, with the JWT auth method enabled at auth/"
	)
	outside := map[string]any{"environment": nil, "sub": "repo:acme/analytics:ref:refs/heads/main"}
	for _, tt := range []struct {
		name, keys, words, hint string
		claims                  map[string]any
	}{
		{"staging", "auth: cel, role: dbt-prod", blocked, admits + `"repo:acme/analytics:environment:staging": compare it with the claims in the audit log`,
			map[string]any{"environment": "staging", "sub": "repo:acme/analytics:environment:staging"}},
		{"a pull request", "auth: cel, role: dbt-prod", blocked, admits, map[string]any{"event_name": "pull_request", "ref": "refs/pull/7/merge"}},
		{"a pull request that claims the branch", "auth: cel, role: dbt-prod", blocked, admits, map[string]any{"event_name": "pull_request"}},
		{"another branch", "auth: cel, role: dbt-prod", blocked, admits, map[string]any{"ref": "refs/heads/main2"}},
		{"two rules mixed", "auth: cel, role: dbt-prod", blocked, admits, map[string]any{"environment": "backfill", "sub": "repo:acme/analytics:environment:backfill"}},
		{"no environment", "auth: cel, role: dbt-prod", blocked, admits, outside},
		{"a text", "auth: cel, role: text", "blocked authorization with message: no rule admits repo:acme/analytics:environment:production",
			"hint: the cel_program of auth/jwt/cel/role/text does not admit subject ", nil},
		{"true", "auth: cel, role: 'true'", "CEL program 'true' returned unexpected type: types.Bool",
			"hint: the cel_program of auth/jwt/cel/role/true must return pb.Auth{policies: ['NAME']} for a token that it admits, not true", nil},
		{"a claim that is read without has", "auth: cel, role: unguarded", "no such key: environment",
			`hint: the cel_program of auth/jwt/cel/role/unguarded reads the claim "environment", which the token lacks: test it first, as in has(claims.environment) && claims.environment == 'VALUE'`, outside},
		{"a claim of another type", "auth: cel, role: typed", "no such overload", "hint: the cel_program of auth/jwt/cel/role/typed fails for subject ", nil},
		{"no issue_time", "auth: cel, role: timeless", "invalid nil Timestamp", "hint: lease_options in the cel_program of auth/jwt/cel/role/timeless requires issue_time: now", nil},
		{"a role without the policy", "auth: cel, role: poor", `read "secret/data/dbt": refused: "1 error occurred: * permission denied"`,
			"hint: a policy of auth/jwt/cel/role/poor (policies) must allow `read` on secret/data/dbt", nil},
		{"no such role", "auth: cel, role: nothing", `role \"nothing\" could not be found`, "hint: create the role auth/jwt/cel/role/nothing", nil},
		{"a role with bound claims", "auth: cel, role: bound", `role \"bound\" could not be found`, "hint: create the role auth/jwt/cel/role/bound", nil},
		{"a CEL role without `auth: cel`", "role: text", `role \"text\" could not be found`,
			"hint: create the role auth/jwt/role/text, or set `auth: cel` if it is a CEL role of OpenBao", nil},
		{"a method without CEL roles", "auth: cel, role: dbt-prod, auth_path: approle", `refused: "permission denied"`, old + "approle: ", nil},
		{"no such method", "auth: cel, role: dbt-prod, auth_path: jwt2", `refused: "permission denied"`, old + "jwt2: ", nil},
	} {
		s, log := celStep(t, bao, issuer, t.TempDir(), tt.keys, tt.claims)
		if s.Status != 6 || !strings.Contains(log, tt.words) || !strings.Contains(log, tt.hint) {
			t.Errorf("%s: the step ended with status %d, want 6, %q and %q:\n%s", tt.name, s.Status, tt.words, tt.hint, log)
		}
	}
}

// TestCELLogin bypasses the action: what a CEL role checks next to its program, and what becomes of its tokens.
func TestCELLogin(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	bao := startCEL(t, issuer)
	anyone := admit("pb.Auth{policies: ['dbt-prod']}")
	delete(anyone, "bound_audiences")
	bao.Write(t, "auth/jwt/cel/role/anyone", anyone)
	bao.Write(t, "auth/jwt/cel/role/Capitals", admit("pb.Auth{}"))
	brief := admit("pb.Auth{lease_options: pb.LeaseOptions{TTL: 60000000000, MaxTTL: 120000000000, renewable: true, issue_time: now}}")
	brief["message"] = "this is never shown"
	bao.Write(t, "auth/jwt/cel/role/brief", brief)
	bao.Write(t, "auth/jwt/cel/role/plain", admit("pb.Auth{}"))
	login := func(role, token string) (setup.BaoReply, string) {
		reply, err := bao.Request(t.Context(), "", http.MethodPost, "auth/jwt/cel/login", map[string]string{"role": role, "jwt": token})
		if err != nil {
			_, words, _ := strings.Cut(err.Error(), "400 Bad Request: ")
			return reply, words
		}
		return reply, ""
	}
	other := maps.Clone(backfill)
	other["repository_id"] = "1"
	for _, tt := range []struct{ name, role, token, err string }{
		{"good", "dbt-prod", issuer.Sign(celAudience, nil), ""},
		{"the second rule", "DBT-Prod", issuer.Sign(celAudience, backfill), ""},
		{"another repository", "dbt-prod", issuer.Sign(celAudience, other), "error executing cel program: CEL role 'dbt-prod' blocked authorization with boolean false return"},
		{"another audience", "dbt-prod", issuer.Sign("sts.amazonaws.com", nil), "error validating token: invalid audience (aud) claim: audience claim does not match any expected audience"},
		{"another key", "dbt-prod", setup.Forge(t, issuer, celAudience), "error validating token: error verifying token signature: failed to verify id token signature"},
		{"any audience, without bound_audiences", "anyone", issuer.Sign("sts.amazonaws.com", nil), ""},
		{"a role in capitals", "Capitals", issuer.Sign(celAudience, nil), `role "capitals" could not be found`},
	} {
		if _, got := login(tt.role, tt.token); got != tt.err {
			t.Errorf("%s: got %q\nwant %q", tt.name, got, tt.err)
		}
	}

	renew := func(role string, increment int) string {
		first, words := login(role, issuer.Sign(celAudience, nil))
		if words != "" {
			t.Fatal(words)
		}
		next, err := bao.Request(t.Context(), first.Auth.ClientToken, http.MethodPost, "auth/token/renew-self", map[string]int{"increment": increment})
		if err != nil {
			return fmt.Sprintf("%d s, %s", first.Auth.LeaseDuration, strings.Join(next.Errors, "; "))
		}
		return fmt.Sprintf("%d s, renewed for %d s %q", first.Auth.LeaseDuration, next.Auth.LeaseDuration, next.Warnings)
	}
	for _, tt := range []struct {
		role      string
		increment int
		want      string
	}{
		{"dbt-prod", 0, "1200 s, renewed for 1200 s []"},
		{"dbt-prod", 21600, "1200 s, renewed for 21600 s []"},
		{"brief", 21600, `60 s, renewed for 120 s ["TTL of \"6h\" exceeded the effective max_ttl of \"2m\"; TTL value is capped accordingly"]`},
		{"plain", 0, "2764800 s, lease is not renewable"},
	} {
		if got := renew(tt.role, tt.increment); got != tt.want {
			t.Errorf("%s, renewed for %d s: got %s\nwant %s", tt.role, tt.increment, got, tt.want)
		}
	}
}

// TestBoundClaims bypasses the action: the documentation's role with bound claims binds the event, and one for two rules
// admits what neither of them does.
func TestBoundClaims(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	bao := startCEL(t, issuer)
	bao.Write(t, "auth/jwt/role/two-rules", map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{celAudience},
		"bound_claims": map[string]any{"environment": []string{"production", "backfill"}, "event_name": []string{"push", "workflow_dispatch"}},
	})
	const differs = "error validating claims: claim %q does not match any associated bound claim values"
	for _, tt := range []struct {
		name, role string
		claims     map[string]any
		err        string
	}{
		{"good", "dbt-prod", nil, ""},
		{"staging", "dbt-prod", map[string]any{"environment": "staging"}, fmt.Sprintf(differs, "environment")},
		{"a pull request", "dbt-prod", map[string]any{"event_name": "pull_request"}, fmt.Sprintf(differs, "event_name")},
		{"pull_request_target", "dbt-prod", map[string]any{"event_name": "pull_request_target"}, fmt.Sprintf(differs, "event_name")},
		{"mixed", "two-rules", map[string]any{"environment": "backfill", "event_name": "push"}, ""},
	} {
		_, err := bao.Request(t.Context(), "", http.MethodPost, "auth/jwt/login", map[string]string{"role": tt.role, "jwt": issuer.Sign(celAudience, tt.claims)})
		want := "<nil>"
		if tt.err != "" {
			want = "POST auth/jwt/login: 400 Bad Request: " + tt.err
		}
		if fmt.Sprint(err) != want {
			t.Errorf("%s: got %v\nwant %s", tt.name, err, want)
		}
	}
}

// TestCELPrograms: what the server says of a program that it does not take.
func TestCELPrograms(t *testing.T) {
	t.Parallel()
	bao := setup.OpenBao(t)
	bao.Write(t, "sys/auth/jwt", map[string]any{"type": "jwt"})
	for expression, want := range map[string]string{
		"claims.environment == 'production'": "", // it is not run
		"":                                   "400 Bad Request: cel_program.expression cannot be empty",
		"claims.environment ==":              "500 Internal Server Error: 1 error occurred:\n\t* invalid CEL syntax for main expression: ERROR: <input>:1:",
		"environment == 'production'":        "500 Internal Server Error: 1 error occurred:\n\t* error type-checking CEL MainProgram: ERROR: <input>:1:1: undeclared reference to 'environment'",
		"'" + strings.Repeat("x", 99_999) + "' == claims.sub": "500 Internal Server Error: 1 error occurred:\n\t* invalid CEL syntax for main expression: ERROR: <input>:-1:0: expression code point size exceeds limit: size: 100015, limit 100000",
	} {
		_, err := bao.Request(t.Context(), bao.Token, http.MethodPost, "auth/jwt/cel/role/dbt", map[string]any{"cel_program": map[string]string{"expression": expression}})
		if want == "" && err != nil || want != "" && !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%.40q: got %v\nwant %s", expression, err, want)
		}
	}
}
