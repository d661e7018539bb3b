//go:build e2e && wide

package snowflake

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A plugin is Vault's for Snowflake: each read of a path creates a user with a
// key, who is dropped when the lease ends. All else is a server with database
// logins. (Vault: Snowflake database secrets engine)
type plugin struct {
	life  time.Duration
	grace atomic.Int64 // by which drops are delayed

	mu    sync.Mutex
	users map[string]leasedUser
}

type leasedUser struct {
	key     *rsa.PublicKey
	dropped time.Time
}

// lend replaces the login in a reply by a key pair.
func (p *plugin) lend(resp *http.Response) error {
	if !strings.HasPrefix(resp.Request.URL.Path, "/v1/database/creds/") || resp.StatusCode != http.StatusOK {
		return nil
	}
	var reply map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	user := "V_JWT_" + rand.Text()[:12]
	p.mu.Lock()
	p.users[user] = leasedUser{&key.PublicKey, time.Now().Add(p.life)}
	p.mu.Unlock()
	reply["renewable"] = false
	reply["data"] = map[string]any{"username": user, "rsa_private_key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))}
	text, err := json.Marshal(reply)
	if err != nil {
		return err
	}
	resp.Header.Del("Content-Length")
	resp.ContentLength, resp.Body = -1, io.NopCloser(bytes.NewReader(text))
	return nil
}

func (p *plugin) check(user, token string) error {
	p.mu.Lock()
	u, ok := p.users[user]
	p.mu.Unlock()
	if !ok || time.Now().After(u.dropped.Add(time.Duration(p.grace.Load()))) {
		return fmt.Errorf("user %q does not exist", user)
	}
	return checkKeyPair(u.key, user, token)
}

// sessionLife leaves the connector seconds between its request and its login:
// boto3 itself refuses a session that has expired by the time it arrives.
const sessionLife = 12 * time.Second

func TestDbtOutlivesTheAccessToken(t *testing.T) {
	t.Parallel()
	const role = "session:role:TRANSFORMER"
	issuer := setup.Issuer(t)
	server, err := standin.StartAuthServer(standin.AuthServerConfig{IssuerURL: issuer.URL(), Audience: "acme", Lifetime: tokenLife, Clients: map[string]standin.AuthClient{
		"dbt-prod": {Subject: setup.Subject, Scopes: []string{role}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	s, _, port := startSessions(t, issuer, 0, slow)
	s.bearer = func(token string) error {
		if !server.Valid(token, role) {
			return errors.New("Invalid OAuth access token.")
		}
		return nil
	}
	workspace := setup.Project(t, issuer, perNode(oauthBlock(port), 4),
		fmt.Sprintf("{token_exchange: {token_url: %q, audience: acme, grant: client_assertion, client_id: dbt-prod, scope: %q}}", server.URL()+"/token", role))
	chain(t, workspace)
	build(t, s, issuer, workspace, "Invalid OAuth access token", server.SetGrace)
}

func TestDbtOutlivesTheKeyPair(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	server, err := standin.StartVault(standin.VaultConfig{
		IssuerURL: issuer.URL(),
		Roles:     map[string]standin.VaultRole{"dbt": {BoundAudiences: []string{"vault"}, BoundClaims: map[string][]string{"sub": {setup.Subject}}, Policies: []string{"database/creds/snowflake"}}},
		Secrets:   map[string]standin.VaultSecret{"database/creds/snowflake": {TTL: tokenLife}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	p := &plugin{life: tokenLife, users: map[string]leasedUser{}}
	host, vault := setup.Serve(t, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(address) }, ModifyResponse: p.lend})

	s, _, front := startSessions(t, issuer, 0, slow)
	s.keyPair = p.check
	workspace := setup.Project(t, issuer, strings.Replace(oauthBlock(front), "threads: 4", "threads: 8", 1), // the profile makes each node log in
		fmt.Sprintf("{vault: {address: \"http://%s:%d\", audience: vault, role: dbt, secret: database/creds/snowflake}}", host, vault))
	chain(t, workspace)
	build(t, s, issuer, workspace, "does not exist", func(d time.Duration) { p.grace.Store(int64(d)) })

	// The users change from run to run, but the profile does not: dbt parses
	// partially. (The port may differ: other tests have the same target.)
	port := regexp.MustCompile(`port: \d+`)
	var profiles []string
	for range 2 {
		out, err := setup.Exec(t, issuer, workspace, nil, "sh", "-c", "cat \"$DBT_PROFILES_DIR/profiles.yml\"")
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		profiles = append(profiles, port.ReplaceAllString(out, "port: N"))
	}
	if !strings.Contains(profiles[0], "reuse_connections: false") || profiles[0] != profiles[1] {
		t.Errorf("the profile became\n%s, was\n%s", profiles[1], profiles[0])
	}
}

// TestDbtOutlivesAWSSessions: at each login, the connector signs with a session
// that is valid then.
func TestDbtOutlivesAWSSessions(t *testing.T) {
	t.Setenv(loopback, "127.0.0.1")
	for _, threads := range setup.Threads() {
		t.Run(fmt.Sprintf("threads %d", threads), func(t *testing.T) {
			issuer := setup.Issuer(t)
			s, _, port := startSessions(t, issuer, 0, 1200*time.Millisecond)
			s.sts = setup.STSOf(t, issuer, sessionLife)
			workspace := setup.Project(t, issuer, perNode(block(port), threads), fmt.Sprintf("{aws: {role: %q, region: eu-central-1, endpoint: %q}}", setup.Role, s.sts.URL()))
			chain(t, workspace)
			build(t, s, issuer, workspace, "ExpiredToken", s.sts.SetGrace)
			if len(s.roles) < 3 {
				t.Errorf("%d sessions have signed, want 3 at least", len(s.roles))
			}
		})
	}
}

// TestDbtRenewsItsSession: connections are reused, as by default, and their
// session tokens expire; dbt renews them with the master token without a new login.
func TestDbtRenewsItsSession(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	issuer.SetLife(tokenLife)
	s, gateway, port := startSessions(t, issuer, 2*time.Second, slow)
	s.grace = standin.Grace
	workspace := setup.Project(t, issuer, block(port), "{oidc: {audience: snowflakecomputing.com}}")
	chain(t, workspace)
	out, err := setup.Exec(t, issuer, workspace, nil, setup.Python(t).Program("dbt"), "--no-use-colors", "build")
	if err != nil || !strings.Contains(out, "Completed successfully") {
		t.Fatalf("dbt build: %v, refused: %q\n%s", err, s.refused, out)
	}
	if gateway.renewals < 2 || s.logins > 6 {
		t.Errorf("%d renewals, %d logins of 4 threads", gateway.renewals, s.logins)
	}
}
