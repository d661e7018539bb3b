package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// numbered is the n-th credential of a run, good for every kind of warehouse.
func numbered(n int32) credential.Credential {
	return credential.Credential{
		ID: fmt.Sprint(n), Kind: "access_token", Expiry: time.Now().Add(time.Hour), Token: secret.New(fmt.Sprintf("token-%d", n)),
		AWS: &credential.AWS{AccessKeyID: secret.New(fmt.Sprintf("ASIA%d", n)), SecretAccessKey: secret.New("key"), SessionToken: secret.New("session"), Region: "eu-central-1"},
	}
}

// keptFresh has a broker get its credentials from a keeper, whose first is
// number 1, and counts the renewals.
func keptFresh(renewals *atomic.Int32) func(*broker.Config) {
	k := broker.NewKeeper(numbered(1), keeps(func(context.Context) (credential.Credential, error) {
		return numbered(1 + renewals.Add(1)), nil
	}, time.Now))
	return func(c *broker.Config) { c.Current, c.Renew = k.Current, k.Renew }
}

// shows reports whether a request to the warehouse has the n-th credential.
func shows(r *http.Request, n int) bool {
	login := r.Header.Get("Authorization")
	return strings.HasSuffix(login, fmt.Sprintf("token-%d", n)) || strings.Contains(login, fmt.Sprintf("Credential=ASIA%d/", n))
}

// TestRefusedCredential: what the warehouse refuses, though it should live, is
// replaced, and the request sent again with all of its body.
func TestRefusedCredential(t *testing.T) {
	t.Parallel()
	const statement = "insert into orders select 1"
	for _, tt := range []struct {
		name           string
		kind           route.Kind
		refuse         http.HandlerFunc
		ask            func(t *testing.T, b *broker.Broker, method, target, body string) (int, string)
		method, target string
		body           string
		renewals       int32
		status         int
	}{
		{"Trino", route.Trino, refusal(401), askByBearer, "POST", "/v1/statement", statement, 1, 200},
		{"Trino, where it goes on", route.Trino, refusal(401), askByBearer, "GET", "/v1/statement/executing/x", "", 1, 200},
		{"Trino, another fault", route.Trino, refusal(403), askByBearer, "POST", "/v1/statement", statement, 0, 403},
		{"Cloud Storage", route.GoogleStorage, refusal(401), askByBearer, "PUT", "/lake/x", statement, 1, 200},
		{"Cloud Storage, a large object", route.GoogleStorage, refusal(401), askByBearer, "PUT", "/lake/x", strings.Repeat("x", 1<<20), 1, 401}, // the client's own next try gets through
		{"Cloud Storage, no permission", route.GoogleStorage, refusal(403), askByBearer, "GET", "/lake/x", "", 0, 403},
		{"ClickHouse", route.ClickHouse, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-ClickHouse-Exception-Code", "516")
			http.Error(w, "Code: 516", http.StatusForbidden)
		}, askByBearer, "POST", "/?password=", statement, 1, 200},
		{"ClickHouse behind a gateway", route.ClickHouse, refusal(401), askByBearer, "POST", "/?password=", statement, 1, 200},
		{"ClickHouse, no grant", route.ClickHouse, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-ClickHouse-Exception-Code", "497")
			http.Error(w, "Code: 497", http.StatusForbidden)
		}, askByBearer, "POST", "/?password=", statement, 0, 403},
		{"S3, an expired session", route.S3, s3Refusal(400, "ExpiredToken"), askS3, "PUT", "/lake/x", statement, 1, 200},
		{"S3, an unknown session", route.S3, s3Refusal(400, "InvalidToken"), askS3, "GET", "/lake/x", "", 1, 200},
		{"S3, unknown keys", route.S3, s3Refusal(403, "InvalidAccessKeyId"), askS3, "GET", "/lake/x", "", 1, 200},
		{"MinIO, an unknown session", route.S3, s3Refusal(403, "InvalidTokenId"), askS3, "GET", "/lake/x", "", 1, 200},
		{"MinIO, nothing but headers", route.S3, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Minio-Error-Code", "InvalidTokenId")
			w.WriteHeader(403)
		}, askS3, "HEAD", "/lake/x", "", 1, 200},
		{"S3, nothing but a status", route.S3, refusal(400), askS3, "HEAD", "/lake/x", "", 1, 200},
		{"S3, no permission", route.S3, s3Refusal(403, "AccessDenied"), askS3, "GET", "/lake/x", "", 0, 403},
		{"S3, no permission to look", route.S3, refusal(403), askS3, "HEAD", "/lake/x", "", 0, 403},
		{"S3, a bad request", route.S3, s3Refusal(400, "InvalidRequest"), askS3, "GET", "/lake/x", "", 0, 400},
		{"S3, a large object", route.S3, s3Refusal(400, "ExpiredToken"), askS3, "PUT", "/lake/x", strings.Repeat("x", 1<<20), 1, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got atomic.Value
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if shows(r, 1) {
					tt.refuse(w, r)
					return
				}
				got.Store(string(body))
			}))
			t.Cleanup(server.Close)
			var renewals atomic.Int32
			b := start(t, route.Route{Kind: tt.kind, Upstream: upstreamOf(t, server)}, keptFresh(&renewals), func(c *broker.Config) { c.Dir = t.TempDir() })
			status, text := tt.ask(t, b, tt.method, tt.target, tt.body)
			if status != tt.status || renewals.Load() != tt.renewals {
				t.Errorf("status %d after %d renewals, %s; want %d after %d", status, renewals.Load(), text, tt.status, tt.renewals)
			}
			if tt.status == 200 && got.Load() != tt.body {
				t.Errorf("the warehouse got %q, want %q", got.Load(), tt.body)
			}
			if tt.status != 200 && tt.renewals > 0 {
				if status, _ := tt.ask(t, b, tt.method, tt.target, tt.body); status != 200 || renewals.Load() != 1 {
					t.Errorf("the next try: status %d after %d renewals", status, renewals.Load())
				}
			}
		})
	}
}

