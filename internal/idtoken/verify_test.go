package idtoken_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/idtoken"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

func start(t *testing.T) *standin.Issuer {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	return issuer
}

func verifier(issuer idtoken.Issuer) *idtoken.Verifier {
	return idtoken.NewVerifier(web.NewClient(web.NewTransport()), time.Now, issuer)
}

// check compares an error's words and class; "" is success.
func check(t *testing.T, err error, want string, class fault.Class) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("error is\n%s\nwant\n%s", got, want)
	}
	if err != nil && fault.ClassOf(err) != class {
		t.Errorf("status is %d, want %d", fault.ClassOf(err), class)
	}
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// TestVerifyRefusesEachMutation takes one good token and changes one thing a case.
func TestVerifyRefusesEachMutation(t *testing.T) {
	t.Parallel()
	issuer := start(t)
	key, kid := issuer.Key()
	now := time.Now()
	at := func(d time.Duration) string { return now.Add(d).UTC().Truncate(time.Second).Format(time.RFC3339) }
	sign := func(changes map[string]any) func() string {
		return func() string { return issuer.Sign("aud", changes) }
	}
	payload := func() map[string]any {
		return map[string]any{"iss": issuer.URL(), "aud": "aud", "sub": "repo:acme/analytics:environment:production", "exp": now.Add(time.Minute).Unix()}
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	algorithms := `["RS256" "RS384" "RS512" "PS256" "ES256" "ES384" "EdDSA"]`
	tests := []struct {
		name  string
		token func() string
		err   string
	}{
		{"good", sign(nil), ""},
		{"audience in a list", sign(map[string]any{"aud": []string{"other", "aud"}}), ""},
		{"expired within the skew", sign(map[string]any{"exp": now.Add(-50 * time.Second).Unix()}), ""},
		{"not yet valid within the skew", sign(map[string]any{"nbf": now.Add(50 * time.Second).Unix()}), ""},
		{"alg none", func() string {
			return encode(map[string]any{"alg": "none", "kid": kid}) + "." + encode(payload()) + "."
		}, `verify ID token: algorithm is "none", want one of ` + algorithms},
		{"HS256 with the public key", func() string {
			input := encode(map[string]any{"alg": "HS256", "kid": kid}) + "." + encode(payload())
			mac := hmac.New(sha256.New, public)
			mac.Write([]byte(input))
			return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
		}, `verify ID token: algorithm is "HS256", want one of ` + algorithms},
		{"key of its own in the header (jwk, jku)", func() string {
			own, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			opts := &jose.SignerOptions{EmbedJWK: true}
			return signed(t, jose.RS256, jose.JSONWebKey{Key: own, KeyID: kid}, opts.WithHeader("jku", "https://evil.example/jwks"), payload())
		}, fmt.Sprintf("verify ID token: no key of issuer %q has signed it (key id %q)", issuer.URL(), "")},
		{"signature of another payload", func() string {
			parts := strings.Split(issuer.Sign("aud", nil), ".")
			p := payload()
			p["repository"] = "acme/analytics"
			return parts[0] + "." + encode(p) + "." + parts[2]
		}, fmt.Sprintf("verify ID token: no key of issuer %q has signed it (key id %q)", issuer.URL(), kid)},
		{"issuer with a slash", sign(map[string]any{"iss": issuer.URL() + "/"}), fmt.Sprintf("verify ID token: issuer is %q, want %q", issuer.URL()+"/", issuer.URL())},
		{"no issuer", sign(map[string]any{"iss": nil}), fmt.Sprintf(`verify ID token: issuer is missing, want %q`, issuer.URL())},
		{"another audience", sign(map[string]any{"aud": "sts.amazonaws.com"}), `verify ID token: audience is ["sts.amazonaws.com"], want "aud"`},
		{"an audience that contains it", sign(map[string]any{"aud": "aud.evil"}), `verify ID token: audience is ["aud.evil"], want "aud"`},
		{"no audience", sign(map[string]any{"aud": nil}), `verify ID token: malformed claims: aud is missing`},
		{"audience a number", sign(map[string]any{"aud": 7}), `verify ID token: malformed claims: aud is a number`},
		{"expired", sign(map[string]any{"exp": now.Add(-2 * time.Minute).Unix()}), fmt.Sprintf("verify ID token: it expired at %s, and it is %s now", at(-2*time.Minute), at(0))},
		{"no expiry", sign(map[string]any{"exp": nil}), "verify ID token: it has no expiry (exp)"},
		{"expiry a string", sign(map[string]any{"exp": "1790000000"}), `verify ID token: claim "exp" is a string, want a number of seconds`},
		{"expiry beyond reason", sign(map[string]any{"exp": 1e300}), `verify ID token: claim "exp" is a number, want a number of seconds`},
		{"not yet valid", sign(map[string]any{"nbf": now.Add(2 * time.Minute).Unix()}), fmt.Sprintf("verify ID token: it is not valid before %s, and it is %s now", at(2*time.Minute), at(0))},
		{"issued in the future", sign(map[string]any{"iat": now.Add(2 * time.Minute).Unix()}), fmt.Sprintf("verify ID token: it was issued at %s, and it is %s now", at(2*time.Minute), at(0))},
		{"an issuer claim by another case", sign(map[string]any{"Iss": "x"}), `verify ID token: claim "Iss" differs from "iss" by letter case alone`},
		{"a claim twice", func() string {
			text := fmt.Sprintf(`{"iss":%q,"aud":"aud","exp":%d,"environment":"staging","environment":"production"}`, issuer.URL(), now.Add(time.Minute).Unix())
			return signedText(t, jose.RS256, jose.JSONWebKey{Key: key, KeyID: kid}, nil, []byte(text))
		}, `verify ID token: claim "environment" stands twice`},
		{"payload a list", func() string {
			return signedText(t, jose.RS256, jose.JSONWebKey{Key: key, KeyID: kid}, nil, []byte(`[1]`))
		}, `verify ID token: its payload is not a JSON object`},
		{"not a token", func() string { return "opaque" }, "verify ID token: not a JSON Web Token"},
		{"cut off", func() string { s := issuer.Sign("aud", nil); return s[:len(s)/2] }, "verify ID token: malformed JSON Web Token"},
		{"empty", func() string { return "" }, "verify ID token: not a JSON Web Token"},
		{"huge", func() string { return strings.Repeat("a", 1<<20) }, "verify ID token: is 1048576 bytes long, want at most 65536"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := idtoken.NewVerifier(web.NewClient(web.NewTransport()), func() time.Time { return now }, idtoken.Issuer{URL: issuer.URL()})
			claims, err := v.Verify(context.Background(), secret.New(tt.token()), "aud")
			check(t, err, tt.err, fault.Rejected)
			if err != nil && !claims.IsZero() {
				t.Error("claims came with an error")
			}
			if err == nil && claims.Subject() != "repo:acme/analytics:environment:production" {
				t.Errorf("subject is %q", claims.Subject())
			}
		})
	}
}

