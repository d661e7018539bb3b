//go:build e2e

package sso

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// roleLife is the life of the role's credentials; a permission set's are an hour or more.
const roleLife = 3 * time.Second

// TestBuild: an engineer who has signed in at IAM Identity Center builds a
// project whose models are in S3, by the role's own credentials: they are
// renewed several times, and the record says who it was.
func TestBuild(t *testing.T) {
	t.Parallel()
	var store *standin.Store
	var sts *standin.STS
	d := sitWith(t, "", standin.SSOConfig{RoleLife: roleLife}, func(of *standin.STS) string {
		var err error
		sts = of
		if store, err = standin.StartStore(sts, "lake"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		return fmt.Sprintf("    dbt: {type: duckdb, path: shop.duckdb, schema: dev, threads: 1, "+
			"secrets: [{type: s3, endpoint: %q, url_style: path, use_ssl: false}]}\n    exchange: {login: {}}\n", store.Host())
	})
	sts.SetGrace(standin.Grace)
	d.slow(3)
	d.command("approved", "approve", "--yes")
	d.command("the login is kept in the AWS CLI's cache", "login")

	audit := filepath.Join(t.TempDir(), "audit.jsonl")
	cmd := exec.Command(setup.Binary(t), "exec", "--target", "dev", "--audit-log", audit, "--",
		setup.Python(t).Program("dbt"), "--no-use-colors", "build")
	cmd.Dir, cmd.Env = d.workspace, d.env
	text, err := cmd.CombinedOutput()
	if want := "PASS=7 WARN=0 ERROR=0"; err != nil || !strings.Contains(string(text), want) {
		t.Fatalf("dbt build: %v, want %s\n%s", err, want, text)
	}
	if store.Used() < 3 || store.Refused() > 0 {
		t.Errorf("the store served %d sessions and refused %d requests, want 3 sessions at least, and none", store.Used(), store.Refused())
	}
	log, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	d.recorded(string(log), store)
	for _, s := range sts.Sessions() {
		for _, secret := range append(d.sso.Secrets(), s.SecretAccessKey, s.SessionToken) {
			if strings.Contains(string(text), secret) || strings.Contains(string(log), secret) {
				t.Error("a secret is in the output or in the audit log")
			}
		}
	}
}

// slow writes a project of a seed and files in S3, between which it sleeps for
// the life of the role's credentials.
func (d *desk) slow(files int) {
	d.t.Helper()
	if err := os.Symlink(filepath.Join(setup.Python(d.t).Home, ".duckdb"), filepath.Join(d.home, ".duckdb")); err != nil { // DuckDB's extensions
		d.t.Fatal(err)
	}
	setup.Write(d.t, d.workspace, "dbt_project.yml", "name: shop\nversion: \"1.0\"\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n")
	setup.Write(d.t, d.workspace, "seeds/orders.csv", "customer\nada\ngrace\n")
	before := "orders"
	for n := range files {
		file, wait := fmt.Sprintf("file_%d", n), fmt.Sprintf("wait_%d", n)
		setup.Write(d.t, d.workspace, "models/"+file+".sql", fmt.Sprintf("-- depends_on: {{ ref('%s') }}\n"+
			"{{ config(materialized='external', location='s3://lake/%s.parquet') }}\nselect * from {{ ref('orders') }}\n", before, file))
		setup.Write(d.t, d.workspace, "models/"+wait+".py", fmt.Sprintf("import time\n\ndef model(dbt, session):\n"+
			"    dbt.config(materialized='table')\n    dbt.ref('%s')\n    time.sleep(%d)\n    return session.sql('select 1 as one')\n",
			file, roleLife/time.Second))
		before = wait
	}
}

// recorded holds the audit log to the person, and its sessions to those that the store saw.
func (d *desk) recorded(log string, store *standin.Store) {
	d.t.Helper()
	var keys []string
	for line := range strings.Lines(log) {
		var r struct {
			Unmapped struct {
				Outcome   string         `json:"outcome"`
				Identity  string         `json:"identity"`
				Claims    map[string]any `json:"claims"`
				Warehouse struct {
					Session string `json:"session"`
					Key     string `json:"access_key_id"`
				} `json:"warehouse_key"`
			} `json:"unmapped"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			d.t.Fatal(err)
		}
		u := r.Unmapped
		if user := u.Claims["https://sts.amazonaws.com/>identity_store_user_id"]; user != "93a4b822" || u.Identity != "sso" {
			d.t.Errorf("a record is of %q, %q, want the person's id in the identity store\n%s", u.Identity, user, line)
		}
		if u.Outcome != "issued" {
			continue
		}
		if u.Warehouse.Session != session {
			d.t.Errorf("a record has session %q, want %q", u.Warehouse.Session, session)
		}
		keys = append(keys, u.Warehouse.Key)
	}
	used := 0
	for _, key := range keys {
		if store.UsedKey(key) > 0 {
			used++
		}
	}
	if slices.Sort(keys); used != store.Used() || len(slices.Compact(keys)) != len(keys) {
		d.t.Errorf("the records have the keys %q, of which the store saw %d, want each once, and all %d", keys, used, store.Used())
	}
}
