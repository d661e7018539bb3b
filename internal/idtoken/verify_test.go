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
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
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
	algorithms := `["RS256" "RS384" "RS512" "PS256" "ES256" "ES384" "ES512" "EdDSA"]`
	tests := []struct {
		name  string
		token func() string
		err   string
	}{
		{"good", sign(nil), ""},
		{"audience in a list", sign(map[string]any{"aud": []string{"other", "aud"}}), ""},
		{"expired 59 s ago", sign(map[string]any{"exp": now.Add(-59 * time.Second).Unix()}), ""},
		{"expired 60 s ago", sign(map[string]any{"exp": now.Add(-60 * time.Second).Unix()}), fmt.Sprintf("verify ID token: it expired at %s, and it is %s now", at(-60*time.Second), at(0))},
		{"expired 61 s ago", sign(map[string]any{"exp": now.Add(-61 * time.Second).Unix()}), fmt.Sprintf("verify ID token: it expired at %s, and it is %s now", at(-61*time.Second), at(0))},
		{"valid in 60 s", sign(map[string]any{"nbf": now.Add(60 * time.Second).Unix()}), ""},
		{"valid in 61 s", sign(map[string]any{"nbf": now.Add(61 * time.Second).Unix()}), fmt.Sprintf("verify ID token: it is not valid before %s, and it is %s now", at(61*time.Second), at(0))},
		{"issued in 61 s", sign(map[string]any{"iat": now.Add(61 * time.Second).Unix()}), fmt.Sprintf("verify ID token: it was issued at %s, and it is %s now", at(61*time.Second), at(0))},
		{"no nbf, no iat", sign(map[string]any{"nbf": nil, "iat": nil}), ""},
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
		}, fmt.Sprintf("verify ID token: not signed by any key of issuer %q (key id %q)", issuer.URL(), "")},
		{"signature of another payload", func() string {
			parts := strings.Split(issuer.Sign("aud", nil), ".")
			p := payload()
			p["repository"] = "acme/analytics"
			return parts[0] + "." + encode(p) + "." + parts[2]
		}, fmt.Sprintf("verify ID token: not signed by any key of issuer %q (key id %q)", issuer.URL(), kid)},
		{"issuer with a slash", sign(map[string]any{"iss": issuer.URL() + "/"}), fmt.Sprintf("verify ID token: issuer is %q, want %q", issuer.URL()+"/", issuer.URL())},
		{"no issuer", sign(map[string]any{"iss": nil}), fmt.Sprintf(`verify ID token: issuer is missing, want %q`, issuer.URL())},
		{"another audience", sign(map[string]any{"aud": "sts.amazonaws.com"}), `verify ID token: audience is ["sts.amazonaws.com"], want "aud"`},
		{"an audience that contains it", sign(map[string]any{"aud": "aud.evil"}), `verify ID token: audience is ["aud.evil"], want "aud"`},
		{"no audience", sign(map[string]any{"aud": nil}), `verify ID token: malformed claims: aud is missing`},
		{"audience a number", sign(map[string]any{"aud": 7}), `verify ID token: malformed claims: aud is a number`},
		{"expired", sign(map[string]any{"exp": now.Add(-2 * time.Minute).Unix()}), fmt.Sprintf("verify ID token: it expired at %s, and it is %s now", at(-2*time.Minute), at(0))},
		{"no subject", sign(map[string]any{"sub": nil}), "verify ID token: it has no subject (sub)"},
		{"empty subject", sign(map[string]any{"sub": ""}), "verify ID token: it has no subject (sub)"},
		{"subject a number", sign(map[string]any{"sub": 7}), "verify ID token: malformed claims: sub is a number"},
		{"subject by another case", sign(map[string]any{"Sub": "repo:acme/evil:environment:production"}), `verify ID token: claim "Sub" differs from "sub" only in letter case`},
		{"audience in another case only", sign(map[string]any{"aud": nil, "AUD": "aud"}), `verify ID token: claim "AUD" differs from "aud" only in letter case`},
		{"issuer with a long s", sign(map[string]any{"is\u017f": "x"}), "verify ID token: claim \"is\u017f\" differs from \"iss\" only in letter case"},
		{"issuer a list", sign(map[string]any{"iss": []string{issuer.URL()}}), "verify ID token: malformed claims: iss is a list"},
		{"audience with a number", sign(map[string]any{"aud": []any{"aud", 7}}), "verify ID token: malformed claims: aud is a list"},
		{"audience an empty list", sign(map[string]any{"aud": []string{}}), `verify ID token: audience is [], want "aud"`},
		{"expiry an object", sign(map[string]any{"exp": map[string]any{}}), `verify ID token: claim "exp" is an object, want a number of seconds`},
		{"expiry null", func() string {
			text := fmt.Sprintf(`{"iss":%q,"aud":"aud","sub":"s","exp":null}`, issuer.URL())
			return signedText(t, jose.RS256, jose.JSONWebKey{Key: key, KeyID: kid}, nil, []byte(text))
		}, `verify ID token: claim "exp" is missing, want a number of seconds`},
		{"a claim twice by escapes", func() string {
			text := fmt.Sprintf(`{"iss":%q,"aud":"aud","sub":"s","s\u0075b":"evil","exp":%d}`, issuer.URL(), now.Add(time.Minute).Unix())
			return signedText(t, jose.RS256, jose.JSONWebKey{Key: key, KeyID: kid}, nil, []byte(text))
		}, `verify ID token: duplicate claim "sub"`},
		{"a nonce of another type", sign(map[string]any{"nonce": 7}), "verify ID token: malformed claims"},
		{"payload not JSON", func() string {
			return signedText(t, jose.RS256, jose.JSONWebKey{Key: key, KeyID: kid}, nil, []byte(`{"iss":`))
		}, "verify ID token: its payload is not a JSON object"},
		{"unknown critical header", func() string {
			input := encode(map[string]any{"alg": "RS256", "kid": kid, "crit": []string{"exp"}, "exp": 1}) + "." + encode(payload())
			return input + "." + rs256(t, key, input)
		}, fmt.Sprintf("verify ID token: not signed by any key of issuer %q (key id %q)", issuer.URL(), kid)},
		{"PS256 with a key that is offered for RS256", func() string {
			return signed(t, jose.PS256, jose.JSONWebKey{Key: key, KeyID: kid}, nil, payload())
		}, fmt.Sprintf(`verify ID token: key %q of issuer %q cannot verify it: its alg is "RS256", the token's is "PS256"`, kid, issuer.URL())},
		{"no key id", func() string { return signed(t, jose.RS256, key, nil, payload()) }, ""},
		{"ES256 as a key id", func() string {
			own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			return signed(t, jose.ES256, jose.JSONWebKey{Key: own, KeyID: kid}, nil, payload())
		}, fmt.Sprintf(`verify ID token: key %q of issuer %q cannot verify it: its alg is "RS256", the token's is "ES256"`, kid, issuer.URL())},
		{"JSON form, with an unsigned header", func() string {
			parts := strings.Split(issuer.Sign("aud", nil), ".")
			return fmt.Sprintf(`{"payload":%q,"protected":%q,"header":{"jku":"https://evil.example"},"signature":%q}`, parts[1], parts[0], parts[2])
		}, "verify ID token: malformed JSON Web Token"},
		{"white space in it", func() string { return strings.Replace(issuer.Sign("aud", nil), ".", ".\n", 1) }, "verify ID token: malformed JSON Web Token"},
		{"white space behind it", func() string { return issuer.Sign("aud", nil) + "\n" }, "verify ID token: malformed JSON Web Token"},
		{"encrypted", func() string { return issuer.Sign("aud", nil) + ".a.b" }, "verify ID token: malformed JSON Web Token"},
		{"signature left out", func() string {
			s := issuer.Sign("aud", nil)
			return s[:strings.LastIndex(s, ".")+1]
		}, fmt.Sprintf("verify ID token: not signed by any key of issuer %q (key id %q)", issuer.URL(), kid)},
		{"no expiry", sign(map[string]any{"exp": nil}), "verify ID token: it has no expiry (exp)"},
		{"expiry a string", sign(map[string]any{"exp": "1790000000"}), `verify ID token: claim "exp" is a string, want a number of seconds`},
		{"expiry beyond reason", sign(map[string]any{"exp": 1e300}), `verify ID token: claim "exp" is a number, want a number of seconds`},
		{"not yet valid", sign(map[string]any{"nbf": now.Add(2 * time.Minute).Unix()}), fmt.Sprintf("verify ID token: it is not valid before %s, and it is %s now", at(2*time.Minute), at(0))},
		{"issued in the future", sign(map[string]any{"iat": now.Add(2 * time.Minute).Unix()}), fmt.Sprintf("verify ID token: it was issued at %s, and it is %s now", at(2*time.Minute), at(0))},
		{"an issuer claim by another case", sign(map[string]any{"Iss": "x"}), `verify ID token: claim "Iss" differs from "iss" only in letter case`},
		{"a claim twice", func() string {
			text := fmt.Sprintf(`{"iss":%q,"aud":"aud","exp":%d,"environment":"staging","environment":"production"}`, issuer.URL(), now.Add(time.Minute).Unix())
			return signedText(t, jose.RS256, jose.JSONWebKey{Key: key, KeyID: kid}, nil, []byte(text))
		}, `verify ID token: duplicate claim "environment"`},
		{"payload a list", func() string {
			return signedText(t, jose.RS256, jose.JSONWebKey{Key: key, KeyID: kid}, nil, []byte(`[1]`))
		}, `verify ID token: its payload is not a JSON object`},
		{"not a token", func() string { return "opaque" }, "verify ID token: not a JSON Web Token"},
		{"cut off", func() string { s := issuer.Sign("aud", nil); return s[:len(s)/2] }, "verify ID token: malformed JSON Web Token"},
		{"empty", func() string { return "" }, "verify ID token: not a JSON Web Token"},
		{"huge", func() string { return strings.Repeat("a", 1<<20) }, "verify ID token: token is 1048576 bytes long, want at most 65536"},
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

