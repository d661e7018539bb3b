package vault

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// A form is what a secret's fields can be to a warehouse.
type form struct {
	kind   credential.Kind
	fields [2][]string // each by any of its names; the second is the secret one
}

// forms are all that a secret's fields can be.
var forms = []form{
	{credential.DatabaseLogin, [2][]string{{"username"}, {"password"}}},
	{credential.KeyPair, [2][]string{{"username"}, {"rsa_private_key", "private_key"}}},
	{credential.ServicePrincipal, [2][]string{{"client_id"}, {"client_secret"}}},
	{credential.AccessToken, [2][]string{nil, {"access_token", "token"}}},
}

// formsFor returns what w can log in with, in the order of its wishes.
func formsFor(w credential.Warehouse) (fitting []form) {
	kinds := w.Asks.Fields
	switch {
	case w.Bearer:
		kinds = []credential.Kind{credential.AccessToken}
	case kinds == nil:
		return forms
	}
	for _, kind := range kinds {
		fitting = append(fitting, forms[slices.IndexFunc(forms, func(f form) bool { return f.kind == kind })])
	}
	return fitting
}

// fillIn makes the fields the credential that the warehouse takes. Its error
// says which fields there are, by name.
func fillIn(c *credential.Credential, w credential.Warehouse, data map[string]any) error {
	field := func(names []string) string {
		for _, name := range names {
			if s, ok := data[name].(string); ok && s != "" {
				return s
			}
		}
		return ""
	}
	var wanted []string
	for _, f := range formsFor(w) {
		user, value := field(f.fields[0]), field(f.fields[1])
		wanted = append(wanted, f.String())
		if value == "" || user == "" && f.fields[0] != nil {
			continue
		}
		if strings.ContainsFunc(user, notInUser) || len(user) > 256 {
			return fmt.Errorf("the field %q contains invalid characters", f.fields[0][0])
		}
		c.Kind, c.User = f.kind, user
		switch f.kind {
		case credential.DatabaseLogin, credential.ServicePrincipal:
			c.Password = secret.New(value)
		case credential.AccessToken:
			c.Token = secret.New(value)
		case credential.KeyPair:
			key, err := keyLine(value)
			if err != nil {
				return err
			}
			c.PrivateKey = key
		}
		return nil
	}
	have := slices.Sorted(maps.Keys(data))
	for i, name := range have {
		have[i] = name[:min(len(name), 64)]
	}
	return fmt.Errorf("the secret has the fields %.20q, want %s", have[:min(len(have), 20)], strings.Join(wanted, ", or "))
}

// String names the fields for an error.
func (f form) String() string {
	var parts []string
	for _, names := range f.fields {
		var quoted []string
		for _, name := range names {
			quoted = append(quoted, fmt.Sprintf("%q", name))
		}
		if names != nil {
			parts = append(parts, strings.Join(quoted, " or "))
		}
	}
	return strings.Join(parts, " and ")
}

// notInUser refuses what a profile would not hold as one plain value: dbt
// renders {{ … }} there.
func notInUser(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("{}%\"'", r) }

// keyLine turns an RSA key in PEM (PKCS #1 or PKCS #8) into PKCS #8 in base64
// on one line, which dbt-snowflake reads as it is.
func keyLine(text string) (secret.Value, error) {
	want := errors.New("the private key is not an unencrypted RSA key in PEM")
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return secret.Value{}, want
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return secret.Value{}, want
	}
	if _, isRSA := key.(*rsa.PrivateKey); err != nil || !isRSA {
		return secret.Value{}, want // the parsers' errors may quote the key
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return secret.Value{}, want
	}
	return secret.New(base64.StdEncoding.EncodeToString(der)), nil
}
