package vault

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// maxPEM bounds a file of PEM: a chain of certificates is under 20 KiB.
const maxPEM = 256 << 10

// clientCertificate reads what is shown to the server. It does so again for
// each client: the certificate may be replaced in a long run. The errors, of
// class Usage, quote nothing of the files.
func clientCertificate(l credential.Lease) (c tls.Certificate, err error) {
	wrong := func(key, path string, err error) error {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return fault.New(fault.Usage, fmt.Errorf("read %s %q: %w", key, path, err), "")
	}
	cert, err := disk.Read(l.ClientCert, maxPEM)
	if err != nil {
		return c, wrong(clientCertFile, l.ClientCert, err)
	}
	key, err := disk.ReadSecret(l.ClientKey, maxPEM)
	if err != nil {
		return c, wrong(clientKeyFile, l.ClientKey, err)
	}
	if c, err = tls.X509KeyPair(cert, key); err != nil {
		return c, wrong(clientKeyFile, l.ClientKey,
			errors.New("want the unencrypted PEM key of the first certificate in client_cert_file"))
	}
	return c, nil
}
