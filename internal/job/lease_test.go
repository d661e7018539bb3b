package job

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
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
	dir    Folder
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
	dir, err := NewFolder(root)
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
	c := credential.Credential{Kind: "database_login", ID: "database/creds/dbt", Lease: &credential.Lease{Provider: "vault", Address: l.vault.URL(), Token: secret.New(token)}}
	return c, &records{path: l.log, now: time.Now, run: audit.Run{ID: audit.NewID(), Version: "test", Target: "prod", Provider: "vault"}}
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

// TestPostEndsEveryLease: post is another process, and has only the files.
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
	OwnFolder(filepath.Dir(l.dir.path), l.dir.path).EndLeases(t.Context(), l.env, func(err error) { t.Error(err) })
	l.checkEnded(t, 5)
}

// TestStaticSecretIsNotRevoked: the login that read it ends, and no record says
// that the secret has. Post has that from the file.
func TestStaticSecretIsNotRevoked(t *testing.T) {
	t.Parallel()
	for _, post := range []bool{false, true} {
		l := newLender(t)
		c, r := l.lend(t)
		c.Static = true
		all := &leases{dir: l.dir}
		if err := all.add(t.Context(), l.env, c, r); err != nil {
			t.Fatal(err)
		}
		if post {
			OwnFolder(filepath.Dir(l.dir.path), l.dir.path).EndLeases(t.Context(), l.env, func(err error) { t.Error(err) })
		} else if err := all.end(t.Context(), l.env); err != nil {
			t.Error(err)
		}
		if n := l.vault.Tokens(); n != 0 {
			t.Errorf("%d tokens are alive, want none", n)
		}
		if log, err := os.ReadFile(l.log); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("recorded %s, %v", log, err)
		}
	}
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

// TestNewestLeasesEndFirst, eight at a time: the runner that ends a job waits
// for seconds.
func TestNewestLeasesEndFirst(t *testing.T) {
	t.Parallel()
	const count = 3 * atOnce
	var mu sync.Mutex
	var asked []string
	full := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Header.Get("X-Vault-Token"))
		if len(asked) == atOnce {
			close(full)
		}
		mu.Unlock()
		<-full // no reply before so many requests have come
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	l := newLender(t)
	all := &leases{dir: l.dir}
	for i := range count {
		c := credential.Credential{Lease: &credential.Lease{Provider: "vault", Address: server.URL, Token: secret.New(fmt.Sprintf("token-%02d", i))}}
		if err := all.add(t.Context(), l.env, c, &records{path: l.log, now: time.Now, run: audit.Run{ID: audit.NewID(), Provider: "vault"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := all.end(t.Context(), l.env); err != nil {
		t.Error(err)
	}
	l.checkEnded(t, count)
	first := slices.Sorted(slices.Values(asked[:atOnce]))
	if len(asked) != count || first[0] != fmt.Sprintf("token-%02d", count-atOnce) {
		t.Errorf("asked for %q, want the newest first", asked)
	}
}

// TestExpiredLeasesGo: what has expired is neither on the disk nor in memory
// for the rest of the run; a login that outlives its lease is ended.
func TestExpiredLeasesGo(t *testing.T) {
	t.Parallel()
	l := newLender(t)
	now := time.Now()
	l.env.Now = func() time.Time { return now }
	all := &leases{dir: l.dir}
	lend := func(secretLife, loginLife time.Duration) credential.Credential {
		c, r := l.lend(t)
		end := func(life time.Duration) (e credential.Term) {
			if life > 0 {
				e.Expiry = now.Add(life)
			}
			return e
		}
		c.Lease.Secret, c.Lease.Login = end(secretLife), end(loginLife)
		if err := all.add(t.Context(), l.env, c, r); err != nil {
			t.Fatal(err)
		}
		return c
	}
	files := func() int {
		all.expired.Wait()
		left, err := filepath.Glob(filepath.Join(l.dir.path, leaseFiles))
		if err != nil {
			t.Fatal(err)
		}
		return len(left)
	}
	lend(time.Minute, time.Minute) // the server's own clock ends it
	lend(time.Minute, time.Hour)   // its login lives on
	lend(0, 0)                     // no end is known
	held := lend(time.Minute, time.Hour)
	held.Lease.Secret.Expiry = now.Add(time.Hour)
	all.renewed(*held.Lease)
	now = now.Add(time.Minute)
	lend(time.Hour, time.Hour)
	if n := files(); n != 5 {
		t.Errorf("%d files at the end of a lease, want 5: the server counts from later", n)
	}
	now = now.Add(grace + time.Second)
	lend(time.Hour, time.Hour)
	if n := files(); n != 4 || len(all.list) != 4 {
		t.Errorf("%d files, %d leases after the expiry, want 4", n, len(all.list))
	}
	if n := l.vault.Tokens(); n != 5 { // that of the first has ended at a server whose clock goes on
		t.Errorf("%d tokens are alive, want 5", n)
	}
	if err := all.end(t.Context(), l.env); err != nil {
		t.Error(err)
	}
	if n := files(); n != 0 {
		t.Errorf("%d files at the end", n)
	}
}

// TestServeEndsWhatAKilledRunLeft: the next start on its folder revokes its
// leases, as post does, and says what it could not.
func TestServeEndsWhatAKilledRunLeft(t *testing.T) {
	t.Parallel()
	l := newLender(t)
	var said strings.Builder
	l.env.Stderr = &said
	all := &leases{dir: l.dir}
	for range 3 {
		c, r := l.lend(t)
		if err := all.add(t.Context(), l.env, c, r); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{claim: "", "env": "A='b'\n", "lease-X.json": "{"} {
		if _, err := l.dir.Write(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := claimFolder(l.dir.path, disk.Private, func(left Folder) { left.endLeft(t.Context(), l.env) })
	if err != nil || got != l.dir {
		t.Fatalf("got %v, %v", got, err)
	}
	l.checkEnded(t, 3)
	if want := "oidc-dbt: warning: end the leases of the previous run: read lease-X.json: the file is corrupt\n"; said.String() != want {
		t.Errorf("it says %q, want %q", said.String(), want)
	}
	entries, err := os.ReadDir(l.dir.path)
	if err != nil || len(entries) != 1 || entries[0].Name() != claim {
		t.Errorf("the folder has %v, %v", entries, err)
	}
}

// TestKeptLeaseNamesItsFiles: post shows the server the same certificate, and
// the disk has paths only.
func TestKeptLeaseNamesItsFiles(t *testing.T) {
	t.Parallel()
	dir := Folder{path: t.TempDir()}
	kept := credential.Lease{Provider: "vault", Address: "https://vault.acme.example", ClientCert: "/etc/client.pem", ClientKey: "/etc/client.key", Token: secret.New("hvs.0")}
	if err := dir.keep(&lease{Lease: kept, run: audit.Run{ID: "0123", Provider: "vault"}}); err != nil {
		t.Fatal(err)
	}
	all, err := dir.kept(Env{Transport: web.NewTransport()})
	if err != nil || len(all.list) != 1 {
		t.Fatalf("kept are %d leases, %v", len(all.list), err)
	}
	if got := all.list[0].Lease; got.ClientCert != kept.ClientCert || got.ClientKey != kept.ClientKey {
		t.Errorf("the files are %q and %q", got.ClientCert, got.ClientKey)
	}
}
