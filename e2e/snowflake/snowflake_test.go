//go:build e2e

// Package snowflake runs a real `dbt build` through dbt-snowflake against
// fakesnow, behind a server that verifies logins as Snowflake does.
package snowflake

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A snowflake is an account with one service user:
// WORKLOAD_IDENTITY = (TYPE = OIDC ISSUER = … SUBJECT = …), or TYPE = AWS ARN = …;
// one that an External OAuth integration maps to, or one with an RSA_PUBLIC_KEY.
type snowflake struct {
	issuer  *standin.Issuer
	sts     *standin.STS
	bearer  func(token string) error       // nil without an integration
	keyPair func(user, token string) error // nil without a key
	next    http.Handler
	grace   time.Duration // how long ID tokens are accepted after they expire

	mu      sync.Mutex
	logins  int
	refused []string
	tags    []string
	token   string          // of the last login
	used    map[string]bool // all accepted tokens and users
	roles   map[string]bool // the sessions of AWS that signed logins, by access key id
}

func (s *snowflake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/session/v1/login-request" {
		s.next.ServeHTTP(w, r)
		return
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	by, err := s.login(r.Context(), r.Header.Get("Content-Encoding"), raw)
	if err != nil {
		s.mu.Lock()
		s.refused = append(s.refused, err.Error())
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "code": "390144", "message": err.Error(), "data": map[string]any{"nextAction": "RETRY_LOGIN"}})
		return
	}
	s.mu.Lock()
	s.logins++
	s.used[by] = true
	s.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(raw))
	s.next.ServeHTTP(w, r)
}

// login verifies what Snowflake verifies: issuer, subject, audience, signature
// and expiry. It returns the token, or the key's user.
func (s *snowflake) login(ctx context.Context, encoding string, raw []byte) (by string, err error) {
	if encoding == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return "", err
		}
		if raw, err = io.ReadAll(z); err != nil {
			return "", err
		}
	}
	var in struct {
		Data struct {
			Authenticator string         `json:"AUTHENTICATOR"`
			Provider      string         `json:"PROVIDER"`
			Token         string         `json:"TOKEN"`
			Login         string         `json:"LOGIN_NAME"`
			Parameters    map[string]any `json:"SESSION_PARAMETERS"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return "", err
	}
	if tag, ok := in.Data.Parameters["QUERY_TAG"].(string); ok {
		s.mu.Lock()
		s.tags = append(s.tags, tag)
		s.mu.Unlock()
	}
	s.mu.Lock()
	s.token = in.Data.Token
	s.mu.Unlock()
	switch {
	case in.Data.Authenticator == "OAUTH" && s.bearer != nil:
		return in.Data.Token, s.bearer(in.Data.Token)
	case in.Data.Authenticator == "SNOWFLAKE_JWT" && s.keyPair != nil:
		return in.Data.Login, s.keyPair(in.Data.Login, in.Data.Token)
	case in.Data.Authenticator != "WORKLOAD_IDENTITY":
		return "", fmt.Errorf("authenticator %q is not enabled for the user", in.Data.Authenticator)
	}
	switch in.Data.Provider {
	case "OIDC":
		return in.Data.Token, setup.VerifyLate(ctx, s.issuer, "snowflakecomputing.com", setup.Subject, in.Data.Token, s.grace)
	case "AWS":
		return in.Data.Token, s.verifyAttestation(ctx, in.Data.Token)
	}
	return "", fmt.Errorf("workload identity provider %q", in.Data.Provider)
}

// verifyAttestation forwards the signed GetCallerIdentity to the token service,
// as Snowflake does to AWS, and compares its reply with the user's role.
func (s *snowflake) verifyAttestation(ctx context.Context, token string) error {
	text, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return err
	}
	var in struct {
		URL     string            `json:"url"`
		Method  string            `json:"method"`
		Headers map[string]string `json:"headers"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	u, err := url.Parse(in.URL)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(u.Host, "sts.") || !strings.HasSuffix(u.Host, ".amazonaws.com") || in.Headers["X-Snowflake-Audience"] != "snowflakecomputing.com" {
		return fmt.Errorf("attestation for host %q, audience %q", u.Host, in.Headers["X-Snowflake-Audience"])
	}
	req, err := http.NewRequestWithContext(ctx, in.Method, s.sts.URL()+u.RequestURI(), nil)
	if err != nil {
		return err
	}
	req.Host = u.Host
	for name, value := range in.Headers {
		req.Header.Set(name, value)
	}
	session, err := s.sts.Authenticate(req, nil, "sts")
	if err != nil {
		return err
	}
	if session.RoleARN != setup.Role {
		return fmt.Errorf("role %q is not the user's", session.RoleARN)
	}
	s.mu.Lock()
	s.roles[session.AccessKeyID] = true
	s.mu.Unlock()
	return nil
}

// start starts fakesnow behind the server that verifies logins.
func start(t *testing.T, issuer *standin.Issuer, sts *standin.STS) (*snowflake, int) {
	t.Helper()
	python := setup.Python(t)
	port := setup.Port(t)
	setup.Start(t, port, python.Environ(), python.Program("python"), "-m", "uvicorn", "--host", "127.0.0.1", "--port", fmt.Sprint(port), "fakesnow.server:app")
	s := &snowflake{issuer: issuer, sts: sts, used: map[string]bool{}, roles: map[string]bool{}, next: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)})}
	_, front := setup.Serve(t, s)
	return s, front
}

