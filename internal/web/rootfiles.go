package web

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// CheckRootFiles returns an error of class Usage where SSL_CERT_FILE or
// SSL_CERT_DIR name what is no file: crypto/x509 reads them in the middle of
// the first handshake, and would wait for a pipe for ever.
func CheckRootFiles(getenv func(string) string) error {
	check := func(variable, path string) error {
		var not disk.NotRegular
		if path == "" || !errors.As(disk.Check(path), &not) {
			return nil // of one that cannot be read the handshake's error says that the authority is unknown
		}
		return fault.New(fault.Usage, fmt.Errorf("read %s: %q %w", variable, path, not), "")
	}
	if err := check("SSL_CERT_FILE", getenv("SSL_CERT_FILE")); err != nil {
		return err
	}
	for _, dir := range filepath.SplitList(getenv("SSL_CERT_DIR")) {
		if info, err := os.Stat(dir); err == nil && !info.IsDir() && !info.Mode().IsRegular() {
			return check("SSL_CERT_DIR", dir)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // as crypto/x509 does
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if info, err := os.Stat(path); err != nil || info.IsDir() {
				continue // reading a directory fails at once
			}
			if err := check("SSL_CERT_DIR", path); err != nil {
				return err
			}
		}
	}
	return nil
}
