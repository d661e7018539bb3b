//go:build e2e && spark && linux

package spark

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

func reachable(address string) error {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	return err
}

// A thriftServer is Spark's Thrift server on loopback, over TLS.
type thriftServer struct {
	port int
	log  string // the path of its log
}

// startThrift starts a server that has LDAP check user and password.
func startThrift(t *testing.T, spark setup.SparkHome, ldap string) *thriftServer {
	t.Helper()
	dir := t.TempDir()
	s := &thriftServer{port: setup.Port(t), log: filepath.Join(dir, "spark.log")}
	_, certificate := setup.Certificate(t)
	store := filepath.Join(dir, "server.p12")
	pack := exec.Command(setup.Python(t).Program("python"), "-I", "-c", `import sys
from cryptography import x509
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.serialization import pkcs12
pem = open(sys.argv[1], "rb").read()
key, certificate = s.load_pem_private_key(pem, None), x509.load_pem_x509_certificate(pem)
packed = pkcs12.serialize_key_and_certificates(b"spark", key, certificate, None, s.BestAvailableEncryption(b"changeit"))
open(sys.argv[2], "wb").write(packed)
`, certificate, store)
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("pack the certificate: %v\n%s", err, out)
	}
	setup.Write(t, dir, "conf/log4j2.properties", fmt.Sprintf("rootLogger.level = info\nrootLogger.appenderRef.file.ref = file\n"+
		"appender.file.type = File\nappender.file.name = file\nappender.file.fileName = %s\n"+
		"appender.file.layout.type = PatternLayout\nappender.file.layout.pattern = %%d %%p %%c: %%m%%n%%ex\n", s.log))
	setup.Write(t, dir, "conf/spark-defaults.conf", strings.ReplaceAll(`spark.master local[2]
spark.driver.host 127.0.0.1
spark.driver.bindAddress 127.0.0.1
spark.ui.enabled false
spark.local.dir DIR
spark.sql.shuffle.partitions 1
spark.sql.warehouse.dir DIR/warehouse
`, "DIR", dir))
	// The LDAP check reads only this file, not Spark's own settings.
	hive := &strings.Builder{}
	for name, value := range map[string]string{
		"hive.exec.scratchdir":                    filepath.Join(dir, "scratch"),
		"hive.server2.authentication":             "LDAP",
		"hive.server2.authentication.ldap.baseDN": people,
		"hive.server2.authentication.ldap.url":    ldap,
		"hive.server2.keystore.password":          "changeit",
		"hive.server2.keystore.path":              store,
		"hive.server2.logging.operation.enabled":  "false",
		"hive.server2.thrift.bind.host":           "127.0.0.1",
		"hive.server2.thrift.port":                fmt.Sprint(s.port),
		"hive.server2.use.SSL":                    "true",
		"javax.jdo.option.ConnectionURL":          "jdbc:derby:memory:metastore;create=true",
	} {
		fmt.Fprintf(hive, "<property><name>%s</name><value>%s</value></property>\n", name, value)
	}
	setup.Write(t, dir, "conf/hive-site.xml", "<configuration>\n"+hive.String()+"</configuration>\n")
	cmd := exec.Command(filepath.Join(spark.Home, "bin", "spark-class"), "org.apache.spark.deploy.SparkSubmit",
		"--driver-java-options", "-Djava.io.tmpdir="+dir+" -XX:TieredStopAtLevel=1",
		"--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2", "spark-internal")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), spark.Environ(filepath.Join(dir, "conf"))...)
	setup.StartCommand(t, cmd, func() error { return reachable(fmt.Sprintf("127.0.0.1:%d", s.port)) })
	t.Cleanup(func() {
		if text, _ := os.ReadFile(s.log); t.Failed() {
			t.Logf("Spark's log ends:\n%s", text[max(0, len(text)-10_000):])
		}
	})
	return s
}

// refusals counts the logins that the server has refused.
func (s *thriftServer) refusals(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "Error validating LDAP user")
}