func signed(t *testing.T, alg jose.SignatureAlgorithm, key any, opts *jose.SignerOptions, payload any) string {
	t.Helper()
	text, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	return signedText(t, alg, key, opts, text)
}

func signedText(t *testing.T, alg jose.SignatureAlgorithm, key any, opts *jose.SignerOptions, text []byte) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestVerifyTakesEachAlgorithm(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for alg, key := range map[jose.SignatureAlgorithm]crypto.Signer{
		jose.RS256: rsaKey, jose.RS384: rsaKey, jose.RS512: rsaKey, jose.PS256: rsaKey, jose.ES256: p256, jose.ES384: p384, jose.EdDSA: ed,
	} {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			server := serveKeys(t, func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
			})
			token := signed(t, alg, jose.JSONWebKey{Key: key, KeyID: "k"}, nil, map[string]any{"iss": server, "aud": "a", "sub": "s", "exp": time.Now().Add(time.Minute).Unix()})
			claims, err := verifier(idtoken.Issuer{URL: server, JWKS: server}).Verify(context.Background(), secret.New(token), "a")
			check(t, err, "", 0)
			if claims.Subject() != "s" {
				t.Errorf("subject is %q, want %q", claims.Subject(), "s")
			}
		})
	}
}

func serveKeys(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server.URL
}

func TestKeysAreFetchedOnceAndOnceMoreForAnUnknownKey(t *testing.T) {
	t.Parallel()
	issuer := start(t)
	v := verifier(idtoken.Issuer{URL: issuer.URL(), JWKS: issuer.URL() + "/.well-known/jwks"})
	v.Prefetch(context.Background())
	for range 3 {
		_, err := v.Verify(context.Background(), secret.New(issuer.Sign("a", nil)), "a")
		check(t, err, "", 0)
	}
	if got := issuer.Requests("/.well-known/jwks"); got != 1 {
		t.Errorf("keys were fetched %d times, want 1", got)
	}
	if err := issuer.RotateKey(); err != nil {
		t.Fatal(err)
	}
	_, err := v.Verify(context.Background(), secret.New(issuer.Sign("a", nil)), "a")
	check(t, err, "", 0)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	forged := signed(t, jose.RS256, jose.JSONWebKey{Key: key, KeyID: "unknown"}, nil, map[string]any{"iss": issuer.URL(), "aud": "a", "exp": time.Now().Add(time.Minute).Unix()})
	before := issuer.Requests("/.well-known/jwks")
	_, err = v.Verify(context.Background(), secret.New(forged), "a")
	check(t, err, fmt.Sprintf("verify ID token: no key of issuer %q has signed it (key id %q)", issuer.URL(), "unknown"), fault.Rejected)
	if got := issuer.Requests("/.well-known/jwks") - before; got != 1 {
		t.Errorf("an unknown key id cost %d fetches, want 1", got)
	}
	if got := issuer.Requests("/.well-known/openid-configuration"); got != 0 {
		t.Errorf("discovery was asked %d times, want 0: the address was known", got)
	}
}