func block(port int) string {
	return fmt.Sprintf(`{type: snowflake, account: acme-prod, host: 127.0.0.1, port: %d, protocol: http, user: DBT_PROD, role: TRANSFORMER, database: ANALYTICS, warehouse: W, schema: marts, threads: 4}`, port)
}

// loopback lets the connector send a workload identity to this machine: by
// default it accepts only Snowflake's hosts.
const loopback = "SNOWFLAKE_WIF_ALLOWED_HOST_SUFFIXES"

func TestDbtBuildWithTheIDToken(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	s, port := start(t, issuer, nil)
	workspace := setup.Project(t, issuer, block(port), "{oidc: {audience: snowflakecomputing.com}}")
	env, step := setup.Authenticate(t, issuer, workspace)
	if step.Outputs["token"] == "" {
		t.Error("no output token")
	}
	env[loopback] = "127.0.0.1"
	setup.Build(t, setup.Python(t), issuer, workspace, env)
	if s.logins == 0 || len(s.refused) > 0 {
		t.Errorf("%d logins, refused: %q", s.logins, s.refused)
	}
	for _, tag := range s.tags {
		if tag != "oidc-dbt target=prod" {
			t.Errorf("query tag is %q", tag)
		}
	}

	// With the token of another run, dbt prints the reason of the refusal.
	env["DBT_ENV_SECRET_OIDC_TOKEN"] = issuer.Sign("snowflakecomputing.com", map[string]any{"sub": "repo:acme/analytics:environment:staging"})
	out, err := setup.DBT(t, setup.Python(t), workspace, env, "show", "--inline", "select 1")
	if err == nil || len(s.refused) == 0 || !strings.Contains(out, "invalid subject") {
		t.Errorf("dbt with another subject: %v, refused %q\n%s", err, s.refused, out)
	}
	setup.NoSecrets(t, issuer, "dbt's output", out)
}

func TestDbtBuildWithAnAWSRole(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	sts := setup.STS(t, issuer)
	s, port := start(t, issuer, sts)
	workspace := setup.Project(t, issuer, block(port), fmt.Sprintf("{aws: {role: %q, region: eu-central-1, endpoint: %q}}", setup.Role, sts.URL()))
	env, _ := setup.Authenticate(t, issuer, workspace)
	env[loopback] = "127.0.0.1"
	setup.Build(t, setup.Python(t), issuer, workspace, env)
	if s.logins == 0 || len(s.refused) > 0 {
		t.Errorf("%d logins, refused: %q", s.logins, s.refused)
	}

	text, err := base64.StdEncoding.DecodeString(s.token)
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	session := sts.Sessions()[0]
	for name, attestation := range map[string]string{
		"host":      strings.Replace(good, "https://sts.", "https://iam.", 1),
		"audience":  strings.Replace(good, `"X-Snowflake-Audience": "snowflakecomputing.com"`, `"X-Snowflake-Audience": "example.com"`, 1),
		"region":    strings.ReplaceAll(good, "eu-central-1", "eu-west-1"),
		"action":    strings.Replace(good, "GetCallerIdentity", "GetSessionToken", 1),
		"session":   strings.Replace(good, session.SessionToken, "made-up", 1),
		"signature": regexp.MustCompile(`Signature=[0-9a-f]{8}`).ReplaceAllString(good, "Signature=00000000"),
	} {
		if attestation == good {
			t.Errorf("the attestation has no %s: %s", name, strings.NewReplacer(session.SessionToken, "…", session.AccessKeyID, "…").Replace(good))
		}
		if err := s.verifyAttestation(t.Context(), base64.StdEncoding.EncodeToString([]byte(attestation))); err == nil {
			t.Errorf("an attestation with another %s is accepted", name)
		}
	}
	if err := s.verifyAttestation(t.Context(), s.token); err != nil {
		t.Errorf("the good attestation is refused: %v", err)
	}
}

// TestTheServerRefusesEachMutation: the tests prove only as much as the stand-in refuses.
func TestTheServerRefusesEachMutation(t *testing.T) {
	t.Parallel()
	issuer, other := setup.Issuer(t), setup.Issuer(t)
	sign := func(changes map[string]any) string { return issuer.Sign("snowflakecomputing.com", changes) }
	if err := setup.Verify(t.Context(), issuer, "snowflakecomputing.com", setup.Subject, sign(nil)); err != nil {
		t.Fatalf("the good token is refused: %v", err)
	}
	for name, token := range map[string]string{
		"issuer":    sign(map[string]any{"iss": other.URL()}),
		"subject":   sign(map[string]any{"sub": "repo:acme/analytics:environment:staging"}),
		"audience":  issuer.Sign("sts.amazonaws.com", nil),
		"expiry":    sign(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}),
		"signature": other.Sign("snowflakecomputing.com", map[string]any{"iss": issuer.URL()}),
	} {
		if err := setup.Verify(t.Context(), issuer, "snowflakecomputing.com", setup.Subject, token); err == nil {
			t.Errorf("a token with another %s is accepted", name)
		}
	}
}

func TestMain(m *testing.M) {
	_ = os.Unsetenv("SNOWFLAKE_HOME")
	os.Exit(setup.Main(m))
}
