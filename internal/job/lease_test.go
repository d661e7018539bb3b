package job

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// A lender gives out credentials of a run, each with a lease of its own.
type lender struct {
	vault  *standin.Vault
	issuer *standin.Issuer
	env    Env
	log    string
	dir    folder
}

func newLender(t *testing.T) *lender {
	t.Helper()
	issuer, err := standin.StartIssuer(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	vault, err := standin.StartVault(standin.VaultConfig{
		IssuerURL: issuer.URL(), Roles: map[string]standin.VaultRole{"dbt": {BoundAudiences: []string{"vault"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vault.Close)
	root := t.TempDir()
	dir, err := newFolder(root)
	if err != nil {
		t.Fatal(err)
	}
	return &lender{vault: vault, issuer: issuer, dir: dir, log: filepath.Join(root, "audit.jsonl"), env: Env{
		Getenv: func(name string) string {
			return map[string]string{"RUNNER_TEMP": root, "STATE_folder": dir.path}[name]
		},
		Now: time.Now, Transport: web.NewTransport(), Stdout: &strings.Builder{}, Version: "test",
	}}
}

// lend is a credential of the run, or of one of its renewals, and its records.
func (l *lender) lend(t *testing.T) (credential.Credential, *records) {
	t.Helper()
	token, err := l.vault.Token("dbt")
	if err != nil {
		t.Fatal(err)
	}
	c := credential.Credential{Kind: "database_login", ID: "database/creds/dbt", Lease: &credential.Lease{Address: l.vault.URL(), Token: secret.New(token)}}
	return c, &records{path: l.log, now: time.Now, run: audit.Run{ID: audit.NewID(), Version: "test", Target: "prod"}}
}

// checkEnded holds the end of so many leases: none is left at the server, each
// is recorded, none in the folder.
func (l *lender) checkEnded(t *testing.T, count int) {
	t.Helper()
	if n := l.vault.Tokens(); n != 0 {
		t.Errorf("%d tokens are alive, want none", n)
	}
	log, err := os.ReadFile(l.log)
	if err != nil || strings.Count(string(log), `"outcome":"revoked"`) != count {
		t.Errorf("the audit log is %s, %v, want %d ends", log, err, count)
	}
	if files, err := filepath.Glob(filepath.Join(l.dir.path, leaseFiles)); err != nil || len(files) > 0 {
		t.Errorf("left behind: %q, %v", files, err)
	}
}

// TestEveryLeaseEnds: those of all renewals, with the run, though it was
// cancelled.
func TestEveryLeaseEnds(t *testing.T) {
	t.Parallel()
	l := newLender(t)
	all := &leases{dir: l.dir}
	for range 5 {
		c, r := l.lend(t)
		if err := all.add(t.Context(), l.env, c, r); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.vault.Tokens(); n != 5 {
		t.Errorf("%d tokens are alive, want 5: a session of an old one may be at work", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := all.end(ctx, l.env); err != nil {
		t.Error(err)
	}
	l.checkEnded(t, 5)
	if err := all.end(ctx, l.env); err != nil {
		t.Errorf("the second end: %v", err)
	}
}

// TestPostEndsEveryLease: post is another process, and has the files alone.
func TestPostEndsEveryLease(t *testing.T) {
	t.Parallel()
	l := newLender(t)
	all := &leases{dir: l.dir}
	for range 5 {
		c, r := l.lend(t)
		if err := all.add(t.Context(), l.env, c, r); err != nil {
			t.Fatal(err)
		}
	}
	Post(t.Context(), l.env)
	if said := l.env.Stdout.(*strings.Builder).String(); said != "" {
		t.Errorf("post says %s", said)
	}
	l.checkEnded(t, 5)
}

// TestLeaseThatCannotBeKept: what post would not find is not used, and ends.
func TestLeaseThatCannotBeKept(t *testing.T) {
	t.Parallel()
	l := newLender(t)
	c, r := l.lend(t)
	all := &leases{dir: l.dir}
	path := filepath.Join(l.dir.path, "lease-"+r.run.ID+".json")
	if err := os.Mkdir(path, 0o700); err != nil { // in the file's place
		t.Fatal(err)
	}
	err := all.add(t.Context(), l.env, c, r)
	if want := fmt.Sprintf("write %s: open %s: is a directory", filepath.Base(path), path); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if n := l.vault.Tokens(); n != 0 {
		t.Errorf("%d tokens are alive, want none", n)
	}
	if len(all.list) > 0 {
		t.Errorf("there are %d leases to be ended, want none", len(all.list))
	}
}