// shop is the usual project, with a model of each kind that Spark's own tables have.
func (s *thriftServer) shop(t *testing.T, issuer *standin.Issuer, schema, exchange string) (workspace string) {
	t.Helper()
	workspace = setup.Project(t, issuer, fmt.Sprintf(`{type: spark, method: thrift, host: 127.0.0.1, port: %d, use_ssl: true, schema: %s}`,
		s.port, schema), exchange)
	setup.Write(t, workspace, "models/orders.sql", "{{ config(materialized='table', file_format='parquet') }}\nselect * from {{ ref('raw_orders') }}\n")
	setup.Write(t, workspace, "models/growing.sql",
		"{{ config(materialized='incremental', incremental_strategy='append', file_format='parquet') }}\nselect * from {{ ref('orders') }}\n"+
			"{% if is_incremental() %}where order_id > (select max(order_id) from {{ this }}){% endif %}\n")
	setup.Write(t, workspace, "tests/grows_once.sql", "select count(*) as n from {{ ref('growing') }} having count(*) <> 3\n")
	return workspace
}

// TestBuildOutlivesLeases: dbt builds at a Spark that has a directory check the users that OpenBao makes there.
func TestBuildOutlivesLeases(t *testing.T) {
	t.Parallel()
	const life = 10 * time.Second
	spark, ldap, issuer := setup.Spark(t), startDirectory(t), setup.Issuer(t)
	s := startThrift(t, spark, ldap.url)
	exchange := ldap.lend(t, issuer, life)
	workspace := s.shop(t, issuer, "marts", exchange)
	dbt := spark.Python.Program("dbt") + " --no-use-colors build"
	const keep = `; status=$?; cp "$DBT_PROFILES_DIR/profiles.yml" kept/; printf %s "$DBT_ENV_SECRET_OIDC_PASSWORD" >kept/password; exit $status`
	setup.Write(t, workspace, "kept/none", "")

	// Each build logs in several times; between them the lease would have ended twice.
	out, err := setup.Exec(t, issuer, workspace, nil, "sh", "-c", dbt+" && sleep 22 && "+dbt+keep)
	if err != nil || strings.Count(out, "PASS=6 WARN=0 ERROR=0") != 2 || s.refusals(t) > 0 {
		t.Fatalf("exec: %v, %d refused:\n%s", err, s.refusals(t), out)
	}
	setup.NoSecrets(t, issuer, "what exec and dbt print", out)
	password, err := os.ReadFile(filepath.Join(workspace, "kept", "password"))
	if err != nil || strings.Contains(out, string(password)) {
		t.Errorf("the password is in the output, or not there: %v", err)
	}
	ldap.gone(t)
	kept := map[string]string{"DBT_PROFILES_DIR": filepath.Join(workspace, "kept"), "DBT_ENV_SECRET_OIDC_PASSWORD": string(password)}
	s.refuses(t, spark, workspace, kept, "the login of a run that has ended")

	// Without the broker the login works until the lease ends.
	env, _ := setup.Authenticate(t, issuer, workspace)
	lent := ldap.users(t)
	if len(lent) != 1 || !strings.HasPrefix(lent[0], "v_dbt_") {
		t.Fatalf("the directory has the users %q, want one that OpenBao made", lent)
	}
	wrong := map[string]string{}
	for name, value := range env {
		wrong[name] = value
	}
	wrong["DBT_ENV_SECRET_OIDC_PASSWORD"] = "another"
	s.refuses(t, spark, workspace, wrong, "another password")
	ldap.gone(t)
	s.refuses(t, spark, workspace, env, "a login whose lease has ended")
}

// refuses has the server refuse a login.
func (s *thriftServer) refuses(t *testing.T, spark setup.SparkHome, workspace string, env map[string]string, what string) {
	t.Helper()
	before := s.refusals(t)
	out, err := setup.DBT(t, spark.Python, workspace, env, "build")
	if err == nil || s.refusals(t) == before || strings.Contains(out, "PASS=") {
		t.Errorf("dbt with %s: %v, %d refused\n%s", what, err, s.refusals(t)-before, out)
	}
}
