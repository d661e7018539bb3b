package idtoken

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// A key is one of an issuer's published keys.
type key struct {
	jose.JSONWebKey
	unfit string // why it cannot verify signatures with any algorithm; "" if it can
}

// Keys that are no issuer's: with what is in the set, anyone could sign.
const (
	symmetric = "it is symmetric: anyone who can verify with it could also sign"
	private   = "it is a private key: anyone who reads it could sign with it"
)

// CheckKeys returns an error unless a text is a JWK set that tokens can be
// verified with (RFC 7517, 5), and that has only public keys. Others than those
// for signatures are no error: sets have some.
func CheckKeys(text []byte) error {
	set, err := readKeys(text)
	if err != nil {
		return err
	}
	for _, k := range set {
		if k.unfit == symmetric || k.unfit == private {
			return fmt.Errorf("key %q: %s: want the issuer's public keys only", k.KeyID, k.unfit)
		}
	}
	if i := slices.IndexFunc(set, func(k key) bool { return k.unfit == "" }); i < 0 {
		return fmt.Errorf("contains no key that can verify tokens: key %q: %s", set[0].KeyID, set[0].unfit)
	}
	return nil
}

// readKeys returns the keys of a JWK set's text.
func readKeys(text []byte) ([]key, error) {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, errors.New("is not a JWK set: want a JSON object with a list `keys`")
	}
	set := parseKeys(raw.Keys)
	if len(set) == 0 {
		return nil, errors.New("contains no key of a known type")
	}
	return set, nil
}

// parseKeys returns the keys of a JWK set. It skips keys of unknown types (RFC
// 7517, 5) and keeps keys that are unfit for signatures, so that an error can
// say why.
func parseKeys(raws []json.RawMessage) (keys []key) {
	for _, raw := range raws {
		if k, ok := parseKey(raw); ok {
			keys = append(keys, k)
		}
	}
	return keys
}

func parseKey(raw json.RawMessage) (k key, ok bool) {
	var head struct {
		Type       string          `json:"kty"`
		ID         string          `json:"kid"`
		Modulus    string          `json:"n"`
		Exponent   string          `json:"e"`
		Operations json.RawMessage `json:"key_ops"`
	}
	if json.Unmarshal(raw, &head) != nil || head.ID == "" && head.Type == "" {
		return k, false
	}
	switch head.Type {
	case "RSA":
		// Checked before parsing: the parser's own limits give no reason.
		if k.KeyID, k.unfit = head.ID, unfitRSA(head.Modulus, head.Exponent); k.unfit != "" {
			return k, true
		}
	case "EC", "OKP":
	case "oct":
		k.KeyID, k.unfit = head.ID, symmetric // and is not parsed
		return k, true
	default:
		return k, false
	}
	if err := json.Unmarshal(raw, &k.JSONWebKey); err != nil {
		k.KeyID, k.unfit = head.ID, "it is malformed" // a point that is not on its curve, say
		return k, true
	}
	k.unfit = unfit(k.JSONWebKey, head.Operations)
	return k, true
}

// Accepted sizes of RSA keys. Shorter ones can be factored (NIST SP 800-131A),
// and longer ones make verification slow: no issuer uses them.
const minRSA, maxRSA = 2048, 4096

// unfitRSA says why an RSA key must not be used, from its JSON members; "" if it may.
func unfitRSA(modulus, exponent string) string {
	n, nerr := base64.RawURLEncoding.DecodeString(modulus)
	e, eerr := base64.RawURLEncoding.DecodeString(exponent)
	if nerr != nil || eerr != nil {
		return "" // left to the parser
	}
	bits := new(big.Int).SetBytes(n).BitLen()
	power := new(big.Int).SetBytes(e)
	switch {
	case bits < minRSA || bits > maxRSA:
		return fmt.Sprintf("it has %d bits, want %d to %d", bits, minRSA, maxRSA)
	case power.BitLen() > 31: // the limit of crypto/rsa
		return "its exponent is larger than 31 bits"
	case power.Int64() < 3 || power.Bit(0) == 0: // with 1 every message is its own signature
		return fmt.Sprintf("its exponent is %s, want an odd number of 3 or more", power)
	}
	return ""
}

// spiffeUse is the use of keys for JWTs in a SPIFFE trust domain's bundle, which
// is a JWK set. (SPIFFE Trust Domain and Bundle, 4.2.2)
const spiffeUse = "jwt-svid"

// unfit says why a key cannot verify signatures with any algorithm; "" if it
// can. operations is its key_ops.
func unfit(k jose.JSONWebKey, operations json.RawMessage) string {
	switch {
	case !k.IsPublic():
		return private
	case k.Use != "" && k.Use != "sig" && k.Use != spiffeUse:
		return fmt.Sprintf("its use is %q, want %q", k.Use, "sig")
	case operations != nil:
		var list []string
		if json.Unmarshal(operations, &list) != nil {
			return "its key_ops are not a list of strings"
		}
		if !slices.Contains(list, "verify") {
			return fmt.Sprintf("its key_ops are %q, want %q among them", list, "verify")
		}
	}
	switch public := k.Key.(type) {
	case *rsa.PublicKey:
		// Also checks keys in encodings that only the parser accepts, such as padded base64.
		return unfitRSA(base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
			base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()))
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return "it is not a signature key" // X25519, say
	}
	if !k.Valid() {
		return "it is malformed"
	}
	return ""
}

// suits says why a key cannot verify signatures by an algorithm; "" if it can.
func (k key) suits(algorithm string) string {
	if k.unfit != "" {
		return k.unfit
	}
	if k.Algorithm != "" && k.Algorithm != algorithm {
		return fmt.Sprintf("its alg is %q, the token's is %q", k.Algorithm, algorithm)
	}
	kind, ok := "", false
	switch public := k.Key.(type) {
	case *rsa.PublicKey:
		kind, ok = "an RSA key", slices.Contains([]string{"RS256", "RS384", "RS512", "PS256"}, algorithm)
	case *ecdsa.PublicKey:
		curve := public.Curve.Params().Name
		want := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[curve] // RFC 7518, 3.4
		kind, ok = "an EC key on "+curve, want == algorithm
	case ed25519.PublicKey:
		kind, ok = "an Ed25519 key", algorithm == "EdDSA"
	}
	if !ok {
		return fmt.Sprintf("it is %s, and the token's alg is %q", kind, algorithm)
	}
	return ""
}

// saltHolds reports whether the salt of a PS256 signature that has otherwise
// been verified is as long as its hash (RFC 7518, 3.5): the library accepts any
// length.
func saltHolds(k key, jwt string, signature jose.Signature) bool {
	if signature.Header.Algorithm != string(jose.PS256) {
		return true
	}
	public, ok := k.Key.(*rsa.PublicKey)
	if !ok {
		return false
	}
	digest := sha256.Sum256([]byte(jwt[:strings.LastIndexByte(jwt, '.')]))
	return rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature.Signature,
		&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
}