func rs256(t *testing.T, key crypto.Signer, input string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(input))
	signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(signature)
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
	check(t, err, fmt.Sprintf("verify ID token: not signed by any key of issuer %q (key id %q)", issuer.URL(), "unknown"), fault.Rejected)
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
	const many = 0 // as many as there is time for
	tests := map[string]struct {
		reply http.HandlerFunc
		tries int32
		err   string // behind the place
	}{
		"404":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hunter2", http.StatusNotFound) }, 1, "status is 404, want 200"},
		"500":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hunter2", http.StatusInternalServerError) }, many, "status is 500, want 200"},
		"html":    {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hunter2") }, 1, "unexpected reply, want a JSON object"},
		"empty":   {func(http.ResponseWriter, *http.Request) {}, many, "unexpected reply, want a JSON object"},
		"no keys": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[]}`) }, 1, "the key set contains no key of a known type"},
		"huge":    {func(w http.ResponseWriter, _ *http.Request) { flood(w) }, 1, "reply is larger than 1048576 bytes"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/x", http.StatusFound)
		}, 1, `redirected to host "127.0.0.1:1", redirects are not followed`},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"keys"`)
		}, many, "the server closed the connection"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			server := serveKeys(t, func(w http.ResponseWriter, r *http.Request) { tries.Add(1); tt.reply(w, r) })
			ctx, _ := web.WithBudget(context.Background(), 5*time.Second)
			_, err := verifier(idtoken.Issuer{URL: issuer.URL(), JWKS: server}).Verify(ctx, token, "a")
			want := fmt.Sprintf("fetch keys of issuer %q from %s: %s", issuer.URL(), strings.TrimPrefix(server, "http://"), tt.err)
			if name == "no keys" {
				want = fmt.Sprintf("fetch keys of issuer %q: the key set contains no key of a known type", issuer.URL())
			}
			check(t, err, want, fault.Unreachable)
			if got := tries.Load(); tt.tries == many && got < 2 || tt.tries != many && got != tt.tries {
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
	check(t, err, fmt.Sprintf("fetch keys of issuer %q: its discovery document names issuer %q", issuer.URL()+"/", issuer.URL()), fault.Rejected)
}

