// Package vault exchanges an ID token for a secret of a Vault or OpenBao server, and keeps, renews and ends the lease that it is under.
package vault

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

var (
	pathText  = lazy.MustCompile(`^[A-Za-z0-9_+@-][A-Za-z0-9_.+@-]*(?:/[A-Za-z0-9_+@-][A-Za-z0-9_.+@-]*)*$`)
	roleText  = lazy.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	leaseText = lazy.MustCompile(`^[A-Za-z0-9_.+@/-]+$`)
)

// Spec is what a policy may say of the provider: it logs in with the ID token
// (JWT auth method), and reads a secret with the token that it gets. The end of
// that token is the end of the secret's lease.
// (Vault API: auth/jwt, secret/databases, secret/kv, auth/token; OpenBao has the same)
func Spec() policy.Provider {
	return policy.Provider{
		Doc: "HashiCorp Vault or OpenBao: a secret, under a lease.",
		Keys: []policy.Key{
			{Name: "address", Required: true, Example: "https://vault.acme.example:8200",
				Check: checkAddress, Doc: "The server, https or http on loopback, without /v1."},
			{Name: "namespace", Example: "team/dbt",
				Check: exchange.Matching(pathText, 1, 255, "a path such as team/dbt"), Doc: "The namespace (default: the root)."},
			{Name: "auth_path", Example: "jwt",
				Check: checkAuthPath, Doc: "Where the JWT auth method is enabled (default: jwt)."},
			{Name: "auth", Choices: []string{jwtRoles, celRoles},
				Doc: "What checks the claims at the server: jwt (a role's bound claims, the default) or cel (a role's CEL program; " +
					"OpenBao 2.3 or later)."},
			{Name: "role", Required: true, Claims: true, Example: "dbt-prod",
				Check: exchange.Matching(roleText, 1, 255, "a role's name"),
				Doc:   "The role of the JWT auth method."},
			{Name: "audience", Required: true, Example: "https://vault.acme.example",
				Doc: "The ID token's audience, one of the role's bound_audiences."},
			{Name: "secret", Required: true, Claims: true, Example: "database/creds/dbt", Check: checkSecretPath,
				Doc: "The API path that is read: database/creds/ROLE, or of a KV engine secret/data/NAME (version 2), kv/NAME (version 1)."},
			{Name: "ca_cert", Example: "-----BEGIN CERTIFICATE-----\nMII…\n-----END CERTIFICATE-----\n", Check: checkRoots,
				Doc: "The certificate authorities that are trusted for this server, instead of the system's: one or more certificates in PEM."},
			{Name: clientCertFile, Example: "/etc/oidc-dbt/client.pem", Check: checkAbsolute,
				Doc: "The absolute path of a certificate in PEM, with its chain, for a server that asks its clients for one."},
			{Name: clientKeyFile, Example: "/etc/oidc-dbt/client.key", Check: checkAbsolute,
				Doc: "The absolute path of that certificate's key in PEM, of mode 0600; the key itself never goes into a policy."},
			{Name: "static", Bool: true, Doc: "Accept a secret that has no lease and outlives the run (default: false)."},
		},
		Audience: func(v policy.Values) string { return v.Get("audience") },
		Check: func(v policy.Values, _ time.Duration) []policy.KeyError {
			faults := exchange.CheckAudience(v, v.Get("audience"), "address")
			if err := checkRoleCase(v); err != nil {
				faults = append(faults, policy.KeyError{Key: "role", Err: err})
			}
			cert, key := v.Get(clientCertFile), v.Get(clientKeyFile)
			switch {
			case cert != "" && key == "":
				faults = append(faults, policy.KeyError{Key: clientCertFile, Err: errors.New("requires client_key_file")})
			case cert == "" && key != "":
				faults = append(faults, policy.KeyError{Key: clientKeyFile, Err: errors.New("requires client_cert_file")})
			case cert != "" && !strings.HasPrefix(v.Get("address"), "https:"):
				faults = append(faults, policy.KeyError{Key: clientCertFile, Err: errors.New("requires TLS: address must be https")})
			}
			return faults
		},
	}
}

// Endpoints returns the server's URL for connecting early, none where it would
// be held to the system's roots, or shown no certificate.
func Endpoints(v policy.Values, _ credential.Warehouse) []string {
	if v.Get("ca_cert") != "" || v.Get(clientCertFile) != "" {
		return nil
	}
	return []string{v.Get("address")}
}

// The keys of a client's certificate.
const clientCertFile, clientKeyFile = "client_cert_file", "client_key_file"

// Files returns the paths of files that an exchange reads, by the keys that
// name them. Who can write them decides whom the server sees.
func Files(v policy.Values) map[string]string {
	files := map[string]string{}
	for _, key := range []string{clientCertFile, clientKeyFile} {
		if path := v.Get(key); path != "" {
			files[key] = path
		}
	}
	return files
}

func checkAbsolute(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return errors.New("want an absolute path, without . and .. in it")
	}
	return nil
}

// checkAddress refuses what leads to the API, to which the client adds
// /v1, or to the web interface.
func checkAddress(value string) error {
	u, err := web.CheckURL(value)
	if err != nil {
		return err
	}
	for _, end := range []string{"/v1", "/ui"} {
		if at := strings.Index(u.Path+"/", end+"/"); at >= 0 {
			return fmt.Errorf("contains %s: write the server's address without it, %q", end, u.Scheme+"://"+u.Host+u.Path[:at])
		}
	}
	return nil
}

func checkAuthPath(value string) error {
	if name, ok := strings.CutPrefix(value, "auth/"); ok {
		name = strings.TrimSuffix(strings.TrimSuffix(name, "/login"), "/cel")
		return fmt.Errorf("begins with auth/, which the client adds: write %q", name)
	}
	return exchange.Matching(pathText, 1, 255, "the path of a JWT auth method, without auth/")(value)
}

func checkSecretPath(value string) error {
	if path, ok := strings.CutPrefix(strings.TrimPrefix(value, "/"), "v1/"); ok && pathText.MatchString(path) {
		return fmt.Errorf("begins with v1/, which the client adds: write %q", path)
	}
	return exchange.Matching(pathText, 1, 511, "an API path such as database/creds/dbt, without v1/")(value)
}

// checkRoots does not repeat the text: who pastes a key in the certificate's
// place must not find it in the log.
func checkRoots(text string) error {
	_, err := roots(text)
	return err
}

// roots reads certificates in PEM, and nothing else.
func roots(text string) (*x509.CertPool, error) {
	want := errors.New("want certificates in PEM (-----BEGIN CERTIFICATE-----)")
	pool := x509.NewCertPool()
	rest := []byte(text)
	for len(bytes.TrimSpace(rest)) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, want
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, want
		}
		pool.AddCert(c)
	}
	return pool, nil
}
