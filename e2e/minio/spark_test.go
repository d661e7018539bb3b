//go:build e2e && spark

package minio

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// sparkShop is the usual project for a Spark in dbt's process, whose tables are in the bucket. It returns the variables
// that Spark needs.
func sparkShop(t *testing.T, spark setup.SparkHome, address string, issuer *standin.Issuer) (dir string, env map[string]string) {
	t.Helper()
	dir = setup.Project(t, issuer,
		`{type: spark, method: session, host: NA, schema: marts, server_side_parameters: {spark.sql.warehouse.dir: "s3a://lake/warehouse"}}`,
		fmt.Sprintf(`{aws: {role: "arn:aws:iam::123456789012:role/ignored", region: us-east-1, endpoint: "http://%s"}}`, address))
	setup.Write(t, dir, "models/orders.sql", "{{ config(materialized='table', file_format='parquet') }}\nselect * from {{ ref('raw_orders') }}\n")
	setup.Write(t, dir, "models/growing.sql",
		"{{ config(materialized='incremental', incremental_strategy='append', file_format='parquet') }}\nselect * from {{ ref('orders') }}\n"+
			"{% if is_incremental() %}where order_id > (select max(order_id) from {{ this }}){% endif %}\n")
	setup.Write(t, dir, "tests/grows_once.sql", "select count(*) as n from {{ ref('growing') }} having count(*) <> 3\n")
	var jars []string
	for artifact, sum := range map[string]string{ // of the Hadoop in Spark 4.2
		"org.apache.hadoop:hadoop-aws:3.5.0":                                    "66bd9eefb938b1a1657487324b63c13df2d8b17164a1dd24e0ef37b905bc5baa",
		"software.amazon.s3.analyticsaccelerator:analyticsaccelerator-s3:1.3.1": "4959a9747cbb479c73c3ffbcd479bee5b014f8b2880994585a8693fb9d24675e",
		"software.amazon.awssdk:bundle:2.35.4":                                  "db4b55f24ad1b4e70f17eb1717a4de76a8dadc5a27d764be7c44ff67b2c1c677",
	} {
		jars = append(jars, setup.Jar(t, artifact, sum))
	}
	own := t.TempDir()
	// The policy may not say where the store is, so Spark's own configuration does.
	setup.Write(t, own, "spark-defaults.conf", strings.NewReplacer("DIR", own, "STORE", "http://"+address,
		"JARS", strings.Join(jars, string(filepath.ListSeparator))).Replace(`spark.master local[2]
spark.driver.host 127.0.0.1
spark.driver.bindAddress 127.0.0.1
spark.driver.extraClassPath JARS
spark.driver.extraJavaOptions -Djava.io.tmpdir=DIR -Dderby.system.home=DIR -XX:TieredStopAtLevel=1
spark.ui.enabled false
spark.local.dir DIR
spark.sql.shuffle.partitions 1
spark.hadoop.javax.jdo.option.ConnectionURL jdbc:derby:;databaseName=DIR/metastore;create=true
spark.hadoop.fs.s3a.endpoint STORE
spark.hadoop.fs.s3a.endpoint.region us-east-1
spark.hadoop.fs.s3a.path.style.access true
`))
	env = map[string]string{}
	for _, v := range spark.Environ(own) {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return dir, env
}

// inStore holds the store to the tables that a build of Spark writes.
func inStore(t *testing.T, data string) {
	t.Helper()
	for _, table := range []string{"raw_orders", "orders", "growing"} {
		files, err := filepath.Glob(filepath.Join(data, "lake", "warehouse", "marts.db", table, "part-*"))
		if err != nil || len(files) == 0 {
			t.Errorf("the store has no file of the table %s: %v", table, err)
		}
	}
}

const sparkBuilt = "PASS=6 WARN=0 ERROR=0"

// TestSpark: Spark in dbt's process reads and writes the store by the session of the run.
func TestSpark(t *testing.T) {
	t.Parallel()
	spark := setup.Spark(t)
	endpoint, data, issuer := start(t)
	dir, own := sparkShop(t, spark, strings.TrimPrefix(endpoint, "http://"), issuer)
	env, _ := setup.Authenticate(t, issuer, dir)
	for name, value := range own {
		env[name] = value
	}
	out := setup.Build(t, spark.Python, issuer, dir, env)
	if !strings.Contains(out, sparkBuilt) {
		t.Errorf("dbt build: want %s\n%s", sparkBuilt, out)
	}
	inStore(t, data)

	env["AWS_SESSION_TOKEN"] = "made-up"
	out, err := setup.DBT(t, spark.Python, dir, env, "build")
	if err == nil || !strings.Contains(out, "InvalidTokenId") && !strings.Contains(out, "Forbidden") {
		t.Errorf("dbt with a session token of its own: %v\n%s", err, out)
	}
}

// TestSparkOutlivesSessions: a build that outlives several sessions passes with the broker, and fails without it.
func TestSparkOutlivesSessions(t *testing.T) {
	t.Parallel()
	spark := setup.Spark(t)
	endpoint, data, issuer := start(t)
	t.Run("with the broker", func(t *testing.T) {
		t.Parallel()
		d, address := newGateway(t, endpoint, standin.Grace)
		dir, own := sparkShop(t, spark, address, issuer)
		audit := filepath.Join(t.TempDir(), "audit.jsonl")
		cmd := setup.ExecCommand(t.Context(), t, issuer, dir, []string{"--audit-log", audit}, spark.Python.Program("dbt"), "--no-use-colors", "build")
		for name, value := range own {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), sparkBuilt) {
			t.Fatalf("dbt build: %v, want %s\n%s", err, sparkBuilt, out)
		}
		setup.NoSecrets(t, issuer, "what exec and dbt print", string(out))
		inStore(t, data)
		if len(d.served) < 3 || d.refused > 0 {
			t.Errorf("the store served %d sessions and refused %d requests, want 3 sessions at least, and none", len(d.served), d.refused)
		}
		log, err := os.ReadFile(audit)
		if issued := strings.Count(string(log), `"outcome":"issued"`); err != nil || issued < len(d.served) {
			t.Errorf("the audit log has %d sessions, %d were used: %v\n%s", issued, len(d.served), err, log)
		}
	})
	t.Run("without the broker", func(t *testing.T) {
		t.Parallel()
		d, address := newGateway(t, endpoint, 0)
		dir, own := sparkShop(t, spark, address, issuer)
		env, _ := setup.Authenticate(t, issuer, dir)
		for name, value := range own {
			env[name] = value
		}
		time.Sleep(life)
		// S3A asks by HEAD, whose reply has no body that would say that the session has expired.
		out, err := setup.DBT(t, spark.Python, dir, env, "build")
		if err == nil || !strings.Contains(out, "AWSBadRequestException") || d.refused == 0 {
			t.Errorf("dbt build: %v, %d refused, want a session that has expired\n%s", err, d.refused, out)
		}
	})
}
