package web

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// CheckRootFiles returns an error of class Usage where SSL_CERT_FILE or
// SSL_CERT_DIR name what is no file, since crypto/x509 reads them in the middle
// of the first handshake and would wait for a pipe for ever, or where they name
// no certificate: it would silently trust the system's authorities, which were
// to be replaced, or none.
func CheckRootFiles(getenv func(string) string) error {
	const file, dir = "SSL_CERT_FILE", "SSL_CERT_DIR"
	if err := checkRootFile(file, getenv(file)); err != nil {
		return err
	}
	return checkRootDirs(dir, getenv(dir))
}

// readsRoots reports whether crypto/x509 reads the variables on this system.
func readsRoots() bool {
	return !slices.Contains([]string{"darwin", "ios", "plan9", "windows"}, runtime.GOOS)
}

const rootsHint = "name one with the authorities' certificates in PEM, or unset the variable to trust the system's authorities"

// rootFault is an error about what a variable names at path.
func rootFault(variable, path string, err error, hint string) error {
	return fault.New(fault.Usage, fmt.Errorf("read %s: %q %w", variable, path, err), hint)
}

func checkRootFile(variable, path string) error {
	if path == "" {
		return nil
	}
	var not disk.NotRegular
	if errors.As(disk.Check(path), &not) {
		return rootFault(variable, path, not, "")
	}
	if !readsRoots() {
		return nil
	}
	switch found, err := hasCertificate(path); {
	case err != nil:
		return rootFault(variable, path, err, rootsHint)
	case !found:
		return rootFault(variable, path, errors.New("has no certificate in PEM (-----BEGIN CERTIFICATE-----)"), rootsHint)
	}
	return nil
}

// checkRootDirs takes a list of which one folder has a certificate: the lists
// that distributions set name folders that are not there.
func checkRootDirs(variable, list string) error {
	found := list == "" || !readsRoots()
	for _, dir := range filepath.SplitList(list) {
		var not disk.NotRegular
		if info, err := os.Stat(dir); err == nil && !info.IsDir() && !info.Mode().IsRegular() && errors.As(disk.Check(dir), &not) {
			return rootFault(variable, dir, not, "")
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
			if errors.As(disk.Check(path), &not) {
				return rootFault(variable, path, not, "")
			}
			if !found {
				found, _ = hasCertificate(path) // crypto/x509 passes over what it cannot read
			}
		}
	}
	if !found {
		return rootFault(variable, list, errors.New("has no file with a certificate in PEM"), rootsHint)
	}
	return nil
}

// hasCertificate reports whether crypto/x509 finds a certificate in a file. Of
// one that is larger than any bundle it takes that for granted.
func hasCertificate(path string) (bool, error) {
	data, err := disk.Read(path, maxExtra)
	var reason *fs.PathError
	switch {
	case errors.As(err, new(disk.TooLarge)):
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, errors.New("does not exist")
	case errors.As(err, &reason):
		return false, fmt.Errorf("cannot be read: %w", reason.Err)
	case err != nil:
		return false, errors.New("cannot be read")
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err == nil {
			return true, nil
		}
	}
	return false, nil
}
