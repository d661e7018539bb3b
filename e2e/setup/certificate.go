package setup

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificate makes a certificate authority and, signed by it, a certificate for
// loopback and other names, both valid for a day. It returns the paths of two PEM
// files: the authority's certificate, and the server's private key with its
// certificate.
func Certificate(t testing.TB, names ...string) (ca, server string) {
	t.Helper()
	authority, certificate, key := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: append([]string{"localhost"}, names...),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	dir := t.TempDir()
	return writePEM(t, dir, "ca.pem", authority), writePEM(t, dir, "server.pem", key, certificate)
}

// ClientCertificate makes a certificate authority and, signed by it, the
// certificate of a client, both valid for a day. It returns the paths of three
// PEM files.
func ClientCertificate(t testing.TB) (ca, certificate, key string) {
	t.Helper()
	authority, leaf, private := issue(t,
		&x509.Certificate{Subject: pkix.Name{CommonName: "runner"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	dir := t.TempDir()
	return writePEM(t, dir, "ca.pem", authority), writePEM(t, dir, "client.pem", leaf), writePEM(t, dir, "client.key", private)
}

// issue makes a certificate authority that signs leaf.
func issue(t testing.TB, leaf *x509.Certificate) (authority, certificate, key *pem.Block) {
	t.Helper()
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "oidc-dbt test authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf.SerialNumber, leaf.NotBefore, leaf.NotAfter, leaf.KeyUsage = big.NewInt(2), root.NotBefore, root.NotAfter,
		x509.KeyUsageDigitalSignature
	rootKey, leafKey := newKey(t), newKey(t)
	private, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	return &pem.Block{Type: "CERTIFICATE", Bytes: sign(t, root, root, rootKey, rootKey)},
		&pem.Block{Type: "CERTIFICATE", Bytes: sign(t, leaf, root, leafKey, rootKey)}, &pem.Block{Type: "PRIVATE KEY", Bytes: private}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, certificate, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, certificate, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// writePEM writes a file that only its owner can read, and returns its path:
// PostgreSQL accepts no other key.
func writePEM(t testing.TB, dir, name string, blocks ...*pem.Block) (path string) {
	t.Helper()
	var text []byte
	for _, block := range blocks {
		text = append(text, pem.EncodeToMemory(block)...)
	}
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
