//go:build e2e && linux && amd64

package incident

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

// TestIncidentAtOpenBao: a real OpenBao has created a database user for a job. Its own command line runs the script: the
// user is dropped, and the role that is gone lends no other, until it is undone.
func TestIncidentAtOpenBao(t *testing.T) {
	t.Parallel()
	bao, issuer, server := setup.OpenBao(t), setup.Issuer(t), setup.Postgres(t, true)
	bao.TrustIssuer(t, issuer)
	exchange := bao.Lend(t, server, time.Hour, 2*time.Hour)
	workspace := setup.Project(t, issuer, fmt.Sprintf(
		"{type: postgres, host: %q, port: %d, database: postgres, schema: public, threads: 1, sslmode: verify-full, sslrootcert: %q}",
		server.Host, server.Port, server.CA), exchange)
	bin := t.TempDir() // OpenBao has Vault's commands
	if err := os.Symlink(setup.Python(t).Program("bao"), filepath.Join(bin, "vault")); err != nil {
		t.Fatal(err)
	}
	n := newNight(t, issuer, workspace, "VAULT_TOKEN="+bao.Token, "BAO_TOKEN="+bao.Token,
		"PATH="+bin+":"+setup.Python(t).Bin+":"+filepath.Dir(setup.Binary(t))+":"+os.Getenv("PATH"))
	n.answers = "yes\nyes\n"
	users := func() [][]string { return server.SQL(t, "select rolname from pg_roles where rolname like 'v-%'") }

	_, step := setup.Authenticate(t, issuer, workspace)
	login := func() error {
		conn, err := server.Connect(t.Context(), step.Outputs["user"], step.Outputs["password"])
		if err == nil {
			err = conn.Close(t.Context())
		}
		return err
	}
	if err := login(); err != nil || len(users()) != 1 {
		t.Fatalf("before the night: %v, users %v", err, users())
	}
	n.denied()
	for range 2 { // it may be run again
		n.revoke()
	}
	bao.Gone(t, server)
	if err := login(); err == nil {
		t.Error("the user from before logs in")
	}
	n.around()
	if step, log, _ := n.job(); step.Status != 6 || len(users()) != 0 {
		t.Errorf("a job that goes around the policy ends with status %d, and the users are %v:\n%s", step.Status, users(), log)
	}
	if out, err := n.shell("bash revoke.sh undo"); err != nil {
		t.Fatalf("undo: %v\n%s", err, out)
	}
	if step, log, _ := n.job(); step.Status != 0 || !strings.HasPrefix(step.Outputs["user"], "v-") {
		t.Errorf("after it is undone a job ends with status %d:\n%s", step.Status, log)
	}
}
