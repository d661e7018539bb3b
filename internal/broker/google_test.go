package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// startADC serves application default credentials in a folder of the test's.
func startADC(t *testing.T, google route.Google, changes ...func(*broker.Config)) *broker.Broker {
	t.Helper()
	return start(t, route.Route{Kind: route.GoogleADC, Google: google}, append(changes, func(c *broker.Config) { c.Dir = t.TempDir() })...)
}

// exchange posts a token exchange and returns the reply.
func exchange(t *testing.T, b *broker.Broker, form url.Values) (status int, body string) {
	t.Helper()
	resp, err := http.PostForm("http://"+address(b)+"/token", form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if kind := resp.Header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("content type is %q", kind)
	}
	return resp.StatusCode, string(text)
}

// TestGoogleADCOfPeople: of a workforce pool the file names the project that
// people use, which Google's libraries refuse for any other pool.
func TestGoogleADCOfPeople(t *testing.T) {
	t.Parallel()
	for project, want := range map[string]any{"": nil, "acme-dbt": "acme-dbt"} {
		b := startADC(t, route.Google{Audience: "//iam.googleapis.com/locations/global/workforcePools/acme/providers/okta", Project: project})
		text, err := os.ReadFile(b.Address().File)
		var content map[string]any
		if err == nil {
			err = json.Unmarshal(text, &content)
		}
		if err != nil || content["workforce_pool_user_project"] != want {
			t.Errorf("project %q: the file has %v, %v", project, content["workforce_pool_user_project"], err)
		}
	}
}

func TestGoogleADCFile(t *testing.T) {
	t.Parallel()
	const pool = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/gh/providers/gh"
	for _, universe := range []string{"", "apis-acme.goog"} {
		t.Run(universe, func(t *testing.T) {
			t.Parallel()
			var renewed atomic.Int32
			b := startADC(t, route.Google{Audience: pool, Universe: universe}, func(c *broker.Config) {
				c.Current = func(context.Context) (credential.Credential, error) {
					return credential.Credential{Token: secret.New(fmt.Sprint("marked-token-", renewed.Add(1))), Expiry: time.Now().Add(time.Second)}, nil
				}
			})
			read := func() map[string]any {
				text, err := os.ReadFile(b.Address().File)
				if err != nil {
					t.Fatal(err)
				}
				var content map[string]any
				if err := json.Unmarshal(text, &content); err != nil {
					t.Fatal(err)
				}
				return content
			}
			if universe == "" {
				universe = "googleapis.com"
			}
			want := map[string]any{
				"type": "external_account", "audience": pool, "universe_domain": universe,
				"subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
				"token_url":          "http://" + address(b) + "/token",
				"credential_source": map[string]any{
					"url":     "http://" + address(b) + "/subject-token",
					"headers": map[string]any{"Authorization": "Bearer " + b.Address().Secret.Reveal()},
				},
			}
			if diff := cmp.Diff(want, read()); diff != "" {
				t.Errorf("the file (-want +got)\n%s", diff)
			}
			info, err := os.Stat(b.Address().File)
			if err != nil {
				t.Fatal(err)
			}
			if mode := info.Mode().Perm(); mode != 0o600 && runtime.GOOS != "windows" {
				t.Errorf("the file's mode is %o", mode)
			}
			// A client that has read the file does not read it again.
			exchange(t, b, url.Values{"subject_token": {b.Address().Secret.Reveal()}, "grant_type": {tokenExchange}})
			if diff := cmp.Diff(want, read()); diff != "" {
				t.Errorf("after a renewal (-want +got)\n%s", diff)
			}
		})
	}
}

const tokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