// s3Refusal refuses as S3 does.
func s3Refusal(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", code)
	}
}

// refusal refuses with only a status.
func refusal(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", status) }
}

// askByBearer asks with the secret as bearer, or as ClickHouse has it.
func askByBearer(t *testing.T, b *broker.Broker, method, target, body string) (int, string) {
	t.Helper()
	scheme, client := "http://", http.DefaultClient
	if b.Address().CAFile != "" {
		scheme, client = "https://", trusting(t, b)
	}
	req, err := http.NewRequest(method, scheme+address(b)+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.Address().Secret.Reveal())
	if strings.Contains(target, "password") {
		req.Header.Del("Authorization")
		req.Header.Set("X-ClickHouse-Key", b.Address().Secret.Reveal())
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func askS3(t *testing.T, b *broker.Broker, method, target, body string) (int, string) {
	t.Helper()
	status, _, text := s3Request{method: method, target: target, body: body}.send(t, b)
	return status, text
}

// TestRefusedForever: a warehouse that refuses all is asked twice, and then
// the client has its words.
func TestRefusedForever(t *testing.T) {
	t.Parallel()
	var asked, renewals atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "not you", http.StatusUnauthorized)
	}))
	t.Cleanup(server.Close)
	b := start(t, route.Route{Kind: route.GoogleStorage, Upstream: upstreamOf(t, server)}, keptFresh(&renewals))
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			req, err := http.NewRequest("GET", "http://"+address(b)+"/lake/x", nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+b.Address().Secret.Reveal())
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 401 || string(body) != "not you\n" {
				t.Errorf("status %d, %s", resp.StatusCode, body)
			}
		})
	}
	clients.Wait()
	if renewals.Load() != 1 || asked.Load() > 40 {
		t.Errorf("%d renewals, and the warehouse was asked %d times", renewals.Load(), asked.Load())
	}
}

