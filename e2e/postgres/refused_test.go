//go:build e2e && linux && amd64

package postgres

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// sleeper adds a chain of n models that take two seconds each; dbt logs in again
// for each.
func sleeper(t *testing.T, workspace string, n int) (want string) {
	t.Helper()
	before := "customers"
	for i := range n {
		name := fmt.Sprintf("sleeps_%d", i)
		setup.Write(t, workspace, "models/"+name+".sql", "-- depends_on: {{ ref('"+before+"') }}\n{{ config(materialized='table') }}\nselect 1 as one from pg_sleep(2)\n")
		before = name
	}
	return fmt.Sprintf("PASS=%d WARN=0 ERROR=0", 3+n)
}

// A build is a dbt build with a broker.
type build struct {
	cmd   *exec.Cmd
	out   bytes.Buffer
	ended chan error
}

func startBuild(ctx context.Context, t *testing.T, issuer *standin.Issuer, workspace string) *build {
	t.Helper()
	b := &build{ended: make(chan error, 1)}
	b.cmd = setup.ExecCommand(ctx, t, issuer, workspace, []string{"--audit-log", filepath.Join(t.TempDir(), "audit.jsonl")}, setup.Python(t).Program("dbt"), "--no-use-colors", "build", "--threads", "1")
	b.cmd.Stdout, b.cmd.Stderr = &b.out, &b.out
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { b.ended <- b.cmd.Wait() }()
	return b
}

// until waits for a condition while dbt runs.
func (b *build) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for !is() {
		select {
		case err := <-b.ended:
			t.Fatalf("dbt ended before %s: %v\n%s", what, err, b.out.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

const sleeping = "select pid from pg_stat_activity where state = 'active' and query like '%pg_sleep(2)%' and pid <> pg_backend_pid()"

// TestRevokedLease: the lease is revoked while dbt runs. PostgreSQL refuses the
// next login, and the broker gets another user, once, with which the run goes on.
func TestRevokedLease(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
	trust(t, bao, issuer)
	lend(t, bao, server)
	workspace := leased(t, issuer, bao, server, "marts")
	want := sleeper(t, workspace, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	b := startBuild(ctx, t, issuer, workspace)
	b.until(t, "a statement that takes a while", func() bool { return len(server.SQL(t, sleeping)) > 0 })
	bao.Write(t, "sys/leases/revoke-prefix/database/creds/dbt-prod", map[string]any{"sync": true})
	err := <-b.ended
	out := b.out.String()
	if err != nil || !strings.Contains(out, want) {
		t.Fatalf("dbt build: %v, want %s\n%s", err, want, out)
	}
	if n := strings.Count(out, "the warehouse refused the credential, which should be valid until "); n != 1 {
		t.Errorf("told of %d refusals, want one\n%s", n, out)
	}
	if made := server.SQL(t, "select name from made"); len(made) != 2 {
		t.Errorf("the run had the users %v, want two", made)
	}
	bao.Gone(t, server)
}
