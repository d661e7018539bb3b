//go:build e2e && hours && linux && amd64

// Package hours has runs that take longer than an hour of real time, with the
// shortest lives that the servers grant, and a run whose clock is set meanwhile.
// `.ci/nightly hours` runs them.
package hours

import (
	"encoding/json"
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

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }

// longer is more than an hour, which is what tokens of clouds live.
const longer = 65 * time.Minute

// again builds until an hour has passed. The first build that fails ends it.
const again = `began=$(date +%s) n=0
while [ $(($(date +%s) - began)) -lt "$1" ]; do
  n=$((n + 1))
  dbt --no-use-colors build --vars "{build: $n}" >build.log 2>&1 || { echo "build $n:"; cat build.log; exit 1; }
  sleep 15
done
echo "builds: $n"
`

// lent is a project whose target logs in at PostgreSQL as users that OpenBao
// lends for ttl, and extends up to most. What they build belongs to a role that
// stays, since each is dropped at the end of its lease.
func lent(t *testing.T, issuer *standin.Issuer, ttl, most time.Duration) (workspace string, gone func()) {
	t.Helper()
	bao, server := setup.OpenBao(t), setup.Postgres(t, true)
	bao.TrustIssuer(t, issuer)
	server.SQL(t, "create role dbt; grant create on database postgres to dbt")
	workspace = setup.Project(t, issuer, fmt.Sprintf("{type: postgres, host: %q, port: %d, database: postgres, schema: marts, threads: 2, sslmode: verify-full, sslrootcert: %q}",
		server.Host, server.Port, server.CA), bao.Lend(t, server, ttl, most, `grant dbt to "{{name}}"`, `alter role "{{name}}" set role dbt`))
	return workspace, func() { bao.Gone(t, server) }
}

// outcomes counts what an audit log says that was issued and renewed.
func outcomes(t *testing.T, path string) (issued, renewed int) {
	t.Helper()
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(log), `"outcome":"issued"`), strings.Count(string(log), `"outcome":"renewed"`)
}

// TestExec: leases of a minute, which OpenBao extends to five.
func TestExec(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	workspace, gone := lent(t, issuer, time.Minute, 5*time.Minute)
	audit := filepath.Join(t.TempDir(), "audit.jsonl")
	cmd := setup.ExecCommand(t.Context(), t, issuer, workspace, []string{"--audit-log", audit},
		"sh", "-c", again, "sh", fmt.Sprint(int(longer.Seconds())))
	cmd.Env = append(cmd.Env, "PATH="+setup.Python(t).Bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "builds: ") {
		t.Fatalf("exec: %v\n%s", err, out)
	}
	setup.NoSecrets(t, issuer, "what exec and dbt print", string(out))
	issued, renewed := outcomes(t, audit)
	t.Logf("%d users were lent, and extended %d times; %s", issued, renewed, out[strings.LastIndex(string(out), "builds: "):])
	if issued < 13 || renewed < 40 {
		t.Errorf("%d users and %d extensions in %s, want 13 and 40 at least", issued, renewed, longer)
	}
	gone()
}

// TestServe: sessions of MinIO's shortest life, a quarter of an hour, for
// processes next to serve.
func TestServe(t *testing.T) {
	t.Parallel()
	workspace, issuer := stored(t)
	dir := t.TempDir()
	audit, ready := filepath.Join(dir, "audit.jsonl"), filepath.Join(dir, "ready.json")
	serve := exec.Command(setup.Binary(t), "serve", "--target", "prod", "--audit-log", audit, "--ready-file", ready)
	serve.Dir, serve.Env = workspace, setup.Python(t).Environ()
	for name, value := range issuer.RunnerEnv() {
		serve.Env = append(serve.Env, name+"="+value)
	}
	var is struct {
		Env string `json:"env"`
	}
	setup.StartCommand(t, serve, func() error {
		text, err := os.ReadFile(ready)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &is)
	})
	client := exec.Command("sh", "-c", `set -a; . "$2"; set +a`+"\n"+again, "sh", fmt.Sprint(int(longer.Seconds())), is.Env)
	client.Dir, client.Env = workspace, append(setup.Python(t).Environ(), "PATH="+setup.Python(t).Bin+":"+os.Getenv("PATH"))
	out, err := client.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "builds: ") {
		t.Fatalf("builds next to serve: %v\n%s", err, out)
	}
	setup.NoSecrets(t, issuer, "what dbt prints", string(out))
	issued, _ := outcomes(t, audit)
	t.Logf("%d sessions; %s", issued, out[strings.LastIndex(string(out), "builds: "):])
	if issued < 5 {
		t.Errorf("%d sessions in %s, want 5 at least", issued, longer)
	}
}

// stored is a project that writes its rows to MinIO and reads them back.
func stored(t *testing.T) (workspace string, issuer *standin.Issuer) {
	t.Helper()
	server, issuer := setup.Lake(t)
	address := strings.TrimPrefix(server.URL, "http://")
	workspace = setup.Project(t, issuer,
		fmt.Sprintf(`{type: duckdb, path: shop.duckdb, schema: main, secrets: [{type: s3, endpoint: %q, url_style: path, use_ssl: false}]}`, address),
		fmt.Sprintf(`{aws: {role: "arn:aws:iam::123456789012:role/ignored", region: us-east-1, endpoint: %q}}`, server.URL))
	const policy = ".github/oidc-dbt.yml"
	text, err := os.ReadFile(filepath.Join(workspace, policy))
	if err != nil {
		t.Fatal(err)
	}
	setup.Write(t, workspace, policy, strings.Replace(string(text), "    exchange:", "    lifetime: 15m\n    exchange:", 1))
	setup.Write(t, workspace, "models/orders.sql", "{{ config(materialized='external', location='s3://lake/orders-' ~ var('build', 0) ~ '.parquet') }}\nselect * from {{ ref('raw_orders') }}\n")
	setup.Write(t, workspace, "models/read_back.sql", "-- depends_on: {{ ref('orders') }}\nselect count(*) as orders from read_parquet('s3://lake/orders-{{ var('build', 0) }}.parquet')\n")
	return workspace, issuer
}