func TestHangingIssuerEndsWithTheContext(t *testing.T) {
	t.Parallel()
	server := serveKeys(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	issuer := start(t)
	v := verifier(idtoken.Issuer{URL: issuer.URL(), JWKS: server})
	v.Prefetch(context.Background()) // or its request might end first
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := v.Verify(ctx, secret.New(issuer.Sign("a", nil)), "a")
	check(t, err, fmt.Sprintf("fetch keys of issuer %q: context deadline exceeded", issuer.URL()), fault.Unreachable)
}

// TestNoAudience: without one, go-oidc would accept any.
func TestNoAudience(t *testing.T) {
	t.Parallel()
	issuer := start(t)
	_, err := verifier(idtoken.Issuer{URL: issuer.URL()}).Verify(context.Background(), secret.New(issuer.Sign("a", nil)), "")
	check(t, err, "verify ID token: no audience given", fault.Rejected)
}

// TestFailedFetchIsNotKept: an issuer that was down for one token is asked again for the next.
func TestFailedFetchIsNotKept(t *testing.T) {
	t.Parallel()
	issuer := start(t)
	key, kid := issuer.Key()
	var tries atomic.Int32
	server := serveKeys(t, func(w http.ResponseWriter, _ *http.Request) {
		if tries.Add(1) == 1 {
			http.Error(w, "down", http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: kid}}})
	})
	v := verifier(idtoken.Issuer{URL: issuer.URL(), JWKS: server})
	token := secret.New(issuer.Sign("a", nil))
	_, err := v.Verify(context.Background(), token, "a")
	check(t, err, fmt.Sprintf("fetch keys of issuer %q from %s: status is 404, want 200", issuer.URL(), strings.TrimPrefix(server, "http://")), fault.Unreachable)
	_, err = v.Verify(context.Background(), token, "a")
	check(t, err, "", 0)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestAddressOfKeys checks which of an issuer's URLs are requested, in order.
