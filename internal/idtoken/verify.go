// Package idtoken verifies ID tokens: its Claims come only from a current token that the
// policy's issuer signed for this audience.
package idtoken

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// skew is how far the clocks of issuer and runner may differ.
const skew = 60 * time.Second

// maxToken bounds what is parsed. GitHub's tokens are under 3 KiB.
const maxToken = 64 << 10

// algorithms are asymmetric only. With an HMAC, anyone with the public key
// could sign; with "none", anyone at all.
var algorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}

// A Verifier verifies the ID tokens of one issuer.
type Verifier struct {
	issuer Issuer
	client *http.Client
	now    func() time.Time
	mu     sync.Mutex
	keys   *fetch
}

// fetch is one fetch of the issuer's keys, running or done.
type fetch struct {
	done chan struct{}
	set  []key
	err  error
}

// NewVerifier returns a Verifier. client comes from web.NewClient.
func NewVerifier(client *http.Client, now func() time.Time, issuer Issuer) *Verifier {
	return &Verifier{issuer: issuer, client: client, now: now}
}

// Prefetch starts to fetch the issuer's keys and returns at once. Verify
// waits for them.
func (v *Verifier) Prefetch(ctx context.Context) { v.current(ctx) }

func (v *Verifier) current(ctx context.Context) *fetch {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys == nil {
		v.keys = v.start(ctx)
	}
	return v.keys
}

// refetch replaces the keys of old by newly fetched ones, once for all callers.
func (v *Verifier) refetch(ctx context.Context, old *fetch) *fetch {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys == old {
		v.keys = v.start(ctx)
	}
	return v.keys
}

func (v *Verifier) start(ctx context.Context) *fetch {
	f := &fetch{done: make(chan struct{})}
	go func() {
		defer close(f.done)
		f.set, f.err = v.fetchKeys(ctx)
	}()
	return f
}

func (v *Verifier) wait(ctx context.Context, f *fetch) ([]key, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, fault.New(fault.Unreachable, fmt.Errorf("fetch keys of issuer %q: %w", v.issuer.URL, ctx.Err()), "")
	}
	if f.err != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.keys == f {
			v.keys = nil // the next Verify tries again
		}
	}
	return f.set, f.err
}

// Verify checks the token's signature, issuer, audience and times and returns
// its claims. Errors are of class Rejected, or Unreachable if the issuer's keys
// cannot be fetched.
func (v *Verifier) Verify(ctx context.Context, idToken secret.Value, audience string) (Claims, error) {
	raw := idToken.Reveal()
	switch {
	case audience == "":
		return Claims{}, reject("no audience given") // a bug: go-oidc would accept any
	case len(raw) > maxToken:
		return Claims{}, reject("token is %d bytes long, want at most %d", len(raw), maxToken)
	case !strings.Contains(raw, "."):
		return Claims{}, reject("not a JSON Web Token")
	case !compact.MatchString(raw):
		return Claims{}, reject("malformed JSON Web Token")
	}
	keys := &keySet{verifier: v}
	// go-oidc's own check allows no skew for exp and five minutes for nbf;
	// checkTimes allows the same for both.
	verifier := oidc.NewVerifier(v.issuer.URL, keys,
		&oidc.Config{ClientID: audience, SupportedSigningAlgs: algorithms, SkipExpiryCheck: true, SkipIssuerCheck: true})
	token, err := verifier.Verify(ctx, raw)
	switch {
	case keys.err != nil:
		return Claims{}, keys.err
	case err != nil && token == nil:
		return Claims{}, v.explain(raw, audience, keys)
	}
	var payload json.RawMessage
	if err := token.Claims(&payload); err != nil {
		return Claims{}, reject("its payload is not a JSON object")
	}
	values, err := decode(payload)
	if err != nil {
		return Claims{}, reject("%v", err)
	}
	iss, ok := values["iss"].(string)
	if !ok {
		return Claims{}, reject("issuer is %s, want %q", kind(values["iss"]), v.issuer.URL)
	}
	if iss != v.issuer.URL {
		return Claims{}, fault.New(fault.Rejected, fmt.Errorf("verify ID token: issuer is %q, want %q", iss, v.issuer.URL),
			"the issuer in the policy's `identities` must match the token's exactly")
	}
	if sub, _ := values["sub"].(string); sub == "" { // required: OpenID Connect Core, 2
		return Claims{}, reject("it has no subject (sub)")
	}
	expiry, err := checkTimes(values, v.now())
	if err != nil {
		return Claims{}, err
	}
	return Claims{values: values, expiry: expiry}, nil
}

