//go:build e2e && spark

// Package spark runs dbt builds at a real Spark Thrift server, which has LDAP verify user and password.
package spark

import (
	"os"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/e2e/setup"
)

func TestMain(m *testing.M) { os.Exit(setup.Main(m)) }