func TestAddressOfKeys(t *testing.T) {
	t.Parallel()
	const discovery = "/.well-known/openid-configuration"
	tests := []struct {
		issuer idtoken.Issuer
		want   string
	}{
		{idtoken.Issuer{URL: "https://token.actions.githubusercontent.com"}, "https://token.actions.githubusercontent.com/.well-known/jwks"},
		{idtoken.Issuer{URL: "https://token.actions.githubusercontent.com/acme-corp"}, "https://token.actions.githubusercontent.com/acme-corp/.well-known/jwks"},
		{idtoken.Issuer{URL: "https://token.actions.acme.ghe.com"}, "https://token.actions.acme.ghe.com/.well-known/jwks"},
		{idtoken.Issuer{URL: "https://github.acme.example/_services/token"}, "https://github.acme.example/_services/token/.well-known/jwks"},
		{idtoken.Issuer{URL: "https://gitlab.com"}, "https://gitlab.com" + discovery},
		{idtoken.Issuer{URL: "https://gitlab.com", JWKS: "https://gitlab.com/oauth/discovery/keys"}, "https://gitlab.com/oauth/discovery/keys"},
		{idtoken.Issuer{URL: "https://token.actions.githubusercontent.com/"}, "https://token.actions.githubusercontent.com" + discovery},
		{idtoken.Issuer{URL: "https://token.actions.githubusercontent.com.evil.example"}, "https://token.actions.githubusercontent.com.evil.example" + discovery},
		{idtoken.Issuer{URL: "https://evil.example/#/_services/token"}, "https://evil.example/"},
	}
	issuer := start(t)
	token := secret.New(issuer.Sign("a", nil))
	for _, tt := range tests {
		var asked []string
		client := web.NewClient(roundTripper(func(req *http.Request) (*http.Response, error) {
			asked = append(asked, req.URL.Scheme+"://"+req.URL.Host+req.URL.Path)
			return &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody}, nil
		}))
		if _, err := idtoken.NewVerifier(client, time.Now, tt.issuer).Verify(context.Background(), token, "a"); fault.ClassOf(err) != fault.Unreachable {
			t.Errorf("%s: error is %v", tt.issuer.URL, err)
		}
		if got := strings.Join(asked, " "); got != tt.want {
			t.Errorf("%s: asked %s, want %s", tt.issuer.URL, got, tt.want)
		}
	}
}