// TestBadKeyReplies is the table of bad replies for the issuer.
func TestBadKeyReplies(t *testing.T) {
	t.Parallel()
	issuer := start(t)
	token := secret.New(issuer.Sign("a", nil))
	tests := map[string]struct {
		reply http.HandlerFunc
		tries int32
		err   string // behind the place
	}{
		"404":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hunter2", http.StatusNotFound) }, 1, "status is 404, want 200"},
		"500":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hunter2", http.StatusInternalServerError) }, 4, "status is 500, want 200"},
		"html":    {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hunter2") }, 1, "the reply is not the JSON that it should be"},
		"empty":   {func(http.ResponseWriter, *http.Request) {}, 1, "the reply is not the JSON that it should be"},
		"no keys": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[]}`) }, 1, "got no key"},
		"huge":    {func(w http.ResponseWriter, _ *http.Request) { flood(w) }, 1, "reply is larger than 1048576 bytes"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/x", http.StatusFound)
		}, 4, `redirected to host "127.0.0.1:1", redirects are not followed`},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"keys"`)
		}, 4, "unexpected EOF"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			server := serveKeys(t, func(w http.ResponseWriter, r *http.Request) { tries.Add(1); tt.reply(w, r) })
			_, err := verifier(idtoken.Issuer{URL: issuer.URL(), JWKS: server}).Verify(context.Background(), token, "a")
			want := fmt.Sprintf("fetch keys of issuer %q from %s: %s", issuer.URL(), strings.TrimPrefix(server, "http://"), tt.err)
			if name == "no keys" {
				want = fmt.Sprintf("fetch keys of issuer %q: got no key", issuer.URL())
			}
			check(t, err, want, fault.Unreachable)
			if got := tries.Load(); got != tt.tries {
				t.Errorf("tried %d times, want %d", got, tt.tries)
			}
		})
	}
}

func flood(w http.ResponseWriter) {
	chunk := make([]byte, 1<<20)
	for range 64 {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestDiscoveryOfAnotherIssuer(t *testing.T) {
	t.Parallel()
	issuer := start(t)
	_, err := verifier(idtoken.Issuer{URL: issuer.URL() + "/"}).Verify(context.Background(), secret.New(issuer.Sign("a", nil)), "a")
	check(t, err, fmt.Sprintf("fetch keys of issuer %q: its discovery document is of issuer %q", issuer.URL()+"/", issuer.URL()), fault.Rejected)
}

func TestHangingIssuerEndsWithTheContext(t *testing.T) {
	t.Parallel()
	server := serveKeys(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	issuer := start(t)
	begin := time.Now()
	_, err := verifier(idtoken.Issuer{URL: issuer.URL(), JWKS: server}).Verify(ctx, secret.New(issuer.Sign("a", nil)), "a")
	if err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("error is %v after %s, want one at once", err, time.Since(begin))
	}
}

func TestClaimsKeepTheirTypes(t *testing.T) {
	t.Parallel()
	issuer := start(t)
	claims, err := issuer.Claims(context.Background(), "a", map[string]any{"number": 7, "list": []string{"x", "y"}, "mixed": []any{"x", 1}, "object": map[string]any{"a": "b"}, "boolean": true})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"number", "list", "mixed", "object", "boolean", "absent"} {
		if s, ok := claims.String(name); ok {
			t.Errorf("claim %s is the string %q, want none", name, s)
		}
	}
	if list, ok := claims.Strings("list"); !ok || strings.Join(list, " ") != "x y" {
		t.Errorf("list is %q, %v", list, ok)
	}
	if _, ok := claims.Strings("mixed"); ok {
		t.Error("a list with a number passed for strings")
	}
	if !claims.Has("number") || claims.Has("absent") {
		t.Error("Has is wrong")
	}
}

// FuzzVerify: whatever the token, Verify neither panics nor accepts anything
// but what the issuer signed.
func FuzzVerify(f *testing.F) {
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(issuer.Close)
	good := issuer.Sign("a", nil)
	for _, seed := range []string{"", ".", "..", "a.b.c", good, good[:len(good)-3], strings.Replace(good, ".", "..", 1), "eyJhbGciOiJub25lIn0.e30."} {
		f.Add(seed)
	}
	v := verifier(idtoken.Issuer{URL: issuer.URL(), JWKS: issuer.URL() + "/.well-known/jwks"})
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := v.Verify(context.Background(), secret.New(token), "a")
		if err == nil && token != good { // base64 has several spellings of one signature
			parts := strings.Split(token, ".")
			if len(parts) != 3 || parts[1] != strings.Split(good, ".")[1] {
				t.Errorf("accepted %q with subject %q", token, claims.Subject())
			}
		}
	})
}