func TestGoogleSubjectToken(t *testing.T) {
	t.Parallel()
	var told refusals
	b := startADC(t, route.Google{}, func(c *broker.Config) { c.Refused = told.add })
	own := b.Address().Secret.Reveal()
	for _, tt := range []struct {
		name, method, path, authorization string
		status                            int
		body                              string
	}{
		{"the run's", "GET", "/subject-token", "Bearer " + own, 200, own},
		{"with an audience of the caller's", "GET", "/subject-token?audience=sts.amazonaws.com", "Bearer " + own, 200, own},
		{"none", "GET", "/subject-token", "", 401, "oidc-dbt: the bearer token does not belong to this run\n"},
		{"another", "GET", "/subject-token", "Bearer " + own + "x", 401, "oidc-dbt: the bearer token does not belong to this run\n"},
		{"a part of it", "GET", "/subject-token", "Bearer " + own[:10], 401, "oidc-dbt: the bearer token does not belong to this run\n"},
		{"in the query", "GET", "/subject-token?access_token=" + own, "", 401, "oidc-dbt: the bearer token does not belong to this run\n"},
		{"by another method", "POST", "/subject-token", "Bearer " + own, 405, "Method Not Allowed\n"},
		{"elsewhere", "GET", "/", "Bearer " + own, 404, "404 page not found\n"},
	} {
		req, err := http.NewRequest(tt.method, "http://"+address(b)+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", tt.authorization)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != tt.status || string(body) != tt.body {
			t.Errorf("%s: status %d, body %q, want %d, %q", tt.name, resp.StatusCode, body, tt.status, tt.body)
		}
	}
	b.Close()
	if got := fmt.Sprint(told.told); got != "[1 3]" {
		t.Errorf("told of %s callers, want [1 3]", got)
	}
}

func TestGoogleToken(t *testing.T) {
	t.Parallel()
	var told refusals
	b := startADC(t, route.Google{}, func(c *broker.Config) { c.Refused = told.add })
	own := b.Address().Secret.Reveal()
	for _, tt := range []struct {
		name   string
		form   url.Values
		status int
		body   string
	}{
		{"what google-auth sends", url.Values{
			"grant_type": {tokenExchange}, "audience": {"//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/other/providers/other"},
			"scope": {"https://www.googleapis.com/auth/drive"}, "requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
			"subject_token": {own}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"}, "options": {`{"userProject": "other"}`},
		}, 200, `{"access_token":"marked-token","expires_in":3599,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer"}` + "\n"},
		{"another subject token", url.Values{"grant_type": {tokenExchange}, "subject_token": {own + "x"}}, 401,
			`{"error":"invalid_grant","error_description":"oidc-dbt: the subject token does not belong to this run"}` + "\n"},
		{"an ID token", url.Values{"grant_type": {tokenExchange}, "subject_token": {"eyJhbGciOiJSUzI1NiJ9.e30."}}, 401,
			`{"error":"invalid_grant","error_description":"oidc-dbt: the subject token does not belong to this run"}` + "\n"},
		{"nothing", url.Values{}, 401, `{"error":"invalid_grant","error_description":"oidc-dbt: the subject token does not belong to this run"}` + "\n"},
		{"another grant", url.Values{"grant_type": {"client_credentials"}, "subject_token": {own}}, 400,
			`{"error":"unsupported_grant_type","error_description":"oidc-dbt: want a token exchange"}` + "\n"},
		{"a body without an end", url.Values{"grant_type": {tokenExchange}, "filler": {strings.Repeat("x", 65<<10)}, "subject_token": {own}}, 401,
			`{"error":"invalid_grant","error_description":"oidc-dbt: the subject token does not belong to this run"}` + "\n"},
	} {
		if status, body := exchange(t, b, tt.form); status != tt.status || body != tt.body {
			t.Errorf("%s: status %d, %swant %d, %s", tt.name, status, body, tt.status, tt.body)
		}
	}
	b.Close()
	if got := fmt.Sprint(told.told); got != "[1 3]" {
		t.Errorf("told of %s callers, want [1 3]", got)
	}
}

