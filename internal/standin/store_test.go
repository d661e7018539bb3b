package standin_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A clock that tests move.
type clock struct {
	mu     sync.Mutex
	behind time.Duration
}

func newClock() *clock { return &clock{} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.behind)
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.behind += d
}

func newStore(t *testing.T, a account) *standin.Store {
	t.Helper()
	store, err := standin.StartStore(a.sts, "lake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func storeClient(store *standin.Store, c *types.Credentials) *s3.Client {
	options := s3.Options{Region: "eu-central-1", BaseEndpoint: aws.String(store.URL()), UsePathStyle: true, Retryer: aws.NopRetryer{}}
	if c != nil {
		options.Credentials = fixed(c)
	}
	return s3.New(options)
}

func TestStore(t *testing.T) {
	t.Parallel()
	clock := newClock()
	a := newAccount(t, clock.now)
	assume := func(policy *string) *types.Credentials {
		out, err := a.withToken(t.Context(), a.issuer.Sign("sts.amazonaws.com", nil), func(i *sts.AssumeRoleWithWebIdentityInput) {
			i.DurationSeconds, i.Policy = aws.Int32(900), policy
		})
		if err != nil {
			t.Fatal(err)
		}
		return out.Credentials
	}
	good, other := assume(nil), assume(nil)
	reader := assume(aws.String(`{"Statement":[{"Effect":"Allow","Action":["s3:Get*","s3:listbucket"],"Resource":"arn:aws:s3:::lake*"},{"Effect":"Deny","Action":"s3:*","Resource":"*/secret/*"}]}`))
	conditional := assume(aws.String(`{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}}]}`))
	managed, err := a.withToken(t.Context(), a.issuer.Sign("sts.amazonaws.com", nil), func(i *sts.AssumeRoleWithWebIdentityInput) {
		i.PolicyArns = []types.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::aws:policy/AmazonS3FullAccess")}}
	})
	if err != nil {
		t.Fatal(err)
	}
	store := newStore(t, a)
	changed := func(change func(*types.Credentials)) *types.Credentials {
		c := *good
		change(&c)
		return &c
	}
	put := func(key string) func(*s3.Client) error {
		return func(c *s3.Client) error {
			_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("lake"), Key: &key, Body: strings.NewReader("order")})
			return err
		}
	}
	get := func(key string) func(*s3.Client) error {
		return func(c *s3.Client) error {
			out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("lake"), Key: &key})
			if err != nil {
				return err
			}
			defer out.Body.Close()
			if text, err := io.ReadAll(out.Body); err != nil || string(text) != "order" {
				return fmt.Errorf("object is %q, %w", text, err)
			}
			return nil
		}
	}
	list := func(c *s3.Client) error {
		_, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("lake")})
		return err
	}
	remove := func(c *s3.Client) error {
		_, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("lake"), Key: aws.String("orders.csv")})
		return err
	}
	clone := func(from string) func(*s3.Client) error {
		return func(c *s3.Client) error {
			_, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String("lake"), Key: aws.String("copy.csv"), CopySource: aws.String("lake/" + from)})
			return err
		}
	}
	no := func(action, resource string) string {
		return "403 AccessDenied: User: arn:aws:sts::123456789012:assumed-role/prod/run-1 is not authorized to perform: s3:" + action + " on resource: arn:aws:s3:::" + resource + " because no session policy allows the action"
	}
	writer := assume(aws.String(`{"Statement":{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::lake/*"}}`))
	const unknownKey = "403 InvalidAccessKeyId: The Access Key Id you provided does not exist in our records."
	tests := []struct {
		name   string
		caller *types.Credentials
		do     func(*s3.Client) error
		err    string
	}{
		{"write", good, put("orders.csv"), ""},
		{"write a secret", good, put("secret/a"), ""},
		{"read", good, get("orders.csv"), ""},
		{"list", other, list, ""},
		{"unknown key", changed(func(c *types.Credentials) { c.AccessKeyId = aws.String("ASIAAAAAAAAAAAAAAAAA") }), list, unknownKey},
		{"no session token", changed(func(c *types.Credentials) { c.SessionToken = aws.String("") }), list, "400 InvalidToken: The provided token is malformed or otherwise invalid."},
		{"another session's token", changed(func(c *types.Credentials) { c.SessionToken = other.SessionToken }), list, "400 InvalidToken: The provided token is malformed or otherwise invalid."},
		{"another secret", changed(func(c *types.Credentials) { c.SecretAccessKey = other.SecretAccessKey }), list, "403 SignatureDoesNotMatch: The request signature we calculated does not match the signature you provided. Check your key and signing method."},
		{"read by session policy", reader, get("orders.csv"), ""},
		{"list by session policy", reader, list, ""},
		{"read what session policy denies", reader, get("secret/a"), no("GetObject", "lake/secret/a")},
		{"write against session policy", reader, put("orders.csv"), no("PutObject", "lake/orders.csv")},
		{"remove against session policy", reader, remove, no("DeleteObject", "lake/orders.csv")},
		{"read by writing", writer, clone("secret/a"), no("GetObject", "lake/secret/a")},
		{"a condition that is not evaluated", conditional, list, no("ListBucket", "lake")},
		{"a managed policy that is not known", managed.Credentials, list, no("ListBucket", "lake")},
		{"remove", good, remove, ""},
	}
	refused, served := 0, 0
	for _, tt := range tests { // in order: they share objects
		err := tt.do(storeClient(store, tt.caller))
		switch {
		case tt.err != "":
			refused++
			if text(err) != tt.err {
				t.Errorf("%s:\ngot  %s\nwant %s", tt.name, text(err), tt.err)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.name, err)
		default:
			served++
		}
	}
	if store.Refused() != refused {
		t.Errorf("counted %d refused requests, want %d", store.Refused(), refused)
	}
	if n := store.Served(http.MethodGet) + store.Served(http.MethodPut) + store.Served(http.MethodDelete); n != served {
		t.Errorf("counted %d served requests, want %d", n, served)
	}

	resp, err := http.Get(store.URL() + "/lake/orders.csv")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a request without a credential: %s", resp.Status)
	}

	clock.forward(15 * time.Minute)
	if got, want := text(list(storeClient(store, good))), "400 ExpiredToken: The provided token has expired."; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// changing replaces a request's body behind its signature.
