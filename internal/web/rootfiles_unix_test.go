//go:build unix

package web_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

func TestCheckRootFiles(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	at := func(name string) string { return filepath.Join(base, name) }
	err := errors.Join(os.MkdirAll(at("good/folder"), 0o700), os.Mkdir(at("bad"), 0o700), os.WriteFile(at("good/a.pem"), nil, 0o600),
		os.Symlink("nothing", at("good/b.pem")), syscall.Mkfifo(at("pipe"), 0o600), os.Symlink("../pipe", at("bad/c.pem")))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ file, dir, err string }{
		{"", "", ""},
		{at("good/a.pem"), at("good"), ""},
		{at("nothing"), at("nothing") + ":" + at("good"), ""},
		{at("pipe"), "", fmt.Sprintf("read SSL_CERT_FILE: %q is a named pipe, want a regular file", at("pipe"))},
		{"/dev/zero", "", `read SSL_CERT_FILE: "/dev/zero" is a device, want a regular file`},
		{at("good"), "", fmt.Sprintf("read SSL_CERT_FILE: %q is a directory, want a regular file", at("good"))},
		{"", at("pipe"), fmt.Sprintf("read SSL_CERT_DIR: %q is a named pipe, want a regular file", at("pipe"))},
		{"", at("good/a.pem"), ""}, // it has nothing in it
		{"", at("good") + ":" + at("bad"), fmt.Sprintf("read SSL_CERT_DIR: %q is a named pipe, want a regular file", at("bad/c.pem"))},
	} {
		got := ""
		if err := web.CheckRootFiles(func(name string) string {
			return map[string]string{"SSL_CERT_FILE": tt.file, "SSL_CERT_DIR": tt.dir}[name]
		}); err != nil {
			got = err.Error()
			if fault.ClassOf(err) != fault.Usage {
				t.Errorf("%s: class %v", got, fault.ClassOf(err))
			}
		}
		if got != tt.err {
			t.Errorf("%q, %q: %q, want %q", tt.file, tt.dir, got, tt.err)
		}
	}
}