// TestGoogleTokenWithoutCredential: the client shows our words, and tries
// again only where that helps.
func TestGoogleTokenWithoutCredential(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		err    error
		status int
		body   string
	}{
		{"provider down", fault.New(fault.Unreachable, errors.New("exchange ID token: down"), ""), 503, `{"error":"temporarily_unavailable","error_description":"oidc-dbt: exchange ID token: down"}` + "\n"},
		{"policy", fault.New(fault.Denied, errors.New("authorize: no"), ""), 400, `{"error":"invalid_grant","error_description":"oidc-dbt: authorize: no"}` + "\n"},
		{"provider's no", fault.New(fault.Refused, errors.New(`exchange ID token: "no"`), ""), 400, `{"error":"invalid_grant","error_description":"oidc-dbt: exchange ID token: \"no\""}` + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var ended atomic.Bool
			b := startADC(t, route.Google{}, func(c *broker.Config) {
				first := c.Current
				c.Current = func(ctx context.Context) (credential.Credential, error) {
					if ended.Load() {
						return credential.Credential{}, tt.err
					}
					return first(ctx)
				}
			})
			ended.Store(true)
			if status, body := exchange(t, b, url.Values{"grant_type": {tokenExchange}, "subject_token": {b.Address().Secret.Reveal()}}); status != tt.status || body != tt.body {
				t.Errorf("status %d, %swant %d, %s", status, body, tt.status, tt.body)
			}
		})
	}
}

// TestGoogleTokenAboutToDie: Google's library for Go takes an expires_in of 0
// for an error.
func TestGoogleTokenAboutToDie(t *testing.T) {
	t.Parallel()
	b := startADC(t, route.Google{}, func(c *broker.Config) {
		c.Current = func(context.Context) (credential.Credential, error) {
			return credential.Credential{Token: secret.New("marked-token"), Expiry: time.Now().Add(100 * time.Millisecond)}, nil
		}
	})
	status, body := exchange(t, b, url.Values{"grant_type": {tokenExchange}, "subject_token": {b.Address().Secret.Reveal()}})
	if status != http.StatusOK || !strings.Contains(body, `"expires_in":1,`) {
		t.Errorf("status %d, %s", status, body)
	}
}

// TestGoogleStorage: the store sees the access token, the client never does.
func TestGoogleStorage(t *testing.T) {
	t.Parallel()
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/elsewhere":
			http.Redirect(w, r, "https://evil.example/", http.StatusTemporaryRedirect)
		case r.Header.Get("Authorization") != "Bearer marked-token":
			http.Error(w, "no bearer", http.StatusForbidden)
		default:
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("ETag", `"e"`)
			fmt.Fprintf(w, "%s %s range=%s body=%s", r.Method, r.URL.RequestURI(), r.Header.Get("Range"), body)
		}
	}))
	t.Cleanup(store.Close)
	u, err := url.Parse(store.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	var told refusals
	b := start(t, route.Route{Kind: route.GoogleStorage, Upstream: route.Upstream{Host: u.Hostname(), Port: port, Plain: true}}, func(c *broker.Config) { c.Refused = told.add })
	own := "Bearer " + b.Address().Secret.Reveal()
	const refused = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>AuthenticationRequired</Code><Message>oidc-dbt: the bearer token does not belong to this run</Message></Error>"
	for _, tt := range []struct {
		name, method, path, authorization string
		status                            int
		body                              string
	}{
		{"an object", "PUT", "/lake/a%2Fb.parquet?partNumber=1&uploadId=u", own, 200, "PUT /lake/a%2Fb.parquet?partNumber=1&uploadId=u range=bytes=0-3 body=rows"},
		{"none", "GET", "/lake/o", "", 401, refused},
		{"the access token itself", "GET", "/lake/o", "Bearer marked-token", 401, refused},
		{"the secret as a password", "GET", "/lake/o", "Basic " + b.Address().Secret.Reveal(), 401, refused},
		{"a redirect", "GET", "/elsewhere", own, 502, "<?xml version='1.0' encoding='UTF-8'?><Error><Code>InternalError</Code><Message>oidc-dbt: the warehouse sent a redirect, and redirects are not followed</Message></Error>"},
	} {
		req, err := http.NewRequest(tt.method, "http://"+address(b)+tt.path, strings.NewReader("rows"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", tt.authorization)
		req.Header.Set("Range", "bytes=0-3")
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != tt.status || string(body) != tt.body {
			t.Errorf("%s: status %d, body %q, want %d, %q", tt.name, resp.StatusCode, body, tt.status, tt.body)
		}
	}
	b.Close()
	if got := fmt.Sprint(told.told); got != "[1 2]" {
		t.Errorf("told of %s callers, want [1 2]", got)
	}
}
