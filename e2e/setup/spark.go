package setup

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
)

// A SparkHome is Spark with dbt-spark in an environment of its own: dbt-databricks, which the other tests have, needs
// an older dbt-spark, whose method thrift cannot log in over TLS.
type SparkHome struct {
	Python pyenv.Python
	Home   string // Spark's folder
	Java   string // JAVA_HOME
}

// Spark returns Spark 4.2.
func Spark(t testing.TB) SparkHome {
	t.Helper()
	python := Environment(t, "spark", "")
	homes, err := filepath.Glob(filepath.Join(filepath.Dir(python.Bin), "lib", "python3.*", "site-packages", "pyspark"))
	if err != nil || len(homes) != 1 {
		t.Fatalf("folders of Spark: %q, %v", homes, err)
	}
	// Spark's launcher asks for an incubating module, which this runtime of Java does not have.
	java := t.TempDir()
	program := Write(t, java, "bin/java", fmt.Sprintf(`#!/bin/sh
for a; do shift; [ "$a" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$a"; done
exec '%s' "$@"
`, Java(t)))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	return SparkHome{Python: python, Home: homes[0], Java: java}
}

// Environ returns the variables by which Spark's programs find themselves, Java and their configuration.
func (s SparkHome) Environ(configuration string) []string {
	return []string{
		"SPARK_HOME=" + s.Home, "JAVA_HOME=" + s.Java, "SPARK_CONF_DIR=" + configuration, "SPARK_LOCAL_IP=127.0.0.1",
		"PYSPARK_PYTHON=" + s.Python.Program("python"),
	}
}
