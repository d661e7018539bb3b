// Package secret holds secrets: a Value redacts itself when it is printed, logged, marshalled or formatted.
package secret

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[secret]"

// A Value is a secret string. The zero Value holds no secret.
//
// It wraps a pointer, not a string: fmt cannot call methods on unexported
// fields of other structs and would print a plain string there.
type Value struct{ p *string }

// New returns a Value that holds s. An empty s gives the zero Value.
func New(s string) Value {
	if s == "" {
		return Value{}
	}
	return Value{&s}
}

// Reveal returns the secret itself, "" for the zero Value. A test holds the
// list of files that may call it.
func (v Value) Reveal() string {
	if v.p == nil {
		return ""
	}
	return *v.p
}

// IsZero reports whether v holds no secret.
func (v Value) IsZero() bool { return v.p == nil }

// SHA256 returns the lower-case hex SHA-256 of the secret, "" for the zero
// Value. Audit records identify a credential by it.
func (v Value) SHA256() string {
	if v.p == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(*v.p))
	return hex.EncodeToString(sum[:])
}

// Format implements fmt.Formatter: every verb prints "[secret]".
func (v Value) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// String implements fmt.Stringer.
func (v Value) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (v Value) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (v Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, for JSON and YAML too.
func (v Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }
