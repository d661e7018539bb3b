package adapter

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// placeholder is the value of a login that was not asked for. dbt masks in its
// log what it takes for a secret: nothing else has this word in it.
const placeholder = "oidc-dbt-placeholder"

// Placeholder returns what a profile has in place of a credential and, where
// dbt can hold none itself, in place of a broker's address, where nothing
// listens. It is no login anywhere. The error is of class Usage where the block
// is none of the adapter's.
func Placeholder(dbtType string, f Facts, block *yaml.Node) (credential.Credential, route.Address, error) {
	provider := f.Provider()
	w, err := Warehouse(dbtType, provider, block)
	if err != nil {
		return credential.Credential{}, route.Address{}, err
	}
	r, err := Route(dbtType, provider, f.Exchange(), block)
	if err != nil {
		return credential.Credential{}, route.Address{}, err
	}
	word := secret.New(placeholder)
	user := scalar(block, "user")
	if user == "" || policy.IsJinja(user) {
		user = placeholder
	}
	c := credential.Credential{Kind: pairOf(dbtType, provider).kind(w.Bearer), Expiry: credential.Never()}
	switch c.Kind {
	case credential.AWSSession:
		c.AWS = &credential.AWS{AccessKeyID: word, SecretAccessKey: word, SessionToken: word, Region: f.Exchange().Get("region")}
	case credential.KeyPair: // the client parses it before it logs in
		c.User = user
		if c.PrivateKey, err = unknownKey(); err != nil {
			return credential.Credential{}, route.Address{}, err
		}
	case credential.DatabaseLogin, credential.ServicePrincipal:
		c.User, c.Password = user, word
	default:
		c.Token = word
	}
	if !r.Only {
		return c, route.Address{}, nil
	}
	const discard = 9 // (RFC 863)
	return c, route.Address{Host: "127.0.0.1", Port: discard, Secret: word, URL: word, File: placeholder}, nil
}

// unknownKey returns a private key that no server knows.
func unknownKey() (secret.Value, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return secret.Value{}, fmt.Errorf("generate a placeholder key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return secret.Value{}, fmt.Errorf("generate a placeholder key: %w", err)
	}
	return secret.New(base64.StdEncoding.EncodeToString(der)), nil
}
