package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
)

// certificateLife is the life of the certificates for loopback. Their private keys
// end with the process, but a scheduler may run for months.
const certificateLife = 400 * 24 * time.Hour

// certificate makes a certificate authority for this run only, publishes its
// certificate for the client, and returns a certificate for loopback. The
// authority's key signs once and is discarded, and the authority is valid for no
// other name: to trust the file is to trust only this broker.
func (b *Broker) certificate() (c tls.Certificate, err error) {
	now := b.config.Now()
	loopback := net.IPv4(127, 0, 0, 1)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "oidc-dbt, one run"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife), // the clock may be set back meanwhile
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{"localhost"},
		PermittedIPRanges: []*net.IPNet{{IP: loopback.To4(), Mask: net.CIDRMask(32, 32)}},
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{loopback},
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		return c, err
	}
	if root, err = x509.ParseCertificate(rootDER); err != nil { // with its key's id, which the leaf names
		return c, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, &leafKey.PublicKey, rootKey)
	if err != nil {
		return c, err
	}
	if b.caFile, err = b.publish(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})); err != nil {
		return c, err
	}
	return tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}, nil
}

// publish writes the authority's certificate and returns its path: the same in
// every run that has the target's own port, since dbt parses the whole project
// again if its profile differs. The port's owner also owns the file.
func (b *Broker) publish(certificate []byte) (path string, err error) {
	if b.ownPort && b.config.StateDir != "" {
		path = filepath.Join(b.config.StateDir, fmt.Sprintf("ca-%d.pem", b.address.Port()))
		if err = os.MkdirAll(b.config.StateDir, 0o700); err == nil {
			err = disk.Own(b.config.StateDir) // a writer there could choose whom dbt trusts
		}
		if err == nil {
			err = disk.Replace(path, certificate)
		}
		if err == nil {
			return path, nil
		}
	}
	path = filepath.Join(b.config.Dir, "ca.pem") // not persistent: it only costs parsing again
	return path, disk.Replace(path, certificate)
}

// withdraw removes what publish wrote, before another run may have the port.
func (b *Broker) withdraw() {
	b.withdrawn.Do(func() {
		if b.caFile != "" {
			_ = os.Remove(b.caFile) // its key is gone
		}
	})
}