// compact is the only form of a JSON Web Token (RFC 7519, 3). The parser also
// accepts JSON, with unsigned headers, and skips white space.
var compact = lazy.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*$`)

func reject(format string, args ...any) error {
	return fault.New(fault.Rejected, fmt.Errorf("verify ID token: "+format, args...), "")
}

// explain says why go-oidc refused a token. It reads the token unverified, only
// for the error's text.
func (v *Verifier) explain(raw, audience string, keys *keySet) error {
	jws, perr := jose.ParseSignedCompact(raw, joseAlgorithms())
	if perr != nil {
		var unknown *jose.ErrUnexpectedSignatureAlgorithm
		if errors.As(perr, &unknown) {
			return reject("algorithm is %q, want one of %q", unknown.Got, algorithms)
		}
		return reject("malformed JSON Web Token")
	}
	if kid := jws.Signatures[0].Header.KeyID; keys.refused && keys.unfit != "" {
		return reject("key %q of issuer %q cannot verify it: %s", kid, v.issuer.URL, keys.unfit)
	}
	if keys.refused {
		return reject("not signed by any key of issuer %q (key id %q)", v.issuer.URL, jws.Signatures[0].Header.KeyID)
	}
	// The signature is valid, so these claims come from the issuer.
	values, derr := decode(jws.UnsafePayloadWithoutVerification())
	if derr != nil {
		return reject("%v", derr)
	}
	if aud, ok := audiences(values["aud"]); ok && !slices.Contains(aud, audience) {
		return reject("audience is %q, want %q", aud, audience)
	}
	for _, name := range []string{"iss", "sub"} {
		if _, ok := values[name].(string); !ok {
			return reject("malformed claims: %s is %s", name, kind(values[name]))
		}
	}
	if _, ok := audiences(values["aud"]); !ok {
		return reject("malformed claims: aud is %s", kind(values["aud"]))
	}
	if _, err := checkTimes(values, v.now()); err != nil {
		return err
	}
	return reject("malformed claims")
}

func audiences(v any) ([]string, bool) {
	if s, ok := v.(string); ok {
		return []string{s}, true
	}
	return Claims{values: map[string]any{"aud": v}}.Strings("aud")
}

// decode decodes a payload. It refuses duplicate names: two parsers could see
// two different values.
func decode(payload []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("its payload is not a JSON object")
	}
	values := map[string]any{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("its payload is not a JSON object")
		}
		if _, twice := values[name]; twice {
			return nil, fmt.Errorf("duplicate claim %q", name)
		}
		value, err := nested(dec, maxDepth)
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	for _, name := range []string{"iss", "sub", "aud", "exp", "nbf", "iat"} {
		for other := range values {
			// encoding/json, which go-oidc uses, accepts "Aud" for aud.
			if other != name && strings.EqualFold(other, name) {
				return nil, fmt.Errorf("claim %q differs from %q only in letter case", other, name)
			}
		}
	}
	return values, nil
}

// maxDepth bounds objects in objects: the deepest claim that is known has four.
const maxDepth = 16

// nested reads the decoder's next value. In objects of it, too, names occur once.
func nested(dec *json.Decoder, depth int) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, errors.New("its payload is not a JSON object")
	}
	open, is := t.(json.Delim)
	switch {
	case !is:
		return t, nil
	case depth == 0:
		return nil, fmt.Errorf("a claim has more than %d objects or lists in each other", maxDepth)
	}
	object, list := map[string]any{}, []any{}
	for dec.More() {
		name := ""
		if open == '{' {
			key, err := dec.Token()
			if err != nil {
				return nil, errors.New("its payload is not a JSON object")
			}
			name, _ = key.(string)
			if _, twice := object[name]; twice {
				return nil, fmt.Errorf("duplicate name %q in a claim", name)
			}
		}
		value, err := nested(dec, depth-1)
		if err != nil {
			return nil, err
		}
		object[name], list = value, append(list, value)
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("its payload is not a JSON object")
	}
	if open == '{' {
		return object, nil
	}
	return list, nil
}

// checkTimes checks exp, nbf and iat against now and returns exp.
func checkTimes(values map[string]any, now time.Time) (time.Time, error) {
	times := map[string]time.Time{}
	for _, name := range []string{"exp", "nbf", "iat"} {
		v, ok := values[name]
		if !ok {
			continue
		}
		n, isNumber := v.(json.Number)
		seconds, err := n.Float64()
		if !isNumber || err != nil || math.Abs(seconds) > 1e11 { // the year 5138; beyond it times overflow
			return time.Time{}, reject("claim %q is %s, want a number of seconds", name, kind(v))
		}
		times[name] = time.Unix(int64(seconds), 0).UTC()
	}
	exp, ok := times["exp"]
	if !ok {
		return exp, reject("it has no expiry (exp)")
	}
	now = now.UTC().Truncate(time.Second)
	if !now.Before(exp.Add(skew)) {
		return exp, fault.New(fault.Rejected,
			fmt.Errorf("verify ID token: it expired at %s, and it is %s now", exp.Format(time.RFC3339), now.Format(time.RFC3339)),
			"compare the runner's clock with the issuer's: they may differ by 60 s at most")
	}
	for _, c := range []struct{ name, what string }{{"nbf", "is not valid before"}, {"iat", "was issued at"}} {
		if at, ok := times[c.name]; ok && now.Add(skew).Before(at) {
			return exp, fault.New(fault.Rejected,
				fmt.Errorf("verify ID token: it %s %s, and it is %s now", c.what, at.Format(time.RFC3339), now.Format(time.RFC3339)),
				"compare the runner's clock with the issuer's: they may differ by 60 s at most")
		}
	}
	return exp, nil
}

func kind(v any) string {
	switch v.(type) {
	case nil:
		return "missing"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return "a boolean"
	case []any:
		return "a list"
	default:
		return "an object"
	}
}

// keySet checks one token's signature with the Verifier's keys. It implements
// go-oidc's KeySet: RemoteKeySet cannot be prefetched and does not distinguish
// an unknown key from an unreachable issuer.
type keySet struct {
	verifier *Verifier
	err      error  // why the keys could not be fetched
	refused  bool   // no key verifies the signature
	unfit    string // why the first candidate key is unfit, if all candidates are
}

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(jwt, joseAlgorithms())
	if err != nil {
		return nil, err
	}
	header := jws.Signatures[0].Header
	kid := header.KeyID
	fetched := k.verifier.current(ctx)
	for try := range 2 {
		set, err := k.verifier.wait(ctx, fetched)
		if err != nil {
			k.err = err
			return nil, err
		}
		known := false
		k.unfit = ""
		for _, key := range set {
			// Only the issuer's published keys count: a key or its URL in the
			// token's own header (jwk, jku, x5u) is ignored.
			if kid != "" && key.KeyID != kid {
				continue
			}
			// Keys may share an id, as an RSA key and an EC key do.
			if why := key.suits(header.Algorithm); why != "" {
				if k.unfit == "" && (kid != "" || len(set) == 1) {
					k.unfit = why
				}
				continue
			}
			known = true
			if payload, err := jws.Verify(key.Key); err == nil && saltHolds(key, jwt, jws.Signatures[0]) {
				return payload, nil
			}
		}
		if known {
			k.unfit = ""
		}
		if known || try == 1 {
			break
		}
		fetched = k.verifier.refetch(ctx, fetched) // once, as the issuer may have rotated its keys
	}
	k.refused = true
	return nil, errors.New("no key verifies the signature")
}

func joseAlgorithms() []jose.SignatureAlgorithm {
	list := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		list[i] = jose.SignatureAlgorithm(a)
	}
	return list
}

// fetchKeys fetches the issuer's keys, after discovery if their URL is not
// known.
func (v *Verifier) fetchKeys(ctx context.Context) ([]key, error) {
	if v.issuer.Keys != nil {
		set, err := readKeys(v.issuer.Keys)
		if err != nil {
			return nil, fault.New(fault.Usage, fmt.Errorf("read the keys of issuer %q: the key set %w", v.issuer.URL, err), "")
		}
		return set, nil
	}
	address := v.issuer.keys()
	if address == "" {
		var document struct {
			Issuer string `json:"issuer"`
			JWKS   string `json:"jwks_uri"`
		}
		where := strings.TrimSuffix(v.issuer.URL, "/") + "/.well-known/openid-configuration"
		if err := v.get(ctx, where, &document); err != nil {
			return nil, err
		}
		if document.Issuer != v.issuer.URL {
			return nil, fault.New(fault.Rejected,
				fmt.Errorf("fetch keys of issuer %q: its discovery document names issuer %q", v.issuer.URL, document.Issuer),
				"the issuer in the policy's `identities` must match the token's exactly")
		}
		base, _, _ := strings.Cut(document.JWKS, "?") // some issuers have a tenant's policy in the query
		if _, err := web.CheckURL(base); err != nil {
			return nil, fault.New(fault.Unreachable,
				fmt.Errorf("fetch keys of issuer %q: jwks_uri of its discovery document: %w", v.issuer.URL, err), "")
		}
		address = document.JWKS
	}
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := v.get(ctx, address, &raw); err != nil {
		return nil, err
	}
	set := parseKeys(raw.Keys)
	if len(set) == 0 {
		return nil, fault.New(fault.Unreachable,
			fmt.Errorf("fetch keys of issuer %q: the key set contains no key of a known type", v.issuer.URL), "")
	}
	return set, nil
}

// get fetches a JSON document, with the retries of web.Retry.
func (v *Verifier) get(ctx context.Context, address string, into any) error {
	_, err := web.Retry(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, web.GetJSON(ctx, v.client, address, into)
	})
	if err != nil {
		host := address
		if u, perr := url.Parse(address); perr == nil {
			host = u.Host
		}
		return fault.New(fault.Unreachable, fmt.Errorf("fetch keys of issuer %q from %s: %w", v.issuer.URL, host, err), web.Hint(err))
	}
	return nil
}
