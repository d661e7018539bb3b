//go:build unix

package web_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

func TestCheckRootFiles(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	at := func(name string) string { return filepath.Join(base, name) }
	_, ca := secured(t, func(*x509.Certificate) {}, nil)
	malformed := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("hunter2")})
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("hunter2")})
	err := errors.Join(os.MkdirAll(at("good/folder"), 0o700), os.Mkdir(at("bad"), 0o700), os.MkdirAll(at("none/folder"), 0o700),
		os.WriteFile(at("good/0.pem"), malformed, 0o600), os.WriteFile(at("good/a.pem"), append(slices.Concat(key, malformed), ca...), 0o600),
		os.WriteFile(at("none/empty.pem"), nil, 0o600), os.WriteFile(at("none/malformed.pem"), malformed, 0o600), os.WriteFile(at("none/key.pem"), key, 0o600),
		os.WriteFile(at("none/large.der"), make([]byte, 100<<10), 0o600), os.Symlink("nothing", at("good/b.pem")),
		syscall.Mkfifo(at("pipe"), 0o600), os.Symlink("../pipe", at("bad/c.pem")), os.Symlink("loop.pem", at("loop.pem")))
	if err != nil {
		t.Fatal(err)
	}
	const hint = "name one with the authorities' certificates in PEM, or unset the variable to trust the system's authorities"
	const noPEM = " has no certificate in PEM (-----BEGIN CERTIFICATE-----)"
	for _, tt := range []struct{ file, dir, err, hint string }{
		{"", "", "", ""},
		{at("good/a.pem"), at("good"), "", ""},
		{"", at("nothing") + ":" + at("none") + ":" + at("good"), "", ""},
		{at("nothing"), at("good"), fmt.Sprintf("read SSL_CERT_FILE: %q does not exist", at("nothing")), hint},
		{at("none/empty.pem"), "", fmt.Sprintf("read SSL_CERT_FILE: %q"+noPEM, at("none/empty.pem")), hint},
		{at("none/malformed.pem"), "", fmt.Sprintf("read SSL_CERT_FILE: %q"+noPEM, at("none/malformed.pem")), hint},
		{at("none/key.pem"), at("good"), fmt.Sprintf("read SSL_CERT_FILE: %q"+noPEM, at("none/key.pem")), hint},
		{at("none/large.der"), "", fmt.Sprintf("read SSL_CERT_FILE: %q"+noPEM, at("none/large.der")), hint},
		{at("loop.pem"), "", fmt.Sprintf("read SSL_CERT_FILE: %q cannot be read: too many levels of symbolic links", at("loop.pem")), hint},
		{at("pipe"), "", fmt.Sprintf("read SSL_CERT_FILE: %q is a named pipe, want a regular file", at("pipe")), ""},
		{"/dev/zero", "", `read SSL_CERT_FILE: "/dev/zero" is a device, want a regular file`, ""},
		{at("good"), "", fmt.Sprintf("read SSL_CERT_FILE: %q is a directory, want a regular file", at("good")), ""},
		{"", at("pipe"), fmt.Sprintf("read SSL_CERT_DIR: %q is a named pipe, want a regular file", at("pipe")), ""},
		{"", at("good/a.pem"), fmt.Sprintf("read SSL_CERT_DIR: %q has no file with a certificate in PEM", at("good/a.pem")), hint},
		{at("good/a.pem"), at("none"), fmt.Sprintf("read SSL_CERT_DIR: %q has no file with a certificate in PEM", at("none")), hint},
		{"", at("nothing"), fmt.Sprintf("read SSL_CERT_DIR: %q has no file with a certificate in PEM", at("nothing")), hint},
		{"", at("good") + ":" + at("bad"), fmt.Sprintf("read SSL_CERT_DIR: %q is a named pipe, want a regular file", at("bad/c.pem")), ""},
	} {
		if hint == tt.hint && (runtime.GOOS == "darwin" || runtime.GOOS == "ios") {
			tt.err, tt.hint = "", "" // crypto/x509 does not read the variables there
		}
		got := ""
		if err := web.CheckRootFiles(func(name string) string {
			return map[string]string{"SSL_CERT_FILE": tt.file, "SSL_CERT_DIR": tt.dir}[name]
		}); err != nil {
			got = err.Error()
			if fault.ClassOf(err) != fault.Usage || fault.Hint(err) != tt.hint {
				t.Errorf("%s: class %v, hint %q, want %q", got, fault.ClassOf(err), fault.Hint(err), tt.hint)
			}
		}
		if got != tt.err {
			t.Errorf("%q, %q: %q, want %q", tt.file, tt.dir, got, tt.err)
		}
	}
}