// TestDiscovery checks where the document may point to.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	const scheme = `jwks_uri of its discovery document: scheme is "http", want https (http is for loopback only)`
	for jwks, want := range map[string]string{
		"$SERVER/keys":             "",
		"$SERVER/keys?p=b2c":       "",
		"http://evil.example/keys": scheme,
		"":                         "jwks_uri of its discovery document: has no host, want https://HOST",
		"file:///etc/passwd":       "jwks_uri of its discovery document: has no host, want https://HOST",
	} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		var server string
		server = serveKeys(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
				return
			}
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, server, strings.Replace(jwks, "$SERVER", server, 1))
		})
		token := signed(t, jose.ES256, jose.JSONWebKey{Key: key, KeyID: "k"}, nil, map[string]any{"iss": server, "aud": "a", "sub": "s", "exp": time.Now().Add(time.Minute).Unix()})
		_, err = verifier(idtoken.Issuer{URL: server}).Verify(context.Background(), secret.New(token), "a")
		if want != "" {
			want = fmt.Sprintf("fetch keys of issuer %q: %s", server, want)
		}
		check(t, err, want, fault.Unreachable)
	}
}

// TestKeysThatMustNotVerify publishes keys that are not public signature keys.
// The token's signature is valid by each of them that is a key at all.
func TestKeysThatMustNotVerify(t *testing.T) {
	t.Parallel()
	const kid = "k"
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// published returns a key as JSON, changed; null leaves a member out.
	published := func(key any, changes string) string {
		text, err := json.Marshal(jose.JSONWebKey{Key: key, KeyID: kid})
		if err != nil {
			t.Fatal(err)
		}
		members := map[string]any{}
		if err := errors.Join(json.Unmarshal(text, &members), json.Unmarshal([]byte(changes), &members)); err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(members, func(_ string, v any) bool { return v == nil })
		if text, err = json.Marshal(members); err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	public := func(changes string) string { return published(rsaKey.Public(), changes) }
	curve := func(changes string) string { return published(ecKey.Public(), changes) }
	modulus := func(bits int) string { // of that many bits, all of them set
		n := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(bits)), big.NewInt(1))
		return public(fmt.Sprintf(`{"n":%q}`, base64.RawURLEncoding.EncodeToString(n.Bytes())))
	}
	const symmetric = `{"kty":"oct","kid":"k","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`
	const isSymmetric = "it is symmetric: anyone who can verify with it could also sign"
	byRSA, byEC := tokensBy(t, jose.RS256, rsaKey, kid), tokensBy(t, jose.ES256, ecKey, kid)
	byES384 := tokensBy(t, jose.ES384, p384, kid)
	for _, tt := range []struct {
		name, set string
		token     func(issuer string) string
		why       string // "" if the token is accepted
	}{
		{"as it should be", public(`{"use":"sig","alg":"RS256","key_ops":["verify"]}`), byRSA, ""},
		{"only the key", public(`{}`), byRSA, ""},
		{"for more than signatures", public(`{"key_ops":["encrypt","verify"]}`), byRSA, ""},
		{"key_ops null", public(`{}`)[:1] + `"key_ops":null,` + public(`{}`)[1:], byRSA, `its key_ops are [], want "verify" among them`},
		{"of 4096 bits", modulus(4096), byRSA, "not signed by any key"},
		{"private", published(rsaKey, `{}`), byRSA, "it is a private key: anyone who reads it could sign with it"},
		{"private, on a curve", published(ecKey, `{}`), byEC, "it is a private key: anyone who reads it could sign with it"},
		{"for a SPIFFE trust domain's JWTs", public(`{"use":"jwt-svid"}`), byRSA, ""},
		{"for its certificates", public(`{"use":"x509-svid"}`), byRSA, `its use is "x509-svid", want "sig"`},
		{"for encryption", public(`{"use":"enc"}`), byRSA, `its use is "enc", want "sig"`},
		{"for encryption, on a curve", curve(`{"use":"enc"}`), byEC, `its use is "enc", want "sig"`},
		{"use by another case", public(`{"use":"SIG"}`), byRSA, `its use is "SIG", want "sig"`},
		{"for encryption and signatures", public(`{"use":"enc","key_ops":["verify"]}`), byRSA, `its use is "enc", want "sig"`},
		{"key_ops without verify", public(`{"key_ops":["encrypt","wrapKey"]}`), byRSA, `its key_ops are ["encrypt" "wrapKey"], want "verify" among them`},
		{"key_ops of the private key", curve(`{"use":"sig","key_ops":["sign"]}`), byEC, `its key_ops are ["sign"], want "verify" among them`},
		{"no key_ops at all", public(`{"key_ops":[]}`), byRSA, `its key_ops are [], want "verify" among them`},
		{"key_ops by another case", public(`{"key_ops":["Verify"]}`), byRSA, `its key_ops are ["Verify"], want "verify" among them`},
		{"key_ops a string", public(`{"key_ops":"verify"}`), byRSA, "its key_ops are not a list of strings"},
		{"key_ops with a number", public(`{"key_ops":["verify",7]}`), byRSA, "its key_ops are not a list of strings"},
		{"another algorithm", public(`{"alg":"RS384"}`), byRSA, `its alg is "RS384", the token's is "RS256"`},
		{"an algorithm for encryption", public(`{"alg":"RSA-OAEP"}`), byRSA, `its alg is "RSA-OAEP", the token's is "RS256"`},
		{"of 1024 bits", modulus(1024), byRSA, "it has 1024 bits, want 2048 to 4096"},
		{"of 2047 bits", modulus(2047), byRSA, "it has 2047 bits, want 2048 to 4096"},
		{"of 4097 bits", modulus(4097), byRSA, "it has 4097 bits, want 2048 to 4096"},
		{"of 100,000 bits", modulus(100_000), byRSA, "it has 100000 bits, want 2048 to 4096"},
		{"exponent 1", public(`{"e":"AQ"}`), byRSA, "its exponent is 1, want an odd number of 3 or more"},
		{"exponent 0", public(`{"e":"AA"}`), byRSA, "its exponent is 0, want an odd number of 3 or more"},
		{"even exponent", public(`{"e":"AQAA"}`), byRSA, "its exponent is 65536, want an odd number of 3 or more"},
		{"exponent of 40 bits", public(`{"e":"gAAAAAE"}`), byRSA, "its exponent is larger than 31 bits"},
		{"no modulus", public(`{"n":null}`), byRSA, "it has 0 bits, want 2048 to 4096"},
		{"a modulus in another base64", public(`{"n":"+/=="}`), byRSA, "it is malformed"},
		{"symmetric", symmetric, byRSA, isSymmetric},
		{"symmetric, by its algorithm", `{"kty":"oct","kid":"k","alg":"RS256","use":"sig","k":"AAAA"}`, byRSA, isSymmetric},
		{"a point off the curve", curve(`{"y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`), byEC, "it is malformed"},
		{"a coordinate cut short", curve(`{"y":"AAAA"}`), byEC, "it is malformed"},
		{"an unknown curve", curve(`{"crv":"secp256k1"}`), byEC, "it is malformed"},
		{"a curve too wide", published(p521.Public(), `{}`), byEC, `it is an EC key on P-521, and the token's alg is "ES256"`},
		{"a curve too wide, the token's own", published(p384.Public(), `{}`), byEC, `it is an EC key on P-384, and the token's alg is "ES256"`},
		{"a curve too narrow", curve(`{}`), byES384, `it is an EC key on P-256, and the token's alg is "ES384"`},
		{"of another kind than the algorithm", curve(`{}`), byRSA, `it is an EC key on P-256, and the token's alg is "RS256"`},
		{"RSA for a curve's algorithm", public(`{}`), byEC, `it is an RSA key, and the token's alg is "ES256"`},
		{"for an exchange of keys", `{"kty":"OKP","crv":"X25519","kid":"k","x":"hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo"}`, byRSA, "it is malformed"},
		{"of no known type", `{"kty":"AKP","kid":"k"},null,7,` + curve(`{"kid":"other"}`), byRSA, "not signed by any key"},
		// Several keys with one id: the fit one counts, in any order.
		{"with another kind's id", curve(`{}`) + "," + public(`{}`), byRSA, ""},
		{"with another kind's id, before", public(`{}`) + "," + curve(`{}`), byRSA, ""},
		{"with a symmetric one's id", symmetric + "," + public(`{}`), byRSA, ""},
		{"with an encryption key's id", public(`{"use":"enc"}`) + "," + public(`{"use":"sig"}`), byRSA, ""},
		{"two, neither of them fit", symmetric + "," + public(`{"use":"enc"}`), byRSA, isSymmetric},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := serveKeys(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"keys":[%s]}`, tt.set) })
			_, err := verifier(idtoken.Issuer{URL: server, JWKS: server}).Verify(context.Background(), secret.New(tt.token(server)), "a")
			want := ""
			switch tt.why {
			case "":
			case "not signed by any key":
				want = fmt.Sprintf("verify ID token: not signed by any key of issuer %q (key id %q)", server, kid)
			default:
				want = fmt.Sprintf("verify ID token: key %q of issuer %q cannot verify it: %s", kid, server, tt.why)
			}
			check(t, err, want, fault.Rejected)
		})
	}
}

// tokensBy returns good tokens of an issuer.
func tokensBy(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string) func(issuer string) string {
	return func(issuer string) string {
		t.Helper()
		return signed(t, alg, jose.JSONWebKey{Key: key, KeyID: kid}, nil, map[string]any{"iss": issuer, "aud": "a", "sub": "s", "exp": time.Now().Add(time.Minute).Unix()})
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

// FuzzVerify: for any token, including a good one with one byte changed, Verify
// neither panics nor accepts anything but what the issuer signed.
func FuzzVerify(f *testing.F) {
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(issuer.Close)
	good := issuer.Sign("a", nil)
	v := verifier(idtoken.Issuer{URL: issuer.URL(), JWKS: issuer.URL() + "/.well-known/jwks"})
	f.Fuzz(func(t *testing.T, token string, at uint16, flip byte) {
		if token == "good" {
			bytes := []byte(good)
			bytes[int(at)%len(bytes)] ^= flip
			token = string(bytes)
		}
		claims, err := v.Verify(context.Background(), secret.New(token), "a")
		if (err == nil) == claims.IsZero() {
			t.Errorf("claims and error %v", err)
		}
		if err == nil && decoded(token) != decoded(good) {
			t.Errorf("accepted %q with subject %q", token, claims.Subject())
		}
	})
}

// decoded is a token's bytes: the last character of a part has unused bits.
func decoded(token string) (all string) {
	for part := range strings.SplitSeq(token, ".") {
		bytes, err := base64.RawURLEncoding.DecodeString(part)
		all += fmt.Sprintf("%q %v.", bytes, err)
	}
	return all
}

// FuzzClaims: for any payload that the issuer signs, an accepted one is for this
// issuer, audience and time by a second parser, and each claim has the value
// under exactly its name.
func FuzzClaims(f *testing.F) {
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(issuer.Close)
	key, kid := issuer.Key()
	now := time.Unix(1790000000, 0)
	v := idtoken.NewVerifier(web.NewClient(web.NewTransport()), func() time.Time { return now }, idtoken.Issuer{URL: issuer.URL()})
	f.Fuzz(func(t *testing.T, payload string) {
		payload = strings.ReplaceAll(payload, "$ISSUER", issuer.URL())
		input := encode(map[string]any{"alg": "RS256", "kid": kid}) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
		claims, err := v.Verify(context.Background(), secret.New(input+"."+rs256(t, key, input)), "a")
		if err != nil {
			if fault.ClassOf(err) != fault.Rejected || !strings.HasPrefix(err.Error(), "verify ID token: ") {
				t.Errorf("error is %v (%s)", err, fault.ClassOf(err))
			}
			return
		}
		var second map[string]any
		if err := json.Unmarshal([]byte(payload), &second); err != nil {
			t.Fatalf("accepted %q: %v", payload, err)
		}
		list, _ := second["aud"].([]any)
		if second["iss"] != issuer.URL() || second["aud"] != "a" && !slices.Contains(list, any("a")) || second["exp"].(float64) <= float64(now.Add(-60*time.Second).Unix()) {
			t.Errorf("accepted %q", payload)
		}
		for name, want := range second {
			got, ok := claims.String(name)
			if s, isString := want.(string); isString != ok || s != got {
				t.Errorf("claim %q is %q, %v, in %q", name, got, ok, payload)
			}
		}
		if len(claims.Names()) != len(second) || claims.Subject() == "" {
			t.Errorf("claims are %q in %q", claims.Names(), payload)
		}
	})
}
