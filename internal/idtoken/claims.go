package idtoken

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Claims are the claims of a verified ID token. Only Verifier.Verify returns
// them; the zero Claims are empty.
type Claims struct {
	values
	expiry time.Time
}

// Expiry returns when the ID token itself expires.
func (c Claims) Expiry() time.Time { return c.expiry }

// Unknown returns false: all claims of a verified token are known.
func (c Claims) Unknown(string) bool { return false }

// values are claims as decoded from JSON, numbers as json.Number. Claims and
// Unverified are read by the same methods.
type values map[string]any

// lookup returns a claim. A name with `>` leads into objects: `a>b` is the
// member b of the claim a. A claim's own name comes first.
func (v values) lookup(name string) (value any, ok bool) {
	if value, ok = v[name]; ok {
		return value, true
	}
	claim, rest, nested := strings.Cut(name, ">")
	if !nested {
		return nil, false
	}
	value, ok = v[claim]
	for ok && nested {
		var object map[string]any
		if object, ok = value.(map[string]any); !ok {
			return nil, false
		}
		claim, rest, nested = strings.Cut(rest, ">")
		value, ok = object[claim]
	}
	return value, ok
}

// String returns the claim of that name. ok is false if the token does not
// have it or it is not a JSON string: numbers and booleans are not converted.
func (v values) String(name string) (value string, ok bool) {
	found, _ := v.lookup(name)
	value, ok = found.(string)
	return value, ok
}

// Has reports whether the token has a claim of that name, of any type.
func (v values) Has(name string) bool { _, ok := v.lookup(name); return ok }

// Strings returns an array claim whose elements are all strings (groups).
func (v values) Strings(name string) (list []string, ok bool) {
	found, _ := v.lookup(name)
	elements, ok := found.([]any)
	if !ok {
		return nil, false
	}
	for _, e := range elements {
		s, ok := e.(string)
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}

// Value returns the claim of that name as decoded from JSON, nil if the token
// does not have it. The caller must not change it.
func (v values) Value(name string) any { found, _ := v.lookup(name); return found }

// Names returns the names of all claims, sorted.
func (v values) Names() []string { return slices.Sorted(maps.Keys(v)) }

// Issuer returns the claim iss.
func (v values) Issuer() string { s, _ := v.String("iss"); return s }

// Subject returns the claim sub.
func (v values) Subject() string { s, _ := v.String("sub"); return s }

// IsZero reports whether there was no token.
func (v values) IsZero() bool { return v == nil }
