package setup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// slowModels adds branches to the project, each a chain of models that sleep for
// so long. dbt logs in again for each. It returns what dbt prints when all are
// built.
func slowModels(t testing.TB, workspace string, branches, length int, sleep time.Duration) (want string) {
	t.Helper()
	for b := range branches {
		before := "customers"
		for i := range length {
			name := fmt.Sprintf("slow_%d_%d", b, i)
			Write(t, workspace, "models/"+name+".sql",
				"-- depends_on: {{ ref('"+before+"') }}\n{{ config(materialized='table') }}\nselect 1 as one from pg_sleep("+
					fmt.Sprint(sleep.Seconds())+")\n")
			before = name
		}
	}
	return fmt.Sprintf("PASS=%d WARN=0 ERROR=0", 3+length*branches)
}

// OutlivePostgres builds slow projects at a server that speaks PostgreSQL's
// protocol, with a broker, with 1 thread and with 8. The announced lifetime of a
// credential is life; each of three models takes as long, so that each login
// needs another credential. Each project has its schema. env is added to the
// commands' environment ("NAME=value").
func OutlivePostgres(t *testing.T, issuer *standin.Issuer, life time.Duration,
	project func(schema string) (workspace string), env ...string) {
	t.Helper()
	dbt := Python(t).Program("dbt")
	for _, threads := range Threads() {
		t.Run(fmt.Sprintf("threads %d", threads), func(t *testing.T) {
			t.Parallel()
			workspace, audit := project(fmt.Sprintf("threads_%d", threads)), filepath.Join(t.TempDir(), "audit.jsonl")
			want := slowModels(t, workspace, threads, 3, life)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			cmd := ExecCommand(ctx, t, issuer, workspace, []string{"--audit-log", audit}, dbt, "--no-use-colors", "build",
				"--threads", fmt.Sprint(threads))
			cmd.Env = append(cmd.Env, env...)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) {
				t.Fatalf("dbt build: %v, want %s\n%s", err, want, out)
			}
			NoSecrets(t, issuer, "what exec and dbt print", string(out))
			log, err := os.ReadFile(audit)
			if n := strings.Count(string(log), `"outcome":"issued"`) + strings.Count(string(log), `"outcome":"renewed"`); err != nil || n < 3 {
				t.Errorf("the run had %d credentials or renewals, want 3 at least: %v\n%s", n, err, log)
			}
		})
	}
}

// ExpirePostgres builds such a project without a broker. Its first model takes
// as long as a login is accepted: the next login must fail with the message
// refusal.
func ExpirePostgres(t *testing.T, issuer *standin.Issuer, taken time.Duration,
	project func(schema string) (workspace string), refusal string, env ...string) {
	t.Helper()
	t.Run("without the broker", func(t *testing.T) {
		t.Parallel()
		workspace := project("alone")
		slowModels(t, workspace, 1, 2, taken)
		vars, _ := Authenticate(t, issuer, workspace)
		for _, v := range env {
			name, value, _ := strings.Cut(v, "=")
			vars[name] = value
		}
		out, err := DBT(t, Python(t), workspace, vars, "build")
		if err == nil || !strings.Contains(out, refusal) {
			t.Errorf("dbt build: %v, want %q\n%s", err, refusal, out)
		}
	})
}
