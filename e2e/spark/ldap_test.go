//go:build e2e && spark && linux

package spark

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// people is where the directory has its users.
const people = "ou=people,dc=acme,dc=example"

// A directory is OpenLDAP's server on loopback.
type directory struct {
	url, password string
	program       func(args ...string) *exec.Cmd
}

func startDirectory(t *testing.T) *directory {
	t.Helper()
	debian, libraries := setup.Debian(t, "slapd")
	dir := t.TempDir()
	d := &directory{url: fmt.Sprintf("ldap://127.0.0.1:%d", setup.Port(t)), password: rand.Text()}
	// Nobody reads a password, and only those who have one may bind.
	conf := setup.Write(t, dir, "slapd.conf", fmt.Sprintf(`include %[1]s/etc/ldap/schema/core.schema
include %[1]s/etc/ldap/schema/cosine.schema
include %[1]s/etc/ldap/schema/inetorgperson.schema
modulepath %[1]s/usr/lib/ldap
moduleload back_mdb
database mdb
suffix "dc=acme,dc=example"
rootdn "cn=admin,dc=acme,dc=example"
rootpw %[2]s
directory %[3]s
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
`, debian, d.password, dir))
	d.program = func(args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(debian, "usr", "sbin", "slapd"), append(args, "-f", conf)...)
		cmd.Env = append(os.Environ(), libraries)
		return cmd
	}
	base := setup.Write(t, dir, "base.ldif", `dn: dc=acme,dc=example
objectClass: dcObject
objectClass: organization
o: acme
dc: acme

dn: `+people+`
objectClass: organizationalUnit
ou: people
`)
	if out, err := d.program("-Tadd", "-l", base).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	setup.StartCommand(t, d.program("-d", "256", "-h", d.url), func() error {
		return reachable(strings.TrimPrefix(d.url, "ldap://"))
	})
	return d
}

// users returns the users that the directory has.
func (d *directory) users(t *testing.T) (names []string) {
	t.Helper()
	out, err := d.program("-Tcat").Output()
	if err != nil {
		t.Fatalf("slapcat: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if name, found := strings.CutPrefix(line, "uid: "); found {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// gone waits until all users are removed: OpenBao ends a token's leases after its reply.
func (d *directory) gone(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); len(d.users(t)) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("users that are left: %q", d.users(t))
		}
	}
}

// lend starts an OpenBao that makes a user of the directory for each run, and removes it, and returns an exchange
// block for it. The user lives for ttl after each renewal.
func (d *directory) lend(t *testing.T, issuer *standin.Issuer, ttl time.Duration) (exchange string) {
	t.Helper()
	plugins := engine(t)
	binary, err := os.ReadFile(filepath.Join(plugins, "openldap"))
	if err != nil {
		t.Fatal(err)
	}
	bao := setup.OpenBao(t, setup.Write(t, t.TempDir(), "plugins.hcl", fmt.Sprintf("plugin_directory = %q\n", plugins)))
	bao.TrustIssuer(t, issuer)
	bao.Write(t, "sys/plugins/catalog/secret/openldap", map[string]any{
		"command": "openldap", "sha256": fmt.Sprintf("%x", sha256.Sum256(binary)),
	})
	bao.Write(t, "sys/mounts/ldap", map[string]any{"type": "openldap"})
	bao.Write(t, "ldap/config", map[string]any{
		"url": d.url, "binddn": "cn=admin,dc=acme,dc=example", "bindpass": d.password, "schema": "openldap", "userdn": people,
	})
	bao.Write(t, "ldap/role/dbt", map[string]any{
		"default_ttl": ttl.String(), "max_ttl": "30m", "username_template": "v_{{.RoleName}}_{{random 10}}",
		"creation_ldif": "dn: uid={{.Username}}," + people + "\nobjectClass: inetOrgPerson\nuid: {{.Username}}\ncn: {{.Username}}\n" +
			"sn: dbt\nuserPassword: {{.Password}}\n",
		"deletion_ldif": "dn: uid={{.Username}}," + people + "\nchangetype: delete\n",
	})
	return bao.LendFrom(t, "ldap/creds/dbt", ttl, 30*time.Minute)
}

// engine returns the folder with Vault's secrets engine for LDAP as a plugin.
func engine(t *testing.T) (dir string) {
	t.Helper()
	folder, sum := filepath.Join(setup.Repository(t), "e2e", "spark", "openldap"), sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(text)
	}
	return setup.Cached(t, fmt.Sprintf("openldap-%x", sum.Sum(nil)[:8]), func(dir string) {
		build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "openldap"), ".")
		build.Dir, build.Env = folder, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the engine: %v\n%s", err, out)
		}
	})
}