type changing struct{}

func (changing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader([]byte("evil!")))
	return http.DefaultTransport.RoundTrip(r)
}

func TestStoreChangedBody(t *testing.T) {
	t.Parallel()
	a := newAccount(t, nil)
	out, err := a.withToken(t.Context(), a.issuer.Sign("sts.amazonaws.com", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	store := newStore(t, a)
	client := s3.New(s3.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(store.URL()), UsePathStyle: true, Retryer: aws.NopRetryer{}, Credentials: fixed(out.Credentials),
		HTTPClient: &http.Client{Transport: changing{}}, RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	})
	_, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("lake"), Key: aws.String("orders.csv"), Body: strings.NewReader("order")})
	if got, want := text(err), "400 XAmzContentSHA256Mismatch: The provided 'x-amz-content-sha256' header does not match what was computed."; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestStoreKey: a key of an IAM user works without a session token while it is
// active, and is like one that never was when it is not.
func TestStoreKey(t *testing.T) {
	t.Parallel()
	store := newStore(t, newAccount(t, time.Now))
	const id, secret = "AKIAIOSFODNN7EXAMPLE", "stored"
	list := func(secret, token string) error {
		c := storeClient(store, &types.Credentials{AccessKeyId: aws.String(id), SecretAccessKey: &secret, SessionToken: &token})
		_, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("lake")})
		return err
	}
	refused := func(what string, err error, code string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), code) {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
	}
	refused("a key that is not there", list(secret, ""), "InvalidAccessKeyId")
	store.SetKey(id, secret)
	if err := list(secret, ""); err != nil {
		t.Error(err)
	}
	refused("another secret", list("other", ""), "SignatureDoesNotMatch")
	refused("a session token", list(secret, "token"), "InvalidToken")
	store.DisableKey(id)
	refused("an inactive key", list(secret, ""), "InvalidAccessKeyId")
	if n := store.UsedKey(id); n != 1 || store.Refused() != 4 {
		t.Errorf("%d requests were let through and %d refused, want 1 and 4", n, store.Refused())
	}
}
