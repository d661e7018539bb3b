package idtoken

import (
	"slices"
	"time"
)

// Claims are the claims of a verified ID token. Only Verifier.Verify returns
// them; the zero Claims are empty.
type Claims struct {
	values map[string]any // as decoded from JSON
	expiry time.Time
}

// String returns the claim of that name. ok is false if the token does not
// have it or it is not a JSON string: numbers and booleans are not converted.
func (c Claims) String(name string) (value string, ok bool) {
	value, ok = c.values[name].(string)
	return value, ok
}

// Has reports whether the token has a claim of that name, of any type.
func (c Claims) Has(name string) bool { _, ok := c.values[name]; return ok }

// Strings returns an array claim whose elements are all strings (groups).
func (c Claims) Strings(name string) (values []string, ok bool) {
	list, ok := c.values[name].([]any)
	if !ok {
		return nil, false
	}
	for _, e := range list {
		s, ok := e.(string)
		if !ok {
			return nil, false
		}
		values = append(values, s)
	}
	return values, true
}

// Names returns the names of all claims, sorted.
func (c Claims) Names() []string {
	names := make([]string, 0, len(c.values))
	for n := range c.values {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Issuer returns the verified issuer URL.
func (c Claims) Issuer() string { s, _ := c.String("iss"); return s }

// Subject returns the verified sub claim.
func (c Claims) Subject() string { s, _ := c.String("sub"); return s }

// Expiry returns when the ID token itself expires.
func (c Claims) Expiry() time.Time { return c.expiry }

// IsZero reports whether c is the zero Claims.
func (c Claims) IsZero() bool { return c.values == nil }
