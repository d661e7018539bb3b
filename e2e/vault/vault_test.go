//go:build e2e

// Package vault uses a real OpenBao for what needs no database: a static secret, in a namespace, over TLS with an
// authority of its own.
package vault

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

const audience = "https://bao.acme.example"

// start starts OpenBao with a KV engine of version 2 in the namespace team, and
// the role dbt that may read one secret of it. It returns a front with TLS and
// the PEM of its authority.
func start(t *testing.T, issuer *standin.Issuer) (address, ca string) {
	t.Helper()
	bao := setup.OpenBao(t)
	bao.Write(t, "sys/namespaces/team", map[string]any{})
	bao.Write(t, "team/sys/mounts/kv", map[string]any{"type": "kv", "options": map[string]string{"version": "2"}})
	bao.Write(t, "team/kv/data/dbt", map[string]any{"data": map[string]string{"username": "dbt", "password": "hunter2-static"}})
	bao.Write(t, "team/sys/policies/acl/dbt", map[string]any{"policy": `path "kv/data/dbt" { capabilities = ["read"] }`})
	bao.Write(t, "team/sys/auth/github", map[string]any{"type": "jwt"})
	bao.Write(t, "team/auth/github/config", map[string]any{"oidc_discovery_url": issuer.URL(), "bound_issuer": issuer.URL()})
	bao.Write(t, "team/auth/github/role/dbt", map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{audience}, "bound_claims": map[string]string{"environment": "production"}, "token_policies": []string{"dbt"},
	})
	to, err := url.Parse(bao.URL)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	t.Cleanup(front.Close)
	return front.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}))
}

// step runs the action with a policy. Its log and summary must not contain the secret.
func step(t *testing.T, root string, args []string, env map[string]string, policy string) (s *standin.Step, log string) {
	t.Helper()
	s, err := standin.RunStep(t.Context(), standin.StepConfig{
		Binary: setup.Binary(t), Args: args, Root: root, Workspace: t.TempDir(), Inputs: map[string]string{"target": "prod", "policy": policy}, Env: env,
	})
	if err != nil {
		t.Fatal(err)
	}
	if log, _, err = s.Log(); err != nil {
		t.Error(err)
	}
	if strings.Contains(log+s.Summary, "hunter2") {
		t.Errorf("the secret is in the log or the summary:\n%s\n%s", log, s.Summary)
	}
	return s, log
}

func TestStaticSecret(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	address, ca := start(t, issuer)
	policy := func(keys string) string {
		return fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github}\ntargets:\n  prod:\n    exchange:\n      vault: {address: %q, namespace: team, auth_path: github, role: dbt, audience: %q, secret: kv/data/dbt%s}\n    allow:\n      - %s\n",
			issuer.URL(), address, audience, keys, setup.Rule)
	}
	root := fmt.Sprintf(", ca_cert: %q", ca)
	for _, tt := range []struct {
		name, keys string
		status     int
		log        string
	}{
		{"good", root + ", static: true", 0, "the secret of target \"prod\" has no lease (`static: true`): it is not specific to this run, and stays valid after it"},
		{"not accepted", root, 6, `read "kv/data/dbt": the secret has no lease and outlives the run`},
		{"another root", ", static: true", 7, "certificate signed by unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, log := step(t, dir, nil, issuer.RunnerEnv(), policy(tt.keys))
			if s.Status != tt.status || !strings.Contains(log, tt.log) {
				t.Fatalf("the step ended with status %d, want %d:\n%s", s.Status, tt.status, log)
			}
			if tt.status != 0 {
				return
			}
			if o := s.Outputs; o["user"] != "dbt" || o["password"] != "hunter2-static" || o["expires-at"] != "9999-12-31T23:59:59Z" {
				t.Errorf("user %q, expires at %s", o["user"], o["expires-at"])
			}
			post, log := step(t, dir, []string{"post"}, map[string]string{"STATE_folder": s.State["folder"]}, policy(tt.keys))
			if post.Status != 0 || log != "" {
				t.Errorf("post ended with status %d:\n%s", post.Status, log)
			}
		})
	}
}

// TestClientCertificate: OpenBao's listener requires client certificates, and
// gets one for the exchange and for the revocation of the token.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	ca, server := setup.Certificate(t)
	clientCA, cert, key := setup.ClientCertificate(t)
	_, otherCert, otherKey := setup.ClientCertificate(t)
	listener := fmt.Sprintf("127.0.0.1:%d", setup.Port(t))
	bao := setup.OpenBao(t, setup.Write(t, t.TempDir(), "listener.hcl", fmt.Sprintf(`listener "tcp" {
  address = %q
  tls_cert_file = %q
  tls_key_file = %[2]q
  tls_client_ca_file = %[3]q
  tls_require_and_verify_client_cert = true
}
`, listener, server, clientCA)))
	address, exchange := "https://"+listener, bao.Static(t, issuer, map[string]any{"username": "dbt", "password": "hunter2-static"})
	authority, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	policy := func(keys string) string {
		with := strings.TrimSuffix(strings.Replace(exchange, bao.URL, address, 1), "}}") + fmt.Sprintf(", ca_cert: %q%s}}", authority, keys)
		return fmt.Sprintf("version: 1\nidentities:\n  github: {issuer: %q, kind: github}\ntargets:\n  prod:\n    exchange: %s\n    allow:\n      - %s\n", issuer.URL(), with, setup.Rule)
	}
	for _, tt := range []struct {
		name, keys string
		log        []string
	}{
		{"none", "", []string{"the server refused the TLS connection: tls: certificate required", "set client_cert_file and client_key_file"}},
		{"one of another authority", fmt.Sprintf(", client_cert_file: %q, client_key_file: %q", otherCert, otherKey),
			[]string{"the server refused the TLS connection: tls: ", "the server must accept the certificate in client_cert_file"}},
	} {
		s, log := step(t, t.TempDir(), nil, issuer.RunnerEnv(), policy(tt.keys))
		for _, want := range tt.log {
			if s.Status != 7 || !strings.Contains(log, want) {
				t.Errorf("%s: the step ended with status %d, want 7 and %q:\n%s", tt.name, s.Status, want, log)
			}
		}
	}

	before, dir, good := logins(t, bao), t.TempDir(), policy(fmt.Sprintf(", client_cert_file: %q, client_key_file: %q", cert, key))
	s, log := step(t, dir, nil, issuer.RunnerEnv(), good)
	if s.Status != 0 || s.Outputs["user"] != "dbt" || s.Outputs["password"] != "hunter2-static" || logins(t, bao) != before+1 {
		t.Fatalf("the step ended with status %d and user %q, want the secret and one token more than %d, there are %d:\n%s", s.Status, s.Outputs["user"], before, logins(t, bao), log)
	}
	post, log := step(t, dir, []string{"post"}, map[string]string{"STATE_folder": s.State["folder"]}, good)
	if post.Status != 0 || log != "" || logins(t, bao) != before {
		t.Errorf("post ended with status %d, and there are %d tokens, want %d:\n%s", post.Status, logins(t, bao), before, log)
	}
}
