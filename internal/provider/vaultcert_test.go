//go:build unix

package provider_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// clientPair writes a client's certificate, which is its own authority, and
// its key, and returns their paths.
func clientPair(t *testing.T) (cert, key string, authority *x509.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "runner"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	if authority, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("client.pem", "CERTIFICATE", der), write("client.key", "PRIVATE KEY", keyDER), authority
}

// TestVaultWithAClientCertificate: the server asks for one, and gets it with
// each client that we make, that of the end included. What is wrong with the
// files is said without their content.
func TestVaultWithAClientCertificate(t *testing.T) {
	t.Parallel()
	cert, key, authority := clientPair(t)
	other, otherKey, _ := clientPair(t)
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	open, junk := put("open.key", string(text), 0o640), put("junk.key", "hunter2", 0o600)
	link := filepath.Join(dir, "link.key")
	if err := os.Symlink(key, link); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if len(req.TLS.PeerCertificates) != 1 || req.TLS.PeerCertificates[0].Subject.CommonName != "runner" {
			t.Errorf("the client's certificates are %v", req.TLS.PeerCertificates)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	const pair = ": want the unencrypted PEM key of the first certificate in client_cert_file"
	hints := map[string]string{
		"none":                     "set client_cert_file and client_key_file if the server requires a client certificate; it must support TLS 1.2 or later",
		"one of another authority": "the server must accept the certificate in client_cert_file: check that its CA is in the listener's tls_client_ca_file and that it has not expired",
	}
	for _, tt := range []struct {
		name, cert, key, err string
		class                fault.Class
	}{
		{name: "shown", cert: cert, key: key},
		{"none", "", "", "revoke the lease: the server refused the TLS connection: tls: certificate required", fault.Unreachable},
		{"one of another authority", other, otherKey, "revoke the lease: the server refused the TLS connection: tls: unknown certificate authority", fault.Unreachable},
		{"another's key", cert, otherKey, `revoke the lease: read client_key_file "` + otherKey + `"` + pair, fault.Usage},
		{"no key", cert, junk, `revoke the lease: read client_key_file "` + junk + `"` + pair, fault.Usage},
		{"a key that others may read", cert, open, `revoke the lease: read client_key_file "` + open + `": is accessible to other users (-rw-r-----), want mode 0600`, fault.Usage},
		{"a link", cert, link, `revoke the lease: read client_key_file "` + link + `": is a symbolic link, want a regular file`, fault.Usage},
		{"no file", cert, dir + "/none", `revoke the lease: read client_key_file "` + dir + `/none": no such file or directory`, fault.Usage},
		{"no certificate", dir + "/none", key, `revoke the lease: read client_cert_file "` + dir + `/none": no such file or directory`, fault.Usage},
		{"a folder", dir, key, `revoke the lease: read client_cert_file "` + dir + `": is a directory, want a regular file`, fault.Usage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := provider.Revoke(t.Context(), exchange.Env{HTTP: web.NewClient(web.NewTransport()), Now: time.Now}, credential.Lease{
				Provider: "vault",
				Address:  server.URL, CACert: ca, ClientCert: tt.cert, ClientKey: tt.key, Token: secret.New("hvs.vault-token-0123456789"),
			})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.err || err != nil && fault.ClassOf(err) != tt.class {
				t.Errorf("error is %q (%s), want %q", got, fault.ClassOf(err), tt.err)
			}
			if hint := hints[tt.name]; err != nil && fault.Hint(err) != hint {
				t.Errorf("hint is %q, want %q", fault.Hint(err), hint)
			}
		})
	}
}
