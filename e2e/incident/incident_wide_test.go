//go:build e2e && linux && amd64 && wide

package incident

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// scope runs the page's query over a run's records.
func (n *night) scope(audit string, want ...string) {
	n.t.Helper()
	setup.Write(n.t, n.desk, "audit.jsonl", audit)
	out, err := n.shell(n.block("sh", "audit.jsonl"))
	if err != nil {
		n.t.Fatalf("the query: %v\n%s", err, out)
	}
	for _, text := range want {
		if strings.Count(out, "\n") != 1 || !strings.Contains(out, text) {
			n.t.Errorf("want one line with %q, got:\n%s", text, out)
		}
	}
}

// trustOf is the trust policy that trust generate prints for a policy.
func trustOf(t *testing.T, issuer *standin.Issuer) string {
	t.Helper()
	dir := t.TempDir()
	file := setup.Write(t, dir, "policy.yml", setup.Policy(issuer, "{type: duckdb, path: shop.duckdb, schema: main}",
		fmt.Sprintf("{aws: {role: %q, region: eu-central-1}}", setup.Role)))
	out, err := exec.Command(setup.Binary(t), "trust", "generate", "--policy", file, "--out", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("trust generate: %v\n%s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "prod.aws*.json"))
	if err != nil || len(found) == 0 {
		t.Fatalf("trust generate wrote no trust policy:\n%s", out)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestIncidentAtAWS: the role's trust is generated, a job builds, and then the night comes. AWS's own command line runs
// the script against the account; the store refuses the session that was issued before.
func TestIncidentAtAWS(t *testing.T) {
	t.Parallel()
	issuer := setup.Issuer(t)
	sts, err := standin.StartSTS(standin.STSConfig{IssuerURL: issuer.URL(), Roles: map[string]standin.Role{
		setup.Role: {Audience: "sts.amazonaws.com", Trust: trustOf(t, issuer)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sts.Close)
	store, err := standin.StartStore(sts, "lake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	iam, err := standin.StartIAM(sts, "123456789012")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(iam.Close)
	workspace := setup.Project(
		t,
		issuer,
		fmt.Sprintf(
			`{type: duckdb, path: shop.duckdb, schema: main, secrets: [{type: s3, endpoint: %q, url_style: path, use_ssl: false}]}`,
			store.Host(),
		),
		fmt.Sprintf(`{aws: {role: %q, region: eu-central-1, endpoint: %q}}`, setup.Role, sts.URL()),
	)
	setup.Write(
		t,
		workspace,
		"models/orders.sql",
		"{{ config(materialized='external', location='s3://lake/orders.parquet') }}\nselect * from {{ ref('raw_orders') }}\n",
	)
	n := newNight(t, issuer, workspace, iam.Env()...)
	n.env = append(n.env, "PATH="+tools(t).Bin+":"+filepath.Dir(setup.Binary(t))+":"+os.Getenv("PATH"))
	build := func(env map[string]string) (string, error) {
		return setup.DBT(t, setup.Python(t), workspace, env, "build")
	}

	env, _ := setup.Authenticate(t, issuer, workspace)
	if out, err := build(env); err != nil {
		t.Fatalf("before the night: %v\n%s", err, out)
	}
	step, _, audit := n.job()
	n.denied()
	if out, err := build(env); err != nil {
		t.Errorf("a rule of deny must not end what was issued before: %v\n%s", err, out)
	}
	before := store.Served(http.MethodPut)
	for range 2 { // it may be run again
		if out := n.revoke(); !strings.Contains(out, setup.Subject) || !strings.Contains(out, "# 4. Prove it") {
			t.Errorf("the output does not prove it:\n%s", out)
		}
	}
	if out, err := build(env); err == nil || !strings.Contains(out, "403") {
		t.Errorf("the session from before: %v\n%s", err, out)
	}
	n.scope(
		audit,
		"arn:aws:sts::123456789012:assumed-role/dbt-prod/acme-analytics@16055869479-1",
		"\tprod\t16055869479\t",
	)
	n.around()
	if step, log, _ := n.job(); step.Status != 6 || !strings.Contains(log, "AccessDenied") ||
		store.Served(http.MethodPut) != before {
		t.Errorf(
			"a job that goes around the policy ends with status %d, and %d objects are written:\n%s",
			step.Status,
			store.Served(http.MethodPut)-before,
			log,
		)
	}
	if out := n.revoke(); !strings.Contains(out, `"errorCode":"AccessDenied"`) {
		t.Errorf("CloudTrail does not have the refusal:\n%s", out)
	}

	if out, err := n.shell("bash revoke.sh undo"); err != nil {
		t.Fatalf("undo: %v\n%s", err, out)
	}
	after, _ := setup.Authenticate(t, issuer, workspace)
	if out, err := build(after); err != nil {
		t.Errorf("after it is undone: %v\n%s", err, out)
	}
	if out, err := build(env); err == nil {
		t.Errorf("the session from before works again:\n%s", out)
	}
	setup.NoSecrets(t, issuer, "the first step's summary", step.Summary)
}