// TestSnowflakeRefusedCredential: Snowflake says it with status 200.
func TestSnowflakeRefusedCredential(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code     string
		status   int
		renewals int32
	}{{"390318", 200, 1}, {"390303", 200, 1}, {"390144", 200, 1}, {"394304", 200, 1}, {"", 401, 1}, {"390422", 200, 0}, {"000403", 403, 0}} {
		t.Run(tt.code, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if strings.Contains(string(body), `"token-1"`) {
					w.WriteHeader(tt.status)
					fmt.Fprintf(w, `{"success":false,"code":%q,"message":"no"}`, tt.code)
					return
				}
				fmt.Fprint(w, `{"success":true,"data":{"token":"t","masterToken":"m"}}`)
			}))
			t.Cleanup(server.Close)
			u := upstreamOf(t, server)
			u.Account = "ACME-PROD"
			var renewals atomic.Int32
			b := start(t, route.Route{Kind: route.Snowflake, Upstream: u}, keptFresh(&renewals))
			body := fmt.Sprintf(`{"data":{"ACCOUNT_NAME":"acme-prod","TOKEN":%q}}`, b.Address().Secret.Reveal())
			resp, err := http.Post("http://"+address(b)+"/session/v1/login-request", "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			if in := strings.Contains(string(text), `"success":true`); in != (tt.renewals > 0) || renewals.Load() != tt.renewals {
				t.Errorf("%s after %d renewals, want %d", text, renewals.Load(), tt.renewals)
			}
		})
	}
}

// TestPostgresRefusedCredential: a login that is refused is tried once more
// with the next credential; the client hears of the last one alone.
func TestPostgresRefusedCredential(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code, message string
		renewals      int32
		err           string
	}{
		{"28P01", "no", 1, "<nil>"},
		{"28000", "no", 1, "<nil>"},
		{"53300", "no", 0, "FATAL 53300: no"},
		{"3D000", "no", 0, "FATAL 3D000: no"},
		{"08P01", "PAM authentication failed", 1, "<nil>"}, // PgBouncer's
		{"08P01", "server login failed: FATAL password authentication failed for user \"dbt\"", 1, "<nil>"},
		{"08P01", "unsupported startup parameter: options", 0, "FATAL 08P01: unsupported startup parameter: options"},
	} {
		t.Run(tt.code+" "+tt.message, func(t *testing.T) {
			t.Parallel()
			server := startPostgres(t, func(s *pgSession) error {
				password, err := s.request(authentication(3), 'p')
				if err != nil {
					return err
				}
				if strings.HasPrefix(password, "token-1") {
					return s.refuse(tt.code, tt.message)
				}
				return nil
			}, "127.0.0.1")
			var renewals atomic.Int32
			b := start(t, pgRoute(server), keptFresh(&renewals))
			conn, err := pgConnect(t, b, "")
			if got := pgError(err); got != tt.err || renewals.Load() != tt.renewals {
				t.Errorf("error %q after %d renewals, want %q after %d", got, renewals.Load(), tt.err, tt.renewals)
			}
			if err == nil {
				conn.Close(t.Context())
			}
		})
	}
}

// TestNoRenewalNoRetry: if nothing can be renewed the client gets the refusal.
func TestNoRenewalNoRetry(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, func(s *pgSession) error {
		if _, err := s.request(authentication(3), 'p'); err != nil {
			return err
		}
		return s.refuse("28P01", "the role is gone")
	}, "127.0.0.1")
	b := start(t, pgRoute(server), gives(numbered(1)), func(c *broker.Config) {
		c.Renew = func(context.Context, credential.Credential) (credential.Credential, error) {
			return credential.Credential{}, errors.New("down")
		}
	})
	_, err := pgConnect(t, b, "")
	if got, want := pgError(err), "FATAL 28P01: the role is gone"; got != want {
		t.Errorf("error is %q, want %q", got, want)
	}
	if came := server.arrivals(); came != 1 {
		t.Errorf("the server was asked %d times, want once", came)
	}
}
