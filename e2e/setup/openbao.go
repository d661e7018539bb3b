package setup

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// An OpenBaoServer is OpenBao, which has Vault's API, on loopback: unsealed, and
// with all data in memory.
type OpenBaoServer struct {
	URL   string
	Token string // the root token
}

// OpenBao starts an empty OpenBao server. Configuration files add to its own
// configuration, for example a second listener.
func OpenBao(t testing.TB, configs ...string) *OpenBaoServer {
	t.Helper()
	python, address := Python(t), fmt.Sprintf("127.0.0.1:%d", Port(t))
	s := &OpenBaoServer{URL: "http://" + address, Token: rand.Text()}
	cmd := exec.Command(python.Program("bao"), "server", "-dev", "-dev-no-store-token", "-dev-listen-address="+address,
		"-dev-root-token-id="+s.Token)
	for _, config := range configs {
		cmd.Args = append(cmd.Args, "-config="+config)
	}
	cmd.Env = python.Environ()
	StartCommand(t, cmd, func() error {
		_, err := s.Request(t.Context(), s.Token, http.MethodGet, "sys/mounts", nil)
		return err
	})
	return s
}

// TrustIssuer accepts an issuer's tokens at auth/jwt, for the roles that the test
// writes to auth/jwt/role/….
func (s *OpenBaoServer) TrustIssuer(t testing.TB, issuer *standin.Issuer) {
	t.Helper()
	s.Write(t, "sys/auth/jwt", map[string]any{"type": "jwt"})
	s.Write(t, "auth/jwt/config", map[string]any{"oidc_discovery_url": issuer.URL(), "bound_issuer": issuer.URL()})
}

// Write writes to a path as root; it must succeed.
func (s *OpenBaoServer) Write(t testing.TB, path string, body any) {
	t.Helper()
	if _, err := s.Request(t.Context(), s.Token, http.MethodPost, path, body); err != nil {
		t.Fatal(err)
	}
}

// A BaoReply is the part of a reply that tests look at.
type BaoReply struct {
	Auth struct {
		ClientToken   string `json:"client_token"`
		LeaseDuration int    `json:"lease_duration"` // seconds
	} `json:"auth"`
	LeaseID       string          `json:"lease_id"`
	LeaseDuration int             `json:"lease_duration"` // seconds
	Data          json.RawMessage `json:"data"`
	Warnings      []string        `json:"warnings"`
	Errors        []string        `json:"errors"`
}

// Request sends a request with a token, or without one if it is "". A refusal is
// an error with the status and the server's message.
func (s *OpenBaoServer) Request(ctx context.Context, token, method, path string, body any) (reply BaoReply, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return BaoReply{}, err
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return BaoReply{}, err
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return BaoReply{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return BaoReply{}, nil
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return BaoReply{}, fmt.Errorf("%s %s: %s: %w", method, path, resp.Status, err)
	}
	if resp.StatusCode != http.StatusOK {
		return reply, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, strings.Join(reply.Errors, "; "))
	}
	return reply, nil
}

// Static puts a secret into the KV engine, which the rule of the tests' policy
// may read, and returns an exchange block for it.
func (s *OpenBaoServer) Static(t testing.TB, issuer *standin.Issuer, data map[string]any) (exchange string) {
	t.Helper()
	s.TrustIssuer(t, issuer)
	s.Write(t, "secret/data/dbt", map[string]any{"data": data})
	s.Write(t, "sys/policies/acl/dbt", map[string]any{"policy": `path "secret/data/dbt" { capabilities = ["read"] }`})
	s.Write(t, "auth/jwt/role/dbt-prod", map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault"},
		"bound_claims": map[string]any{"sub": Subject}, "token_policies": []string{"dbt"},
	})
	return fmt.Sprintf(`{vault: {address: %q, role: dbt-prod, audience: vault, secret: secret/data/dbt, static: true}}`, s.URL)
}

// LendFrom lets the rule of the tests' policy read a path of a secrets engine by tokens that live as long as its
// leases, ttl after each renewal and at most for most, and returns an exchange block for it.
func (s *OpenBaoServer) LendFrom(t testing.TB, path string, ttl, most time.Duration) (exchange string) {
	t.Helper()
	s.Write(t, "sys/policies/acl/dbt", map[string]any{"policy": fmt.Sprintf(`path %q { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }`, path)})
	s.Write(t, "auth/jwt/role/dbt", map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault"}, "bound_claims": map[string]any{"sub": Subject},
		"token_policies": []string{"dbt"}, "token_no_default_policy": true, "token_ttl": ttl.String(), "token_max_ttl": most.String(),
	})
	return fmt.Sprintf(`{vault: {address: %q, role: dbt, audience: vault, secret: %s}}`, s.URL, path)
}
