package broker_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// An s3Request is one of DuckDB's, signed with keys of no worth.
type s3Request struct {
	method, target string // as it is on the wire
	token          string // "": this run's
	body           string
	hash           string // "": the body's own
	region         string // "": eu-central-1
}

func (q s3Request) send(t testing.TB, b *broker.Broker) (status int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequest(q.method, "http://"+address(b)+q.target, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	if q.token == "" {
		q.token = b.Address().Secret.Reveal()
	}
	if q.region == "" {
		q.region = "eu-central-1"
	}
	if q.hash == "" {
		sum := sha256.Sum256([]byte(q.body))
		q.hash = hex.EncodeToString(sum[:])
	}
	req.Header.Set("X-Amz-Content-Sha256", q.hash)
	keys := aws.Credentials{AccessKeyID: "oidc-dbt", SecretAccessKey: "unused", SessionToken: q.token}
	if err := v4.NewSigner().SignHTTP(t.Context(), keys, req, q.hash, "s3", q.region, time.Now()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// lake starts a store that verifies every signature, and gives what its token
// service has issued.
func lake(t *testing.T) (*standin.Store, credential.Credential) {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	const role = "arn:aws:iam::123456789012:role/dbt"
	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: issuer.URL(), Roles: map[string]standin.Role{role: {Audience: "sts.amazonaws.com", Equals: map[string][]string{
		"sub": {"repo:acme/analytics:environment:production"},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	store, err := standin.StartStore(sts, "lake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	resp, err := http.PostForm(sts.URL(), url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {role}, "RoleSessionName": {"test"}, "WebIdentityToken": {issuer.Sign("sts.amazonaws.com", nil)},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	sessions := sts.Sessions()
	if len(sessions) != 1 {
		t.Fatalf("no session: %s", resp.Status)
	}
	s := sessions[0]
	return store, credential.Credential{Kind: "aws_session", Expiry: s.Expiration, AWS: &credential.AWS{
		AccessKeyID: secret.New(s.AccessKeyID), SecretAccessKey: secret.New(s.SecretAccessKey), SessionToken: secret.New(s.SessionToken), Region: "eu-central-1",
	}}
}

func plainUpstream(t *testing.T, server string) route.Upstream {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return route.Upstream{Host: u.Hostname(), Port: port, Plain: true}
}

// TestS3: what the client asks for reaches the store as it was, with the
// session's signature in the place of its own.
func TestS3(t *testing.T) {
	t.Parallel()
	store, c := lake(t)
	var told refusals
	b := start(t, route.Route{Kind: route.S3, Upstream: plainUpstream(t, store.URL())}, gives(c), func(c *broker.Config) { c.Refused = told.add })
	const wrong = "0000000000000000000000000000000000000000000000000000000000000000"
	for _, tt := range []struct {
		name    string
		request s3Request
		status  int
		says    string
	}{
		{"write", s3Request{method: "PUT", target: "/lake/year%3D2026/a%20b%2Bc.parquet", body: "rows"}, 200, ""},
		{"read", s3Request{method: "GET", target: "/lake/year%3D2026/a%20b%2Bc.parquet"}, 200, "rows"},
		{"look", s3Request{method: "HEAD", target: "/lake/year%3D2026/a%20b%2Bc.parquet"}, 200, ""},
		{"list", s3Request{method: "GET", target: "/lake/?encoding-type=url&list-type=2&prefix=year%3D2026%2F"}, 200, "<Key>year"},
		{"begin an upload", s3Request{method: "POST", target: "/lake/big.parquet?uploads="}, 200, "<UploadId>"},
		{"a body that was not signed", s3Request{method: "PUT", target: "/lake/x", body: "rows", hash: wrong}, 400, "<Code>XAmzContentSHA256Mismatch</Code>"},
		{"nothing there", s3Request{method: "GET", target: "/lake/none"}, 404, "<Code>NoSuchKey</Code>"},
		{"another token", s3Request{method: "GET", target: "/lake/none", token: "guess"}, 403,
			"<Error><Code>InvalidAccessKeyId</Code><Message>oidc-dbt: the session token does not belong to this run</Message><RequestId>"},
		{"the session itself", s3Request{method: "GET", target: "/lake/none", token: c.AWS.SessionToken.Reveal()}, 403, "InvalidAccessKeyId"},
		{"a presigned URL", s3Request{method: "GET", target: "/lake/none?X-Amz-Signature=00&X-Amz-Security-Token=" + b.Address().Secret.Reveal()}, 403,
			"<Error><Code>AccessDenied</Code><Message>oidc-dbt: presigned URLs are not supported: sign in the Authorization header</Message><RequestId>"},
		{"another service", s3Request{method: "GET", target: "/lake/none", region: "eu/central"}, 400,
			"<Error><Code>InvalidRequest</Code><Message>oidc-dbt: the request is not signed for S3</Message><RequestId>"},
	} {
		status, _, body := tt.request.send(t, b)
		if status != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s: status %d, %s; want %d, %s", tt.name, status, body, tt.status, tt.says)
		}
	}
	if status, body := ask(t, b, "GET", "/credentials", b.Address().Secret.Reveal()); status != 200 || !strings.Contains(body, c.AWS.AccessKeyID.Reveal()) {
		t.Errorf("container credentials: status %d, %s", status, body)
	}
	for target, says := range map[string]string{
		"/lake/none": "<Error><Code>AccessDenied</Code><Message>oidc-dbt: the request has no session token</Message><RequestId>",
		"/lake/none?X-Amz-Signature=00&X-Amz-Security-Token=guess": "<Error><Code>InvalidAccessKeyId</Code><Message>oidc-dbt: the session token does not belong to this run</Message><RequestId>",
	} {
		resp, err := http.Get("http://" + address(b) + target)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if id := resp.Header.Get("X-Amz-Request-Id"); resp.StatusCode != 403 || resp.Header.Get("Content-Type") != "application/xml" || len(id) != 16 ||
			!strings.HasPrefix(string(body), `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+says+id+"</RequestId>") {
			t.Errorf("%s: status %d, %v, %s", target, resp.StatusCode, resp.Header, body)
		}
	}
	b.Close()
	if got := fmt.Sprint(told.told); got != "[1 3]" {
		t.Errorf("told of %s callers, want [1 3]", got)
	}
}

func TestS3WithoutSession(t *testing.T) {
	t.Parallel()
	store, c := lake(t)
	for _, tt := range []struct {
		name    string
		cred    credential.Credential
		err     error
		message string
	}{
		{"down", credential.Credential{}, errors.New("request ID token: down"), "request ID token: down"},
		{"no session", credential.Credential{Token: secret.New("marked-token")}, nil, "the credential is not an AWS session"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			calls := make(chan struct{}, 1) // what Start asks for is there
			b := start(t, route.Route{Kind: route.S3, Upstream: plainUpstream(t, store.URL())}, func(config *broker.Config) {
				config.Current = func(context.Context) (credential.Credential, error) {
					select {
					case calls <- struct{}{}:
						return c, nil
					default:
						return tt.cred, tt.err
					}
				}
			})
			status, _, body := s3Request{method: "PUT", target: "/lake/x", body: "rows"}.send(t, b)
			if want := "<Error><Code>ExpiredToken</Code><Message>oidc-dbt: " + tt.message + "</Message><RequestId>"; status != 400 || !strings.Contains(body, want) {
				t.Errorf("status %d, %s want 400, %s", status, body, want)
			}
		})
	}
}

// TestS3StaysHere: neither a redirect nor a store that is gone leads anywhere else.
func TestS3StaysHere(t *testing.T) {
	t.Parallel()
	var asked *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Clone(context.Background())
		w.Header().Set("X-Amz-Bucket-Region", "us-east-1")
		w.Header().Set("Location", "https://evil.example/")
		w.WriteHeader(http.StatusMovedPermanently)
	}))
	t.Cleanup(server.Close)
	c := session("1", time.Now().Add(time.Hour))
	b := start(t, route.Route{Kind: route.S3, Upstream: plainUpstream(t, server.URL)}, gives(c))
	status, header, _ := s3Request{method: "GET", target: "/lake/x"}.send(t, b)
	if status != http.StatusMovedPermanently || header.Get("Location") != "" || header.Get("X-Amz-Bucket-Region") != "us-east-1" {
		t.Errorf("status %d, headers %v, want only the region", status, header)
	}
	sent := fmt.Sprint(asked.Header)
	if strings.Contains(sent, b.Address().Secret.Reveal()) || !strings.Contains(sent, "Credential=ASIA1/") || asked.Header.Get("X-Amz-Security-Token") != "marked/token==" {
		t.Errorf("the store was sent %s", sent)
	}
	server.Close()
	status, _, body := s3Request{method: "GET", target: "/lake/x"}.send(t, b)
	if status != 502 || !strings.Contains(body, "<Message>oidc-dbt: dial tcp ") {
		t.Errorf("status %d, %s, want the store named as gone", status, body)
	}
}

// TestS3LargeObject: bodies are passed on in both directions as they come.
func TestS3LargeObject(t *testing.T) {
	t.Parallel()
	store, c := lake(t)
	b := start(t, route.Route{Kind: route.S3, Upstream: plainUpstream(t, store.URL())}, gives(c))
	rows := string(bytes.Repeat([]byte("0123456789abcdef"), 1<<20)) // 16 MiB
	if status, _, body := (s3Request{method: "PUT", target: "/lake/big", body: rows}).send(t, b); status != 200 {
		t.Fatalf("status %d, %s", status, body)
	}
	if status, _, body := (s3Request{method: "GET", target: "/lake/big"}).send(t, b); status != 200 || body != rows {
		t.Errorf("status %d, %d bytes came back, want %d", status, len(body), len(rows))
	}
}

// TestS3CutOff: an object that does not arrive as a whole is no shorter object.
func TestS3CutOff(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(make([]byte, 300_000)) // and no more: the server closes
	}))
	t.Cleanup(server.Close)
	b := start(t, route.Route{Kind: route.S3, Upstream: plainUpstream(t, server.URL)}, gives(session("1", time.Now().Add(time.Hour))))
	req, err := http.NewRequest(http.MethodGet, "http://"+address(b)+"/lake/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := aws.Credentials{AccessKeyID: "oidc-dbt", SecretAccessKey: "unused", SessionToken: b.Address().Secret.Reveal()}
	if err := v4.NewSigner().SignHTTP(t.Context(), keys, req, "UNSIGNED-PAYLOAD", "s3", "eu-central-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes came, and the error is %v", len(body), err)
	}
}
